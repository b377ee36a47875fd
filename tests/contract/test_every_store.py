"""What every store promises; the Redis ones, the pipe and redis-py as its oracle, are asked on a real server."""

import asyncio
import os
import shutil
from contextlib import asynccontextmanager

import pytest

from gateway.core.secret import Secret
from gateway.settings.service import RedisSettings
from gateway.stores.memory import MemoryStore
from gateway.stores.pipe_store import PipeStore
from gateway.stores.redis_store import RedisStore
from gateway.stores.store import StoreUnavailableError
from gateway.stores.tally import Change, Tally
from tests.integration.redis_server import free_port


def need_redis():
    """Skip without a Redis server; in CI its absence is a failure."""
    if shutil.which("redis-server"):
        return
    if os.environ.get("CI") == "true":
        pytest.fail("redis-server is missing: install the Debian package redis-server")
    pytest.skip("needs the Debian package redis-server")


@asynccontextmanager
async def redis_server(folder):
    """A real server on a free port."""
    port = free_port()
    arguments = ["--port", str(port), "--save", "", "--dir", str(folder), "--bind", "127.0.0.1"]
    process = await asyncio.create_subprocess_exec("redis-server", *arguments, stdout=asyncio.subprocess.PIPE)
    try:
        async with asyncio.timeout(10):
            while b"Ready to accept connections" not in (line := await process.stdout.readline()):
                assert line, "redis-server did not start"
        yield port, process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


LINKS = {"pipe": ("", PipeStore), "pipe over RESP3": ("?protocol=3", PipeStore), "redis-py": ("", RedisStore)}

TIMEOUT_S = 5.0
"""Not the default, which is for clients who wait: a busy machine takes longer."""


def redis_store(port, kind):
    options, make = LINKS[kind]
    settings = RedisSettings(url=Secret(f"redis://127.0.0.1:{port}/0{options}"), timeout_s=TIMEOUT_S)
    return make(settings, lambda *_: None)


@pytest.fixture(params=["memory", *LINKS])
async def store(request, tmp_path):
    if request.param == "memory":
        found = MemoryStore(1000)
        yield found
        await found.close()
        return
    need_redis()
    async with redis_server(tmp_path) as (port, _):
        found = redis_store(port, request.param)
        yield found
        await found.close()


async def test_what_was_set_is_got_byte_by_byte_and_what_was_not_is_none(store):
    values = {"empty": b"", "zeros": b"\x00" * 10, "all": bytes(range(256)), "long": b"x" * 2_000_000, "é 😀": b"1"}
    for key, value in values.items():
        await store.set(key, value, 60)
    assert {key: await store.get(key) for key in values} == values
    assert await store.get("missing") is None


async def test_the_last_value_set_stands(store):
    await store.set("key", b"one", 60)
    await store.set("key", b"two", 60)
    assert await store.get("key") == b"two"


async def test_a_value_is_swapped_for_the_one_before_it_and_by_one_caller_only(store):
    assert await store.swap("key", b"\x00one", 60) is None
    assert await store.swap("key", b"two", 60) == b"\x00one"
    before = await asyncio.gather(*(store.swap("key", b"%d" % number, 60) for number in range(20)))
    assert sorted([*before, await store.get("key")]) == sorted([b"two", *(b"%d" % number for number in range(20))])
    await store.swap("key", b"short", 1)
    await asyncio.sleep(1.1)
    assert await store.get("key") is None


async def test_a_value_dies_after_its_time_to_live_and_not_before(store):
    await store.set("short", b"1", 1)
    await store.set("long", b"2", 60)
    assert await store.get("short") == b"1"
    await asyncio.sleep(1.1)
    assert [await store.get("short"), await store.get("long")] == [None, b"2"]


async def test_keys_that_begin_alike_are_apart(store):
    keys = ["a" * 64, "a" * 63 + "b", "a" * 20]
    for key in keys:
        await store.set(key, key.encode(), 60)
    assert [await store.get(key) for key in keys] == [key.encode() for key in keys]


async def test_many_callers_at_once_each_get_their_own(store):
    async def one(number):
        await store.set(f"key-{number}", b"%d" % number, 60)
        return await store.get(f"key-{number}")

    assert await asyncio.gather(*map(one, range(20))) == [b"%d" % number for number in range(20)]


async def test_a_cancelled_caller_never_leaves_its_answer_to_the_next(store):
    for number in range(30):
        await store.set(f"key-{number}", b"%d" % number, 60)
    for number in range(30):
        task = asyncio.create_task(store.get(f"key-{number}"))
        for _ in range(number % 5):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait({task})
        assert await store.get(f"key-{29 - number}") == b"%d" % (29 - number)


async def test_a_store_that_is_there_answers_a_ping(store):
    await store.ping()


async def test_closing_twice_harms_nobody(store):
    await store.close()
    await store.close()


@pytest.mark.parametrize("kind", LINKS)
async def test_a_redis_that_died_is_told_within_the_time_out_and_then_without_asking(tmp_path, kind):
    need_redis()
    async with redis_server(tmp_path) as (port, process):
        store = redis_store(port, kind)
        await store.set("key", b"1", 60)
        process.kill()
        await process.wait()
        loop = asyncio.get_running_loop()
        for _ in range(3):
            began_s = loop.time()
            with pytest.raises(StoreUnavailableError):
                await store.get("key")
            assert loop.time() - began_s < TIMEOUT_S
        with pytest.raises(StoreUnavailableError, match="not asked"):
            await store.get("key")
        await store.close()


async def test_values_set_together_are_each_got_and_each_die(store):
    values = {f"key-{number}": b"%d" % number for number in range(100)}
    await store.set("key-0", b"old", 60)
    await store.set_many(values, 1)
    assert {key: await store.get(key) for key in values} == values
    await asyncio.sleep(1.1)
    assert {await store.get(key) for key in values} == {None}


async def test_setting_nothing_harms_nobody(store):
    await store.set_many({}, 60)


async def test_a_tally_is_begun_once_and_changed_by_all(store):
    change = Change({1: 0.25, 1023: 1e-9}, 0.5, (-1.5, 3.0))
    assert await store.change_tally("t", change, 60) is None
    begun = Tally(tuple(float(number) for number in range(1024)), (2.5, 1e15))
    assert await store.begin_tally("t", begun, 60)
    assert not await store.begin_tally("t", Tally((1.0,), (0.0, 0.0)), 60)
    changed = await store.change_tally("t", change, 60)
    assert (len(changed.weights), changed.sums) == (1024, (1.0, 1e15 + 3))
    assert changed.weights[:3] == (0.0, 0.75, 1.0)
    assert changed.weights[1023] == 511.5 + 1e-9
    assert await store.change_tally("t", Change({}, 1.0, (0.0, 0.0)), 60) == changed


async def test_changes_at_the_same_time_are_all_in_the_tally(store):
    await store.begin_tally("t", Tally((0.0,) * 8, (0.0,)), 60)
    await asyncio.gather(*(store.change_tally("t", Change({n % 8: 1.0}, 1.0, (1.0,)), 60) for n in range(40)))
    assert await store.change_tally("t", Change({}, 1.0, (0.0,)), 60) == Tally((5.0,) * 8, (40.0,))


@pytest.mark.parametrize("junk", [b"junk", b"12345678"])
async def test_a_tally_that_cannot_be_read_is_as_none_and_can_be_begun_anew(store, junk):
    await store.set("t", junk, 60)
    assert await store.change_tally("t", Change({}, 1.0, (0.0,)), 60) is None
    assert await store.begin_tally("t", Tally((1.0,), (0.0,)), 60)


async def test_a_tally_dies_when_nobody_changes_it(store):
    await store.begin_tally("t", Tally((1.0,), (0.0,)), 1)
    await store.change_tally("t", Change({}, 1.0, (0.0,)), 1)
    await asyncio.sleep(1.1)
    assert await store.change_tally("t", Change({}, 1.0, (0.0,)), 1) is None
