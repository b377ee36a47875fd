"""One exchange on an HTTP/1.1 connection: the answer, from whoever reads the connection to whoever reads the answer.

Knows neither sockets nor the parser.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Final, Protocol, Self

from gateway.backends.codings import decoded
from gateway.backends.http import HttpError, read_at_most
from gateway.core.reply import Take

HIGH_WATER_BYTES: Final = 65_536
"""Held for a reader that lags: from here on the server is held up. What came with one read is held whole."""


class Link(Protocol):
    """The connection that an exchange is on, as far as it minds."""

    def pause(self) -> None:
        """Read no more for now."""
        ...

    def resume(self) -> None:
        """Read on."""
        ...

    def drain(self) -> None:
        """Read the rest of the answer for nobody, for a moment."""
        ...

    def hang_up(self, failure: HttpError) -> None:
        """Let go of the connection at once; the exchange fails."""
        ...


class Exchange:
    """One request's answer: a `gateway.backends.http.HttpResponse` from when its head has come.

    One task reads it. `waiter` is set while that task waits: for the head (or, where the answer is wanted whole, for
    its end), later for more of the body. `taker` is set while it has the body poured. `was_never_taken`: it failed
    because the server had closed the connection before its kernel took any of the request.
    """

    __slots__ = (
        "_chunks",
        "_encoding",
        "_head_lines",
        "_held_bytes",
        "_link",
        "_loop",
        "_pieces",
        "_poured",
        "_whole_bytes",
        "failure",
        "is_ended",
        "is_paused",
        "status",
        "taker",
        "waiter",
        "was_never_taken",
    )

    def __init__(self, link: Link, loop: asyncio.AbstractEventLoop, whole_bytes: int) -> None:
        self.status = 0
        self.failure: HttpError | None = None
        self.is_ended = False
        self.is_paused = False
        self.was_never_taken = False
        self.waiter: asyncio.Future[None] | None = loop.create_future()
        self.taker: Take | None = None
        self._poured: asyncio.Future[None] | None = None
        self._link = link
        self._loop = loop
        self._whole_bytes = whole_bytes
        self._pieces: list[bytes] = []
        self._held_bytes = 0
        self._head_lines: list[tuple[bytes, bytes]] = []
        self._encoding = b""
        self._chunks: AsyncIterator[bytes] | None = None

    @property
    def headers(self) -> Mapping[str, str]:
        """Return the headers, names in lower case, several of one name joined as one (RFC 9110, 5.3)."""
        found: dict[str, str] = {}
        for raw_name, raw_value in self._head_lines:
            name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1").rstrip(" \t")
            found[name] = f"{found[name]}, {value}" if name in found else value
        return found

    @property
    def chunks(self) -> AsyncIterator[bytes]:
        """Return the body in chunks of whatever has come since the last."""
        if not self._encoding:
            return self
        if self._chunks is None:
            self._chunks = decoded(self, self._encoding)
        return self._chunks

    def begin(self, status: int, head_lines: list[tuple[bytes, bytes]], encoding: bytes) -> None:
        """Take the head that has come."""
        self.status = status
        self._head_lines = head_lines
        self._encoding = encoding
        if not self._whole_bytes:
            self._wake()

    def add(self, piece: bytes) -> None:
        """Take a piece of the body."""
        self._pieces.append(piece)
        self._held_bytes += len(piece)
        if self._held_bytes >= HIGH_WATER_BYTES or not (self._whole_bytes or self.taker):
            self._spill()

    def _spill(self) -> None:
        if self._held_bytes > self._whole_bytes:
            self._wake()
            if self._held_bytes >= HIGH_WATER_BYTES and not self.is_paused:
                self.is_paused = True
                self._link.pause()

    def end(self, failure: HttpError | None = None) -> None:
        """Take the end of the answer, good or bad; what has come before it can still be read."""
        self.is_ended = True
        self.failure = failure
        self._wake()
        self._stop_pouring()

    def _wake(self) -> None:
        waiter = self.waiter
        if waiter is not None:
            self.waiter = None
            if not waiter.done():
                waiter.set_result(None)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        """Return what has come since the last read, and wait only where nothing has. A cancelled read loses nothing."""
        while not self._pieces:
            if self.failure is not None:
                raise self.failure
            if self.is_ended:
                raise StopAsyncIteration
            self.waiter = waiter = self._loop.create_future()
            await waiter
        return self._take()

    async def pour(self, take: Take) -> None:
        """Give to `take` what comes, joined as it came; return when it refuses, or when `anext` has more to tell."""
        if self._pieces or self.is_ended:
            return
        self.taker = take
        self._poured = self._loop.create_future()
        try:
            await self._poured
        finally:
            self.taker = self._poured = None

    def hand_on(self) -> None:
        """Give what has come to the taker; its fault is raised to whoever pours."""
        if self.taker is None or not self._pieces:
            return
        try:
            wants_more = self.taker(self._take())
        except Exception as exc:  # noqa: BLE001 - raised in the task that pours; here it would end the connection
            self._stop_pouring(exc)
            return
        if not wants_more:
            self._stop_pouring()

    def _stop_pouring(self, fault: Exception | None = None) -> None:
        self.taker = None
        poured = self._poured
        if poured is None or poured.done():
            return
        if fault is None:
            poured.set_result(None)
        else:
            poured.set_exception(fault)

    def _take(self) -> bytes:
        pieces = self._pieces
        self._pieces = []
        self._held_bytes = 0
        if self.is_paused:
            self.is_paused = False
            self._link.resume()
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    async def read(self, limit_bytes: int) -> bytes | None:
        """Return the whole body; None for one that is longer than the limit."""
        if self.is_ended and self.failure is None and not self._encoding:
            body = self._take()
            return body if len(body) <= limit_bytes else None
        return await read_at_most(self.chunks, limit_bytes)

    def abandon(self) -> None:
        """Stop reading, at once."""
        if not self.is_ended:
            self._pieces.clear()
            self._link.hang_up(HttpError("the response was closed"))

    async def close(self) -> None:
        """Stop reading: a body that has not come whole takes its connection along."""
        self.abandon()

    async def finish(self) -> None:
        """Leave the rest to the connection, which is free again if it comes soon. Nobody waits for it."""
        if not self.is_ended:
            self._link.drain()
