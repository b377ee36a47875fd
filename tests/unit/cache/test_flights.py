"""Flights: what the fault tests can't see from outside."""

import asyncio

from gateway.cache.flights import Flights
from gateway.core.reply import Reply

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
