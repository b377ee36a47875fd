"""One connection that speaks HTTP/1.1. httptools reads; nothing is parsed here.

Knows nothing of pools: whoever made a connection is told when it is free again or gone, in the same turn.
Source: RFC 9112.
"""

import asyncio
import socket
import struct
import sys
from typing import Final, Protocol, cast

import httptools

from gateway.backends.http import DRAIN_S, HttpError, HttpRequest, header_lines
from gateway.backends.http1_exchange import Exchange
from gateway.core.deadlines import Timer, Wheel

MAX_BARREN_BYTES: Final = 65_536
"""Bytes in a row that bring nothing of a body: a head, interim responses, chunk extensions, trailers. uvicorn takes as
much of a head, nginx 32 KB."""
SPLIT_BYTES: Final = 65_536
"""A larger body is not copied behind its head, but handed over beside it."""

FIRST_BYTE: Final = ord("H")
"""Of an answer. The parser skips empty lines, which would be the end of something that nobody asked for."""
TCP_CLOSE: Final = 7
_TCP_INFO: Final = struct.Struct("=B7x16xI")
_CODING: Final = (len(b"content-encoding"), len(b"transfer-encoding"))


class Owner(Protocol):
    """Who made a connection."""

    def release(self, connection: "Connection") -> None:
        """Take back a connection that is free for the next exchange."""
        ...

    def forget(self, connection: "Connection") -> None:
        """Strike off a connection that is gone, or as good as gone; told again, take no notice."""
        ...


class Connection(asyncio.Protocol):
    """A connection to a server, for one exchange at a time.

    A server that says something when nothing was asked, or more than its answer, can't be believed any more: what it
    said could be taken for the next answer. Its connection is closed.
    """

    __slots__ = (
        "_barren_bytes",
        "_draining",
        "_encoding",
        "_ends_with_connection",
        "_exchange",
        "_head_lines",
        "_is_complete",
        "_is_head_read",
        "_is_interim",
        "_is_kept_alive",
        "_loop",
        "_owner",
        "_parser",
        "_transport",
        "_wheel",
        "exchange_count",
        "has_place",
        "idle_since_s",
    )

    def __init__(self, owner: Owner, wheel: Wheel) -> None:
        self.has_place = False
        self.exchange_count = 0
        self.idle_since_s = 0.0
        self._owner = owner
        self._wheel = wheel
        self._loop = wheel.loop
        self._transport: asyncio.Transport | None = None
        self._exchange: Exchange | None = None
        self._parser: httptools.HttpResponseParser | None = None
        self._head_lines: list[tuple[bytes, bytes]] = []
        self._encoding = b""
        self._barren_bytes = 0
        self._is_head_read = False
        self._is_interim = False
        self._is_complete = False
        self._is_kept_alive = False
        self._ends_with_connection = False
        self._draining: Timer | None = None

    # What the pool and the exchange ask of it.

    def is_usable(self) -> bool:
        """Tell whether a request can be sent."""
        return self._transport is not None and self._exchange is None and not self._transport.is_closing()

    def now_s(self) -> float:
        """Return the event loop's time."""
        return self._loop.time()

    def ask(self, request: HttpRequest) -> Exchange:
        """Send a request. Raises HttpError for a header that can't be sent; then nothing was."""
        body = request.body
        more = f"{header_lines(request.headers)}content-length: {len(body)}\r\n\r\n"
        head = request.head.wire + more.encode("ascii")
        transport = self._open_transport
        exchange = self._exchange = Exchange(self, self._loop, request.whole_bytes)
        self._barren_bytes = 0
        if len(body) < SPLIT_BYTES:
            transport.write(head + body)
        else:
            transport.writelines((head, body))
        return exchange

    @property
    def _open_transport(self) -> asyncio.Transport:
        if self._transport is None:
            raise HttpError("the connection is closed")
        return self._transport

    def pause(self) -> None:
        """Read no more for now: the server is held up once the kernel's buffers are full."""
        self._open_transport.pause_reading()

    def resume(self) -> None:
        """Read on."""
        if self._transport is not None:
            self._transport.resume_reading()

    def drain(self) -> None:
        """Read the rest of the answer for nobody, for a moment."""
        if self._draining is None:
            self._draining = self._wheel.after(DRAIN_S, self._end_draining)
            self.resume()

    def _end_draining(self) -> None:
        self.hang_up(HttpError("the response was closed"))

    def _stop_draining(self) -> None:
        if self._draining is not None:
            self._draining.cancel()
            self._draining = None

    def hang_up(self, failure: HttpError) -> None:
        """Let go of the connection at once; an exchange under way fails."""
        self._stop_draining()
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.end(failure)
        self._owner.forget(self)
        if self._transport is not None:
            self._transport.abort()

    def close(self) -> None:
        """Close a connection that is idle, saying goodbye where TLS wants it."""
        self._owner.forget(self)
        if self._transport is not None:
            self._transport.close()

    # What the event loop tells.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = cast("asyncio.Transport", transport)
        self._parser = httptools.HttpResponseParser(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Be gone. A reset's reason is told: it is the kernel's own, never the server's text."""
        if isinstance(exc, BrokenPipeError):
            # Nobody writes past the end of what a server says but before having heard of it.
            self._note_stale()
        self._transport = self._parser = None
        self._lose(f"the connection broke: {exc}" if exc else "the connection was closed")

    def eof_received(self) -> None:
        """The server will say no more: a body without a length ends here, all else breaks off."""
        if self._ends_with_connection and self._exchange is not None:
            self._complete()
        elif self._transport is not None and is_refused(self._transport):
            self._note_stale()
        self._lose("the server closed the connection")

    def _note_stale(self) -> None:
        if self._exchange is not None and not (self._barren_bytes or self._exchange.status):
            self._exchange.was_never_taken = True

    def _lose(self, why: str) -> None:
        if self._exchange is None:
            failure = HttpError(why)
        elif not self._exchange.status:
            failure = HttpError(f"{why} before its answer")
        else:
            failure = HttpError(f"{why} in the middle of its answer")
        self.hang_up(failure)

    def data_received(self, data: bytes) -> None:
        """Read on."""
        exchange = self._exchange
        if exchange is None or self._parser is None:
            self.hang_up(HttpError("the server spoke unasked"))
            return
        if not self._barren_bytes and not exchange.status and data[0] != FIRST_BYTE:
            self.hang_up(HttpError("the answer is not HTTP/1.1"))
            return
        self._barren_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as exc:
            self._fail(exc)
            return
        if self._is_complete:
            self._settle()
        elif self._barren_bytes > MAX_BARREN_BYTES:
            self.hang_up(HttpError(f"the server sent {MAX_BARREN_BYTES} bytes and nothing of a body"))
        elif exchange.taker is not None:
            exchange.hand_on()

    def _fail(self, exc: httptools.HttpParserError) -> None:
        if self._is_complete:
            # The answer is whole; what follows it is the connection's end.
            self._is_kept_alive = False
            self._settle()
            return
        # A callback of ours raised: its words are ours. llhttp's own quote nothing of what it read either.
        cause = exc.__context__
        self.hang_up(cause if isinstance(cause, HttpError) else HttpError(f"the answer is not HTTP/1.1: {exc}"))

    # What the parser tells.

    def on_message_begin(self) -> None:
        """Begin an answer; one after the end of the one that was asked for is nobody's."""
        if self._is_complete:
            raise HttpError("the server sent more than its answer")
        self._head_lines = []
        self._encoding = b""
        self._is_head_read = False

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header. Trailers are read past: what comes after a body is no head any more."""
        if self._is_head_read:
            return
        self._head_lines.append((name, value))
        if len(name) in _CODING:
            self._note_coding(name.lower(), value.strip().lower())

    def _note_coding(self, name: bytes, coding: bytes) -> None:
        if name == b"content-encoding" and coding != b"identity":
            self._encoding = coding
        elif name == b"transfer-encoding" and coding != b"chunked":
            raise HttpError("the answer has a transfer coding that was not asked for")

    def on_headers_complete(self) -> None:
        """Give the head to whoever asked."""
        parser, exchange = self._parser, self._exchange
        if parser is None or exchange is None:
            return
        self._is_head_read = True
        status = parser.get_status_code()
        self._is_interim = status < 200
        if self._is_interim:
            if status == 101:
                raise HttpError("the server changed to a protocol that was not asked for")
            return
        self._is_kept_alive = parser.should_keep_alive()
        self._ends_with_connection = not self._is_kept_alive and not self._has_length(status)
        exchange.begin(status, self._head_lines, self._encoding)

    def _has_length(self, status: int) -> bool:
        names = {name.lower() for name, _ in self._head_lines}
        return status in {204, 304} or b"content-length" in names or b"transfer-encoding" in names

    def on_body(self, piece: bytes) -> None:
        """Give a piece of the body to whoever asked."""
        self._barren_bytes = 0
        if self._exchange is not None and self._draining is None:
            self._exchange.add(piece)

    def on_message_complete(self) -> None:
        """Note the end; the rest of what was read with it is looked at before the connection is used again."""
        if not self._is_interim:
            self._is_complete = True

    def _settle(self) -> None:
        self._is_complete = False
        transport, is_kept_alive = self._transport, self._is_kept_alive
        self._complete()
        # A request that is not out yet was answered before it was read: its rest would stand before the next one.
        if is_kept_alive and transport is not None and not transport.get_write_buffer_size():
            self._owner.release(self)
        else:
            self.hang_up(HttpError("the connection is closed"))

    def _complete(self) -> None:
        self._stop_draining()
        self._ends_with_connection = False
        self.exchange_count += 1
        exchange, self._exchange = self._exchange, None
        if exchange is None:
            return
        if exchange.is_paused:
            # What was held back is all there is; the connection is another's from here on.
            exchange.is_paused = False
            self.resume()
        exchange.end()


def is_refused(transport: asyncio.Transport) -> bool:
    """Tell whether the other side's end came before its kernel took what was sent last, as Linux has it.

    An end that answers a request acknowledges it. One that was under way before has acknowledged nothing, or has
    been followed already by the reset that meets what is sent to a closed socket.
    Source: `struct tcp_info` in linux/tcp.h: state, seven bytes, then 32-bit numbers, of which the fifth is `unacked`.
    """
    if sys.platform != "linux":
        return False
    try:
        info = transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO.size)
    except OSError:
        return False
    state, unacked = _TCP_INFO.unpack(info)
    return bool(state == TCP_CLOSE or unacked)
