"""Flights: what the fault tests can't see from outside."""

import asyncio

import pytest

from gateway.cache.flights import Flights
from gateway.core.context import Verdict
from gateway.core.reply import Reply, once, read_all
from gateway.schema.response import decode_answer
from tests import builders
from tests.builders import blocks_of, body, collect, raised_by

BLOCK = b"x" * 1000


class Upstream:
    """Sends blocks as they are let through, and notes what is finished."""

    def __init__(self, count):
        self.count = count
        self.calls = 0
        self.go = asyncio.Semaphore(0)
        self.finished = []

    async def start(self):
        self.calls += 1
        return Reply("small", is_streaming=True, blocks=self.blocks(), close=self.close)

    async def blocks(self):
        for _ in range(self.count):
            await self.go.acquire()
            yield BLOCK

    async def close(self):
        pass

    async def finish(self, reply, body):
        self.finished.append(body)

    def let_through(self, count):
        for _ in range(count):
            self.go.release()


async def take(reply, count):
    return [await anext(reply.blocks) for _ in range(count)]


async def test_an_answer_that_outgrows_its_bound_is_forgotten_as_it_is_read():
    flights, upstream = Flights(max_kept_bytes=5_000), Upstream(30)
    reply, _ = await flights.ride("key", upstream.start, upstream.finish)
    flight = flights._flights["key"]
    for _ in range(30):
        upstream.let_through(1)
        assert await take(reply, 1) == [BLOCK]
    assert len(flight._blocks) <= 6
    assert [block async for block in reply.blocks] == []
    await reply.close()
    await asyncio.sleep(0)
    assert upstream.finished == []


async def test_riders_aboard_get_all_of_an_answer_that_outgrows_its_bound_and_nobody_else_comes_aboard():
    flights, upstream = Flights(max_kept_bytes=2_000), Upstream(8)
    quick, _ = await flights.ride("key", upstream.start, upstream.finish)
    slow, is_shared = await flights.ride("key", upstream.start, upstream.finish)
    assert is_shared
    upstream.let_through(8)
    assert await take(quick, 8) == [BLOCK] * 8
    late, is_shared = await flights.ride("key", upstream.start, upstream.finish)
    assert not is_shared
    assert upstream.calls == 2
    assert [block async for block in slow.blocks] == [BLOCK] * 8
    for reply in (quick, slow, late):
        await reply.close()
    await flights.close()


async def test_an_answer_within_its_bound_is_finished_whole():
    flights, upstream = Flights(max_kept_bytes=5_000), Upstream(3)
    reply, _ = await flights.ride("key", upstream.start, upstream.finish)
    upstream.let_through(3)
    assert [block async for block in reply.blocks] == [BLOCK] * 3
    await reply.close()
    await asyncio.sleep(0)
    assert upstream.finished == [BLOCK * 3]


class Slow:
    """Blocks that may be waited for again by somebody else, as those of an HTTP answer."""

    def __init__(self):
        self.blocks = asyncio.Queue()
        self.reads = 0
        self.is_closed = False
        self._came = []

    def __aiter__(self):
        return self

    async def __anext__(self):
        self.reads += 1
        block = await self.blocks.get()
        if block is None:
            raise StopAsyncIteration
        if isinstance(block, Exception):
            raise block
        return block

    async def generator(self):
        try:
            async for block in self:
                yield block
        finally:
            self.is_closed = True

    def give(self, *blocks):
        for block in blocks:
            self.blocks.put_nowait(block)


class House:
    """Flights to one slow upstream, whose blocks are an iterator or a generator."""

    def __init__(self, *, is_generator=False, is_streaming=True):
        self.flights, self.source = Flights(), Slow()
        self.calls, self.closed, self.finished = 0, 0, []
        self.opening = asyncio.Event()
        self.opening.set()
        self._is_generator, self._is_streaming = is_generator, is_streaming

    async def start(self):
        self.calls += 1
        await self.opening.wait()
        blocks = self.source.generator() if self._is_generator else self.source
        return Reply("small", is_streaming=self._is_streaming, blocks=blocks, close=self.close)

    async def close(self):
        self.closed += 1

    async def finish(self, reply, body):
        self.finished.append(body)

    async def ride(self, **more):
        reply, _ = await self.flights.ride("key", self.start, self.finish, **more)
        return reply


async def settle():
    await asyncio.sleep(0.02)


EITHER = pytest.mark.parametrize("is_generator", [False, True], ids=["iterator", "generator"])


@EITHER
async def test_one_who_leaves_in_the_middle_of_a_read_disturbs_no_other_and_no_block_is_lost(is_generator):
    house = House(is_generator=is_generator)
    first, second = await house.ride(), await house.ride()
    house.source.give(b"1")
    assert [await anext(reply.blocks) for reply in (first, second)] == [b"1", b"1"]
    pulling, waiting = (asyncio.create_task(collect(reply)) for reply in (first, second))
    await settle()
    pulling.cancel()
    await settle()
    house.source.give(b"2", b"3", None)
    assert await waiting == b"23"
    await settle()
    assert (house.calls, house.closed, house.finished) == (1, 1, [b"123"])


@EITHER
async def test_when_the_last_one_leaves_in_the_middle_of_a_read_the_call_is_closed_and_nothing_is_left(is_generator):
    house = House(is_generator=is_generator)
    replies = [await house.ride() for _ in range(3)]
    reading = [asyncio.create_task(collect(reply)) for reply in replies]
    await settle()
    for task in reading[:-1]:
        task.cancel()
    await settle()
    assert house.closed == 0
    reading[-1].cancel()
    await settle()
    assert (house.closed, house.finished, house.source.is_closed) == (1, [], is_generator)
    assert (house.flights._flights, house.flights._under_way) == ({}, set())
    house.source.give(b"1", None)
    assert await collect(await house.ride()) == b"1"
    assert house.calls == 2


async def test_one_who_rides_alone_reads_without_a_task_between_and_only_as_fast_as_it_reads():
    house = House()
    reply = await house.ride()
    house.source.give(b"1", b"2", b"3")
    assert await anext(reply.blocks) == b"1"
    await settle()
    assert house.source.reads == 1
    assert asyncio.all_tasks() == {asyncio.current_task()}
    await reply.close()


@EITHER
async def test_several_riders_cause_one_read_a_block(is_generator):
    house = House(is_generator=is_generator)
    reading = [asyncio.create_task(collect(await house.ride())) for _ in range(3)]
    for block in (b"1", b"2", b"3", None):
        await settle()
        house.source.give(block)
    assert await asyncio.gather(*reading) == [b"123"] * 3
    assert house.source.reads == 4


@EITHER
async def test_a_failure_between_two_blocks_is_raised_to_all_and_nothing_is_finished(is_generator):
    house = House(is_generator=is_generator)
    replies = [await house.ride() for _ in range(2)]
    house.source.give(b"1", ValueError("gone"))
    raised = [await raised_by(collect(reply)) for reply in replies]
    assert [type(exc) for exc in raised] == [ValueError] * 2
    await settle()
    assert (house.closed, house.finished, house.flights._flights) == (1, [], {})


@pytest.mark.parametrize("is_streaming", [False, True])
async def test_one_who_leaves_before_the_answer_began_disturbs_no_other(is_streaming):
    house = House(is_streaming=is_streaming)
    house.opening.clear()
    leader, follower = (asyncio.create_task(house.ride()) for _ in range(2))
    await settle()
    leader.cancel()
    await settle()
    house.opening.set()
    house.source.give(b"1", None)
    reply = await follower
    assert await collect(reply) == b"1"
    assert reply.claim_bill()
    await settle()
    assert (house.calls, house.finished) == (1, [b"1"])


async def test_when_all_leave_before_the_answer_began_the_call_is_cancelled():
    house = House()
    house.opening.clear()
    riding = [asyncio.create_task(house.ride()) for _ in range(2)]
    await settle()
    for task in riding:
        task.cancel()
    await settle()
    assert all(task.cancelled() for task in riding)
    assert (house.flights._flights, house.flights._under_way) == ({}, set())


async def test_at_a_stop_those_still_waiting_for_an_answer_to_begin_are_let_go():
    house = House()
    house.opening.clear()
    riding = [asyncio.create_task(house.ride()) for _ in range(2)]
    await settle()
    await house.flights.close()
    await settle()
    assert all(task.cancelled() for task in riding)


async def test_an_answer_that_comes_whole_is_finished_though_nobody_reads_it():
    house = House(is_streaming=False)
    house.source.give(b"whole", None)
    reply = await house.ride()
    await settle()
    assert (house.closed, house.finished) == (1, [b"whole"])
    assert await collect(reply) == b"whole"


async def test_whoever_rides_is_told_all_that_the_upstream_told():
    told = {"attempts": 3, "is_fallback": True, "verdict": Verdict(0.5), "answer": decode_answer(body())}

    async def start():
        return builders.reply(model="large", **told)

    async def finish(reply, whole):
        pass

    reply, _ = await Flights().ride("key", start, finish)
    assert reply.model == "large"
    assert {name: getattr(reply, name) for name in told} == told


async def test_a_block_that_is_there_is_given_once():
    blocks = once(b"block")
    assert [block async for block in blocks] == [b"block"]
    assert [block async for block in blocks] == []
    assert await read_all(blocks) == b""


@pytest.mark.parametrize("blocks", [once(b"block"), blocks_of(b"bl", b"ock")], ids=["once", "generator"])
async def test_all_of_an_answer_is_read_as_one(blocks):
    assert await read_all(blocks) == b"block"


class Spring(Slow):
    """Blocks that can be poured too."""

    def __init__(self):
        super().__init__()
        self.takers = []

    async def pour(self, take):
        self.takers.append(take)
        try:
            while take(await anext(self)):
                pass
        finally:
            self.takers.remove(take)


def sprung():
    house = House()
    house.source = Spring()
    return house


async def poured_into(reply, taken):
    await reply.blocks.pour(lambda block: taken.append(block) or True)


async def turns():
    for _ in range(5):
        await asyncio.sleep(0)


async def test_blocks_poured_for_one_rider_come_to_all_and_one_pours_at_a_time():
    house = sprung()
    first, _ = await house.flights.ride("key", house.start, house.finish)
    second, _ = await house.flights.ride("key", house.start, house.finish)
    taken = []
    pouring = asyncio.create_task(poured_into(first, taken))
    await turns()
    await poured_into(second, [])  # another pours: nothing to wait for here
    assert len(house.source.takers) == 1
    house.source.give(b"a", b"b")
    assert await take(second, 2) == [b"a", b"b"]
    assert taken == [b"a", b"b"]
    pouring.cancel()
    await asyncio.gather(pouring, return_exceptions=True)
    house.source.give(b"c", None)
    assert [block async for block in second.blocks] == [b"c"]
    assert [block async for block in first.blocks] == [b"c"]
    for reply in (first, second):
        await reply.close()
    await turns()
    assert house.finished == [b"abc"]


async def test_a_rider_who_came_late_reads_what_is_there_before_it_pours():
    house = sprung()
    first, _ = await house.flights.ride("key", house.start, house.finish)
    house.source.give(b"a")
    assert await take(first, 1) == [b"a"]
    second, _ = await house.flights.ride("key", house.start, house.finish)
    await poured_into(second, [])
    assert await take(second, 1) == [b"a"]
    for reply in (first, second):
        await reply.close()


async def test_a_failure_while_blocks_are_poured_is_every_riders():
    house = sprung()
    first, _ = await house.flights.ride("key", house.start, house.finish)
    second, _ = await house.flights.ride("key", house.start, house.finish)
    taken = []
    house.source.give(b"a", ZeroDivisionError())
    await poured_into(first, taken)
    assert taken == [b"a"]
    with pytest.raises(ZeroDivisionError):
        await take(first, 1)
    assert await take(second, 1) == [b"a"]
    with pytest.raises(ZeroDivisionError):
        await take(second, 1)
    for reply in (first, second):
        await reply.close()
