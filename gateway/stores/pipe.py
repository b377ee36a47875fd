"""A pipe to one Redis that all callers share: what is asked in one turn of the loop goes out in one write.

Knows connections, time-outs and what makes a server one not to be asked; not what commands mean.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from itertools import chain
from typing import Any, Final

from hiredis import ReplyError

from gateway.core.clock import monotonic_s
from gateway.core.deadlines import Timer, Wheel
from gateway.stores.address import Address, courtesy, introduction
from gateway.stores.breaker import Breaker
from gateway.stores.line import Line, Place
from gateway.stores.store import StoreUnavailableError

FindServer = Callable[[], Awaitable[Address]]
"""Asked before each connection. Raises OSError where there is no server now."""

MAX_PLACES: Final = 10_000
MAX_UNSENT_BYTES: Final = 67_108_864
"""Bounds on what waits for a server. Past them it is slower than its callers, and more would only pile up."""
PATIENCE: Final = 5
"""Time-outs that one reply may take, coming in bit by bit, before the connection counts as stuck."""
LAG_S: Final = 0.05
"""A timer later than this (a quarter of the time-out where that is more) tells of a loop that was busy: replies may lie
there unread, and are read before anybody is failed. The wheel's slots make 0.01 s of it; 0.25 of time-outs from 4 s."""
RENEWAL_S: Final = 1.0
"""The shortest time between connections given up because their server had become a replica."""

OF_NO_USE: Final = ("LOADING", "MASTERDOWN", "CLUSTERDOWN", "BUSY", "NOAUTH")
"""A server that says so serves nobody. Other refusals (OOM, NOPERM, WRONGTYPE) are of one command, or of writing."""
A_REPLICA: Final = "READONLY"
UNKNOWN_SCRIPT: Final = "NOSCRIPT"


class Pipe:
    """Keep one connection, made when it is first needed and again when it was lost."""

    def __init__(self, find_server: FindServer, timeout_s: float, breaker: Breaker, wheel: Wheel | None = None) -> None:
        self._find_server = find_server
        self._timeout_s = timeout_s
        self._breaker = breaker
        self._wheel = wheel or Wheel()
        self._unsent: deque[Place] = deque()
        self._unsent_bytes = 0
        self._line: Line | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._timer: Timer | None = None
        self._rings_s = 0.0
        self._renewed_s = -RENEWAL_S
        self._was_late = False
        self._is_flushing = False
        self._is_closed = False

    def ask(self, command: bytes, *, may_repeat: bool) -> "asyncio.Future[Any]":
        """Send a command. Its reply comes within the time-out, or StoreUnavailableError; an error reply is a reply."""
        waiting = len(self._unsent) + (len(self._line.places) if self._line else 0)
        if self._is_closed or waiting >= MAX_PLACES or self._unsent_bytes >= MAX_UNSENT_BYTES:
            raise StoreUnavailableError("Redis: closed, or asked for more than it can take")
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Any] = loop.create_future()
        self._unsent.append(Place(answer, monotonic_s() + self._timeout_s, command, may_repeat))
        self._unsent_bytes += len(command)
        if not self._is_flushing:
            self._is_flushing = True
            loop.call_soon(self._flush)
        if self._timer is None:
            self._wind(self._timeout_s)
        return answer

    def _flush(self) -> None:
        """Send what was asked in this turn, or have a connection made for it."""
        self._is_flushing = False
        if not self._unsent or self._is_closed:
            return
        if self._line is None:
            if self._connecting is None:
                self._connecting = asyncio.create_task(self._connect())
        elif not self._line.is_full:
            # Who left before anything was sent has no place to keep.
            wanted = [place for place in self._unsent if not place.answer.done()]
            self._unsent.clear()
            self._unsent_bytes = 0
            self._line.send(wanted)

    async def _connect(self) -> None:
        try:
            async with asyncio.timeout(self._timeout_s):
                self._line = await self._introduce(await self._find_server())
        except (OSError, UnicodeError, _RefusedError) as exc:  # time-outs and TLS's errors are OSErrors
            self._breaker.failed()
            self._fail(self._unsent, f"no connection: {exc if isinstance(exc, _RefusedError) else type(exc).__name__}")
            self._unsent.clear()
            self._unsent_bytes = 0
        finally:
            self._connecting = None
        self._flush()

    async def _introduce(self, address: Address) -> Line:
        """Return a connection on which everything said first was answered well."""
        loop = asyncio.get_running_loop()
        if address.path:
            _, line = await loop.create_unix_connection(lambda: Line(self), address.path)
        else:
            name = address.host if address.tls else None
            _, line = await loop.create_connection(
                lambda: Line(self), address.host, address.port, ssl=address.tls, server_hostname=name
            )
        try:
            await self._greet(line, address)
        except BaseException:
            line.drop()
            raise
        return line

    async def _greet(self, line: Line, address: Address) -> None:
        commands = [*introduction(address), courtesy(address)]
        loop = asyncio.get_running_loop()
        places = [Place(loop.create_future(), 0.0, command, may_repeat=False) for command in commands]
        if not line.is_lost:
            line.send(places)
            replies = await asyncio.gather(*(place.answer for place in places), return_exceptions=True)
            for reply in replies[:-1]:
                if isinstance(reply, ReplyError):
                    raise _RefusedError(code_of(reply))
        if line.is_lost:
            raise ConnectionResetError

    def see(self, reply: Any) -> None:
        """Judge the server by a reply; by its greeting nobody can tell yet whether it serves."""
        if self._connecting is not None:
            return
        code = code_of(reply) if type(reply) is ReplyError else ""
        # A server that was restarted has forgotten its scripts. Who asks again by the text must not be turned away.
        if not code or code == UNKNOWN_SCRIPT:
            self._breaker.succeeded()
        elif code in OF_NO_USE:
            self._breaker.failed()
        elif code == A_REPLICA and self._line and monotonic_s() - self._renewed_s >= RENEWAL_S:
            # The name may lead to the new master by now, or the sentinels know it.
            self._renewed_s = monotonic_s()
            asyncio.get_running_loop().call_soon(self._line.drop)

    def find_room(self) -> None:
        """Send on."""
        self._flush()

    def lose(self, line: Line) -> None:
        """Send again what may be; fail the rest."""
        waiting = [place for place in line.places if not place.answer.done()]
        line.places.clear()
        if line is self._line:
            self._line = None
        again = [] if self._is_closed else [place for place in waiting if place.may_repeat]
        lost = [place for place in waiting if not place.may_repeat or self._is_closed]
        # A connection lost while it is made is counted where it is made.
        if lost and not self._is_closed and self._connecting is None:
            self._breaker.failed()
        self._fail(lost, "lost the connection")
        for place in reversed(again):
            place.may_repeat = False
            self._unsent.appendleft(place)
            self._unsent_bytes += len(place.command)
        self._flush()

    def _wind(self, seconds: float) -> None:
        self._rings_s = monotonic_s() + seconds
        self._timer = self._wheel.after(seconds, self._ring)

    def _ring(self) -> None:
        """Fail whoever has waited long enough; give up a connection on which nothing comes."""
        self._timer = None
        now_s, line = monotonic_s(), self._line
        self._was_late = not self._was_late and now_s - self._rings_s > max(LAG_S, self._timeout_s / 4)
        if self._was_late:
            self._wind(0.0)
            return
        sent: deque[Place] = line.places if line else deque()
        next_s = 0.0
        for place in chain(sent, self._unsent):
            if place.due_s > now_s:
                next_s = place.due_s
                break
            if not place.answer.done():
                self._breaker.failed()
                self._fail([place], "took too long")
        while self._unsent and self._unsent[0].due_s <= now_s:
            self._unsent_bytes -= len(self._unsent.popleft().command)
        if next_s or sent:
            self._wind(next_s - now_s if next_s else self._timeout_s)
        if line and sent and self._is_stuck(line, now_s):
            line.drop()

    def _is_stuck(self, line: Line, now_s: float) -> bool:
        overdue_s = now_s - line.places[0].due_s
        is_silent = overdue_s >= 0 and now_s - line.heard_s >= self._timeout_s
        return is_silent or overdue_s >= PATIENCE * self._timeout_s

    def _fail(self, places: Iterable[Place], problem: str) -> None:
        for place in places:
            if not place.answer.done():
                place.answer.set_exception(StoreUnavailableError(f"Redis: {problem}"))
                place.answer.exception()  # marked as seen: who asked for several may have left at the first

    async def close(self) -> None:
        """Let go of the connection; nobody is answered any more."""
        self._is_closed = True
        if self._connecting is not None:
            self._connecting.cancel()
            with suppress(asyncio.CancelledError):
                await self._connecting
        if self._line is not None:
            self._line.drop()
        self._fail(self._unsent, "closed")
        self._unsent.clear()
        if self._timer is not None:
            self._timer.cancel()


class _RefusedError(Exception):
    """The server did not take the introduction; the text is the code of its reply."""


def code_of(reply: ReplyError) -> str:
    """Return an error's first word; the rest may quote what was sent."""
    return str(reply).partition(" ")[0]
