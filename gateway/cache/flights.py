"""Identical requests in flight share one upstream call.

A flight belongs to nobody who rides on it: its own task makes the call and keeps every block, riders read at their
own pace, one who leaves disturbs no other, and when the last one has left the call is cancelled.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

from gateway.core.reply import Reply

MAX_LEAD_BYTES = 262_144
"""How far an upstream may run ahead of the fastest reader before it is paused."""

MAX_KEPT_BYTES = 1_048_576
"""How long an answer may grow before what every rider has read is forgotten, and nobody can come aboard any more."""

Start = Callable[[], Awaitable[Reply]]
Finish = Callable[[Reply, bytes], Awaitable[None]]
"""Told of an answer that came to its end."""


class Flights:
    """The flights under way, by key."""

    def __init__(self, max_kept_bytes: int = MAX_KEPT_BYTES) -> None:
        self._max_kept_bytes = max_kept_bytes
        self._flights: dict[str, _Flight] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def ride(self, key: str, start: Start, finish: Finish, *, alone: bool = False) -> tuple[Reply, bool]:
        """Return a reply, and whether it comes from a call that was under way already.

        `alone` starts a call of its own, which nobody joins. Raises what `start` raises, to every rider.
        """
        flight = None if alone else self._flights.get(key)
        is_shared = flight is not None and flight.is_open
        if flight is None or not flight.is_open:
            flight = self._launch(key, start, finish, alone=alone)
        return await flight.board(is_launcher=not is_shared), is_shared

    def _launch(self, key: str, start: Start, finish: Finish, *, alone: bool) -> "_Flight":
        flight = _Flight(self._max_kept_bytes)
        if not alone:
            self._flights[key] = flight
        flight.task = asyncio.create_task(flight.fly(start, finish))
        self._tasks.add(flight.task)
        flight.task.add_done_callback(lambda task: self._land(key, flight, task))
        return flight

    def _land(self, key: str, flight: "_Flight", task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if self._flights.get(key) is flight:
            del self._flights[key]

    async def close(self) -> None:
        """Cancel what is still under way and wait for it."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


class _Flight:
    """One upstream call and its riders."""

    def __init__(self, max_kept_bytes: int) -> None:
        self.task: asyncio.Task[None] | None = None
        self.is_open = True
        self._max_kept_bytes = max_kept_bytes
        self._places: dict[object, int] = {}
        self._forgotten = 0
        self._opened: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._blocks: list[bytes] = []
        self._received_bytes = 0
        self._furthest_bytes = 0
        self._is_over = False
        self._failure: Exception | None = None
        self._is_billed = False
        self._has_launcher_left = False
        self._news = asyncio.Event()
        self._room = asyncio.Event()

    async def fly(self, start: Start, finish: Finish) -> None:
        """Make the call, keep its blocks, tell the riders, hand a whole answer to `finish`."""
        try:
            reply = await start()
        except asyncio.CancelledError:
            self._opened.cancel()
            raise
        except Exception as exc:  # noqa: BLE001 - a supervisor: whatever it is, the riders raise it
            self._opened.set_exception(exc)
            self._opened.exception()  # marked as seen: the riders may all have left
            return
        self._opened.set_result(reply)
        try:
            await self._collect(reply)
        finally:
            self._is_over = True
            self._tell()
            await reply.close()
        if self._failure is None and not self._forgotten:
            await finish(reply, b"".join(self._blocks))

    async def _collect(self, reply: Reply) -> None:
        try:
            async for block in reply.blocks:
                self._blocks.append(block)
                self._received_bytes += len(block)
                if self._received_bytes > self._max_kept_bytes:
                    self._forget()
                self._tell()
                await self._wait_for_room()
        except Exception as exc:  # noqa: BLE001 - a supervisor: whatever it is, the riders raise it
            self._failure = exc

    def _forget(self) -> None:
        """Let go of the blocks that every rider has read; from then on the answer can be neither joined nor stored."""
        self.is_open = False
        read_by_all = min(self._places.values(), default=self._forgotten)
        del self._blocks[: read_by_all - self._forgotten]
        self._forgotten = read_by_all

    def _tell(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    async def _wait_for_room(self) -> None:
        while self._received_bytes - self._furthest_bytes > MAX_LEAD_BYTES:
            self._room.clear()
            await self._room.wait()

    async def board(self, *, is_launcher: bool) -> Reply:
        """Return this rider's own reply once the call has begun to answer."""
        rider = object()
        self._places[rider] = 0
        try:
            reply = await asyncio.shield(self._opened)
        except BaseException:
            # Who leaves before the answer began never comes to claim the bill: it falls to another rider.
            self._has_launcher_left = self._has_launcher_left or is_launcher
            await self._leave(rider)
            raise
        return Reply(
            model=reply.model,
            is_streaming=reply.is_streaming,
            blocks=self._read(rider),
            close=self._leave_once(rider),
            attempts=reply.attempts,
            is_fallback=reply.is_fallback,
            verdict=reply.verdict,
            claim_bill=lambda: self._claim_bill(is_launcher=is_launcher),
        )

    async def _read(self, rider: object) -> AsyncIterator[bytes]:
        seen_bytes = 0
        while True:
            while (place := self._places[rider] - self._forgotten) < len(self._blocks):
                block = self._blocks[place]
                self._places[rider] += 1
                seen_bytes += len(block)
                self._furthest_bytes = max(self._furthest_bytes, seen_bytes)
                self._room.set()
                yield block
            if self._is_over:
                break
            await self._news.wait()
        if self._failure is not None:
            raise self._failure

    def _leave_once(self, rider: object) -> Callable[[], Awaitable[None]]:
        has_left = False

        async def leave() -> None:
            nonlocal has_left
            if not has_left:
                has_left = True
                await self._leave(rider)

        return leave

    async def _leave(self, rider: object) -> None:
        self._places.pop(rider, None)
        if not self._places and not self._is_over and self.task is not None:
            self.is_open = False
            self.task.cancel()
            await asyncio.wait({self.task})

    def _claim_bill(self, *, is_launcher: bool) -> bool:
        """Let one rider pay: who launched the flight, or, if that one left early, the first to come to the end."""
        is_last_chance = self._is_over or len(self._places) == 1
        if is_launcher and not is_last_chance:
            self._has_launcher_left = True
        may_pay = is_last_chance and (is_launcher or self._has_launcher_left) and not self._is_billed
        self._is_billed = self._is_billed or may_pay
        return may_pay
