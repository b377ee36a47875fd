"""The in-process store, by a clock of our own."""

import asyncio
from collections import OrderedDict

from hypothesis import given
from hypothesis import strategies as st

from gateway.stores.memory import MemoryStore
from tests.builders import FakeClock


async def test_the_least_recently_used_leaves_first_and_reading_is_using():
    store = MemoryStore(2, FakeClock())
    for key in ("a", "b"):
        await store.set(key, key.encode(), 60)
    assert await store.get("a") == b"a"
    await store.set("c", b"c", 60)
    assert [await store.get(key) for key in ("a", "b", "c")] == [b"a", None, b"c"]


async def test_writing_again_is_using_too_and_takes_no_second_place():
    store = MemoryStore(2, FakeClock())
    for key in ("a", "b", "a", "c"):
        await store.set(key, key.encode(), 60)
    assert [await store.get(key) for key in ("a", "b", "c")] == [b"a", None, b"c"]


async def test_a_value_dies_at_its_own_time_and_a_new_one_lives_anew():
    clock = FakeClock()
    store = MemoryStore(5, clock)
    await store.set("short", b"1", 1)
    await store.set("long", b"2", 10)
    clock.pass_s(1)
    assert [await store.get("short"), await store.get("long")] == [None, b"2"]
    await store.set("short", b"3", 1)
    assert await store.get("short") == b"3"


async def test_a_closed_store_has_forgotten_everything():
    store = MemoryStore(5, FakeClock())
    await store.set("a", b"1", 60)
    await store.close()
    assert await store.get("a") is None


KEYS = st.sampled_from("abcdef")
STEPS = st.lists(st.tuples(st.sampled_from(["get", "set", "wait"]), KEYS, st.integers(1, 5)), max_size=40)


@given(STEPS, st.integers(1, 4))
def test_whatever_is_asked_it_answers_as_a_simple_model_does_and_stays_within_its_bound(steps, size):
    async def play():
        clock = FakeClock()
        store, simple = MemoryStore(size, clock), OrderedDict()
        for verb, key, number in steps:
            if verb == "wait":
                clock.pass_s(number)
            elif verb == "set":
                await store.set(key, b"%d" % number, number)
                simple[key] = (clock.now_s + number, b"%d" % number)
                simple.move_to_end(key)
                if len(simple) > size:
                    simple.popitem(last=False)
            else:
                if key in simple and simple[key][0] <= clock.now_s:
                    del simple[key]
                assert await store.get(key) == (simple[key][1] if key in simple else None)
                if key in simple:
                    simple.move_to_end(key)
            assert len(store._entries) <= size

    asyncio.run(play())


async def test_the_bytes_of_all_values_are_bounded():
    store = MemoryStore(100, max_bytes=10)
    for key in "abc":
        await store.set(key, b"1234", 60)
    assert [await store.get(key) for key in "abc"] == [None, b"1234", b"1234"]
    await store.set("b", b"12345678", 60)
    assert [await store.get(key) for key in "bc"] == [b"12345678", None]
    await store.set("huge", b"x" * 11, 60)
    assert await store.get("huge") is None
