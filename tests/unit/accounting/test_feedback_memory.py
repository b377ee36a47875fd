"""The memory of answers that feedback marks: whose they are, how long they last, and what a failing store costs."""

import asyncio

import msgspec
import pytest

from gateway.accounting import feedback
from gateway.accounting.feedback import Answered, AnswerMemory
from gateway.core.errors import FeedbackUnavailableError, NotFoundError
from gateway.settings.feedback import FeedbackSettings
from gateway.stores.memory import MemoryStore
from gateway.stores.store import StoreUnavailableError
from tests.builders import FakeClock


class CountingStore(MemoryStore):
    """A store that counts its calls, and can be away or slow."""

    def __init__(self, clock):
        super().__init__(10_000, clock)
        self.batches = []
        self.is_away = False
        self.gate = None
        self.called = asyncio.Event()

    async def get(self, key):
        self._check()
        return await super().get(key)

    async def set_many(self, values, ttl_s):
        self._check()
        self.batches.append(len(values))
        self.called.set()
        if self.gate is not None:
            await self.gate.wait()
        await super().set_many(values, ttl_s)

    def _check(self):
        if self.is_away:
            raise StoreUnavailableError("away")


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def store(clock):
    return CountingStore(clock)


@pytest.fixture
def failures():
    return []


@pytest.fixture
async def memory(store, failures, monkeypatch):
    monkeypatch.setattr(feedback, "GATHER_S", 0.001)
    found = AnswerMemory(store, FeedbackSettings(ttl_s=60), lambda: failures.append(1))
    yield found
    store.is_away = False
    await found.close()


def answered(request_id="req-1", tenant="client:alice", **facts):
    return Answered(**{"tenant": tenant, "request_id": request_id, "route": "auto", "model": "small", "tier": "weak",
                       "router": "default", "chance": 0.7, **facts})  # fmt: skip


async def test_an_answer_can_be_marked_by_the_tenant_that_got_it(memory):
    memory.remember(answered())
    marked = await memory.mark("client:alice", "req-1", 1.0)
    assert (marked.answered, marked.mark, marked.previous) == (answered(), 1.0, None)


@pytest.mark.parametrize(
    ("tenant", "request_id"), [("client:bob", "req-1"), ("client:alice", "req-2"), ("client:alice\nreq-1", "")]
)
async def test_nobody_else_can_mark_it_nor_learn_that_it_is_there(memory, tenant, request_id):
    memory.remember(answered())
    with pytest.raises(NotFoundError):
        await memory.mark(tenant, request_id, 1.0)


async def test_of_marks_at_the_same_time_one_is_the_first(memory, store, monkeypatch):
    memory.remember(answered())
    arrived, look_up = asyncio.Barrier(20), store.get

    async def get_together(key):
        found = await look_up(key)
        await arrived.wait()  # all have read before anyone writes
        return found

    async def swap(key, value, ttl_s):
        before = await look_up(key)
        await store.set(key, value, ttl_s)
        return before

    monkeypatch.setattr(store, "get", get_together)
    monkeypatch.setattr(store, "swap", swap)
    marked = await asyncio.gather(*(memory.mark("client:alice", "req-1", 1.0) for _ in range(20)))
    assert [each.previous for each in marked].count(None) == 1


async def test_a_second_mark_takes_the_place_of_the_first(memory):
    memory.remember(answered())
    found = [await memory.mark("client:alice", "req-1", mark) for mark in (1.0, 0.0, 0.5)]
    assert [each.previous for each in found] == [None, 1.0, 0.0]


async def test_the_same_id_from_two_tenants_means_two_answers(memory):
    memory.remember(answered(model="small"))
    memory.remember(answered(model="large", tenant="client:bob"))
    assert (await memory.mark("client:alice", "req-1", 1.0)).answered.model == "small"
    assert (await memory.mark("client:bob", "req-1", 1.0)).answered.model == "large"


async def test_an_id_used_again_means_the_last_answer_and_forgets_the_mark(memory):
    memory.remember(answered(model="small"))
    await memory.mark("client:alice", "req-1", 0.0)
    memory.remember(answered(model="large"))
    marked = await memory.mark("client:alice", "req-1", 1.0)
    assert (marked.answered.model, marked.previous) == ("large", None)


async def test_an_answer_too_long_ago_is_not_there(memory, clock):
    memory.remember(answered())
    await memory.mark("client:alice", "req-1", 1.0)
    clock.pass_s(61)
    with pytest.raises(NotFoundError):
        await memory.mark("client:alice", "req-1", 1.0)


async def test_answers_are_stored_together_and_behind_the_request(memory, store):
    for number in range(75):
        memory.remember(answered(f"req-{number}"))
    assert store.batches == []
    await memory.close()
    assert store.batches == [32, 32, 11]


async def test_a_mark_waits_for_an_answer_that_is_just_being_stored(memory, store):
    store.gate = asyncio.Event()
    memory.remember(answered())
    await store.called.wait()
    marking = asyncio.create_task(memory.mark("client:alice", "req-1", 1.0))
    await asyncio.sleep(0.01)
    assert not marking.done()
    store.gate.set()
    assert (await marking).mark == 1.0


async def test_a_close_stores_what_is_on_its_way(memory, store):
    store.gate = asyncio.Event()
    memory.remember(answered())
    await store.called.wait()
    memory.remember(answered("req-2"))
    closing = asyncio.create_task(memory.close())
    await asyncio.sleep(0.01)
    store.gate.set()
    await closing
    for request_id in ("req-1", "req-2"):
        assert (await memory.mark("client:alice", request_id, 1.0)).mark == 1.0


async def test_closing_a_memory_that_holds_nothing_asks_nothing(memory, store):
    await memory.close()
    assert store.batches == []


async def test_more_than_can_wait_are_forgotten_and_counted(memory, store, failures, monkeypatch):
    monkeypatch.setattr(feedback, "MAX_PENDING", 3)
    for number in range(5):
        memory.remember(answered(f"req-{number}"))
    assert failures == [1, 1]
    await memory.close()
    assert store.batches == [3]


async def test_a_store_that_is_away_costs_the_answers_but_not_what_comes_after(memory, store, failures):
    store.is_away = True
    memory.remember(answered())
    await memory.close()
    assert failures == [1]
    with pytest.raises(FeedbackUnavailableError):
        await memory.mark("client:alice", "req-1", 1.0)
    store.is_away = False
    memory.remember(answered("req-2"))
    assert (await memory.mark("client:alice", "req-2", 1.0)).mark == 1.0


@pytest.mark.parametrize("value", [b"", b"\xc1", msgspec.msgpack.encode(["no", "entry"])])
async def test_a_value_that_is_none_of_ours_is_no_answer(memory, store, value):
    memory.remember(answered())
    await memory.close()
    [key] = store._entries
    await store.set(key, value, 60)
    with pytest.raises(NotFoundError):
        await memory.mark("client:alice", "req-1", 1.0)


async def test_a_value_of_another_key_is_found_out(memory, store):
    memory.remember(answered(tenant="client:bob"))
    await memory.close()
    [value] = [value for _, value in store._entries.values()]
    memory.remember(answered())
    await memory.close()
    for key in list(store._entries):
        await store.set(key, value, 60)
    with pytest.raises(NotFoundError):
        await memory.mark("client:alice", "req-1", 1.0)
