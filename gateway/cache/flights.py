"""Identical requests in flight share one upstream call.

A flight belongs to nobody who rides on it. A task of its own makes the call. Once a stream has begun, whoever is the
first to need its next block pulls it from the upstream for all, and the others wait for that pull: with one rider, as
nearly always, a block takes no task, no queue and no event. One who leaves disturbs no other, and when the last one has
left the call is cancelled. The one who pulls may have the blocks poured: the others get them all the same.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final, Self

from gateway.core.reply import Reply, Take, once, pour_of, pullable, read_all, stop_pulling

MAX_KEPT_BYTES: Final = 1_048_576
"""How long an answer may grow before what every rider has read is forgotten, and nobody can come aboard any more."""

Start = Callable[[], Awaitable[Reply]]
Finish = Callable[[Reply, bytes], Awaitable[None]]
"""Told of an answer that came to its end."""


class Flights:
    """The flights under way, by key."""

    def __init__(self, max_kept_bytes: int = MAX_KEPT_BYTES) -> None:
        self.max_kept_bytes = max_kept_bytes
        self._flights: dict[str, _Flight] = {}
        self._under_way: set[_Flight] = set()
        self._loop: asyncio.AbstractEventLoop | None = None

    async def ride(self, key: str, start: Start, finish: Finish, *, alone: bool = False) -> tuple[Reply, bool]:
        """Return a reply, and whether it comes from a call that was under way already.

        `alone` starts a call of its own, which nobody joins. Raises what `start` raises, to every rider.
        """
        flight = None if alone else self._flights.get(key)
        if flight is not None and flight.is_open:
            return await flight.board(is_launcher=False), True
        flight = _Flight(self, key, finish)
        if not alone:
            self._flights[key] = flight
        self._under_way.add(flight)
        if self._loop is None:
            self._loop = asyncio.get_running_loop()  # a system call, until Python 3.12
        flight.task = self._loop.create_task(flight.fly(start))
        return await flight.board(is_launcher=True), False

    def remove(self, flight: "_Flight") -> None:
        """Take a flight off the table, on which another may stand in its place by now."""
        self._under_way.discard(flight)
        if self._flights.get(flight.key) is flight:
            del self._flights[flight.key]

    async def close(self) -> None:
        """Cancel what is still under way and wait for it."""
        tasks = [flight.task for flight in self._under_way if flight.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class _Flight:
    """One upstream call and its riders."""

    __slots__ = (
        "_blocks", "_failure", "_finish", "_flights", "_forgotten", "_has_launcher_left", "_is_billed", "_is_pulled",
        "_kept_bytes", "_reply", "_riders", "_source", "_waiting", "is_open", "is_over", "key", "task",
    )  # fmt: skip

    def __init__(self, flights: Flights, key: str, finish: Finish) -> None:
        self.task: asyncio.Task[None] | None = None
        self.is_open = True
        self.is_over = False
        self._flights = flights
        self.key = key
        self._finish = finish
        self._reply: Reply | None = None
        self._source: AsyncIterator[bytes] | None = None
        self._failure: BaseException | None = None
        self._is_pulled = False
        self._blocks: list[bytes] = []
        self._kept_bytes = 0
        self._forgotten = 0
        self._riders: set[_Rider] = set()
        self._waiting: list[asyncio.Future[None]] = []
        self._is_billed = False
        self._has_launcher_left = False

    async def fly(self, start: Start) -> None:
        """Make the call; read an answer that comes whole, and hand it to `finish`."""
        try:
            self._reply = reply = await start()
        except Exception as exc:  # noqa: BLE001 - a supervisor: whatever it is, the riders raise it
            self._fail(exc)
            return
        except BaseException:
            # Neither the error nor the task that ends by it is kept: its traceback holds this frame, and so the flight.
            self._fail(asyncio.CancelledError())
            self.task = None
            raise
        self._wake()
        if reply.is_streaming:
            self._source = pullable(reply.blocks)
        else:
            await self._read_whole(reply)

    async def _read_whole(self, reply: Reply) -> None:
        try:
            self._blocks.append(await read_all(reply.blocks))
            self._end()
        except Exception as exc:  # noqa: BLE001 - a supervisor, as above
            self._end(exc)
        except BaseException:
            self._end(asyncio.CancelledError())
            raise
        finally:
            await self._land()
            self.task = None

    async def next_block(self, rider: "_Rider") -> bytes:
        """Return a rider's next block; pull it from the upstream unless somebody does so already.

        Who is cancelled in a pull leaves it to another. Raises StopAsyncIteration at the end.
        """
        while (place := rider.place - self._forgotten) >= len(self._blocks):
            if self.is_over:
                raise self._failure or StopAsyncIteration
            if self._source is None or self._is_pulled:
                await self._news()
                continue
            self._is_pulled = True
            try:
                self._keep(await anext(self._source))
            except StopAsyncIteration:
                self._end_stream()
            except Exception as exc:  # noqa: BLE001 - a supervisor: whatever it is, every rider raises it
                self._end_stream(exc)
            finally:
                self._is_pulled = False
                self._wake()
        rider.place += 1
        return self._blocks[place]

    async def pour(self, rider: "_Rider", take: Take) -> None:
        """Pull for all, as the one who is the first to need the next block, and give each to `take` as it comes."""
        pour = None if self._source is None else pour_of(self._source)
        if pour is None or self._is_pulled or self.is_over or rider.place - self._forgotten < len(self._blocks):
            return

        def take_next(block: bytes) -> bool:
            self._keep(block)
            rider.place += 1
            if self._waiting:
                self._wake()
            return take(block)

        self._is_pulled = True
        try:
            await pour(take_next)
        except Exception as exc:  # noqa: BLE001 - a supervisor, as above: the next read raises it
            self._end_stream(exc)
        finally:
            self._is_pulled = False
            self._wake()

    def _keep(self, block: bytes) -> None:
        self._blocks.append(block)
        self._kept_bytes += len(block)
        if self._kept_bytes > self._flights.max_kept_bytes:
            self._forget()

    def _forget(self) -> None:
        """Let go of the blocks that every rider has read; from then on the answer can be neither joined nor stored."""
        self.is_open = False
        read_by_all = min((rider.place for rider in self._riders), default=self._forgotten)
        del self._blocks[: read_by_all - self._forgotten]
        self._forgotten = read_by_all

    def _news(self) -> "asyncio.Future[None]":
        loop = asyncio.get_running_loop() if self.task is None else self.task.get_loop()
        news = loop.create_future()
        self._waiting.append(news)
        return news

    def _wake(self) -> None:
        if self._waiting:
            waiting, self._waiting = self._waiting, []
            for news in waiting:
                if not news.done():
                    news.set_result(None)

    def _end(self, failure: BaseException | None = None) -> None:
        self.is_over = True
        self._failure = failure
        self._wake()

    def _fail(self, failure: BaseException) -> None:
        self._end(failure)
        self._flights.remove(self)

    def _end_stream(self, failure: Exception | None = None) -> None:
        self._end(failure)
        self.task = asyncio.get_running_loop().create_task(self._land())

    async def _land(self) -> None:
        """Close the call, and hand an answer that came to its end to `finish`. Until then it can be joined."""
        reply = self._reply
        try:
            await stop_pulling(self._source)
            if reply is not None:
                await reply.close()
                if self._failure is None and not self._forgotten:
                    await self._finish(reply, b"".join(self._blocks))
        finally:
            self._flights.remove(self)

    async def board(self, *, is_launcher: bool) -> Reply:
        """Return this rider's own reply once the call has begun to answer."""
        rider = _Rider(self, is_launcher=is_launcher)
        self._riders.add(rider)
        try:
            while self._reply is None:
                if self._failure is not None:
                    raise self._failure  # noqa: TRY301 - a function of its own costs each request a coroutine
                await self._news()
        except BaseException:
            # Who leaves before the answer began never comes to claim the bill: it falls to another rider.
            self._has_launcher_left = self._has_launcher_left or is_launcher
            await self.leave(rider)
            raise
        reply = self._reply
        is_here = self.is_over and self._failure is None and not reply.is_streaming
        return Reply(
            model=reply.model,
            is_streaming=reply.is_streaming,
            blocks=once(self._blocks[0]) if is_here else rider,
            close=rider.leave,
            attempts=reply.attempts,
            is_fallback=reply.is_fallback,
            verdict=reply.verdict,
            claim_bill=rider.claim_bill,
            answer=reply.answer,
            usage=reply.usage,
        )

    async def leave(self, rider: "_Rider") -> None:
        """Let a rider go; with the last one goes the call."""
        self._riders.discard(rider)
        if self._riders or self.is_over or self.task is None:
            return
        self.is_open = False
        if self.task.done():
            self._end(asyncio.CancelledError())
            self.task = asyncio.get_running_loop().create_task(self._land())
        else:
            self.task.cancel()
        await asyncio.wait({self.task})
        self._flights.remove(self)  # a task that was cancelled before it began could not

    def claim_bill(self, *, is_launcher: bool) -> bool:
        """Let one rider pay: who launched the flight, or, if that one left early, the first to come to the end."""
        is_last_chance = self.is_over or len(self._riders) == 1
        if is_launcher and not is_last_chance:
            self._has_launcher_left = True
        may_pay = is_last_chance and (is_launcher or self._has_launcher_left) and not self._is_billed
        self._is_billed = self._is_billed or may_pay
        return may_pay


class _Rider:
    """One of those who read an answer, each at its own pace."""

    __slots__ = ("_flight", "_is_launcher", "place")

    def __init__(self, flight: _Flight, *, is_launcher: bool) -> None:
        self._flight = flight
        self._is_launcher = is_launcher
        self.place = 0

    def __aiter__(self) -> Self:
        return self

    def __anext__(self) -> Awaitable[bytes]:
        return self._flight.next_block(self)

    def pour(self, take: Take) -> Awaitable[None]:
        """Give to `take` what comes."""
        return self._flight.pour(self, take)

    async def leave(self) -> None:
        """Read no more."""
        await self._flight.leave(self)

    def claim_bill(self) -> bool:
        """Tell whether this rider pays."""
        return self._flight.claim_bill(is_launcher=self._is_launcher)
