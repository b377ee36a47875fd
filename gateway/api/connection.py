"""One client's connection: HTTP/1.1 by httptools, with bounds for clients that mean no good or have no luck.

It reads heads and hands each request to an exchange: a hot one to ours, which answers straight on the transport, all
else to uvicorn's, which speaks ASGI. Heads have a time and a size. Nothing is mixed into an answer under way: a
second request that comes before the answer to the first is not served, the connection closes after the first answer,
and HTTP clients then send the second one again (RFC 9112, 9.3.2). A client that takes nothing of an answer is let go.
Conformance is tested in `tests/faults/`.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Protocol
from urllib.parse import unquote

import httptools
from httptools.parser.url_parser import URL
from uvicorn.config import Config
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.server import ServerState

from gateway.api.headers import RawHeaders
from gateway.core.deadlines import Timer, Wheel
from gateway.core.errors import internal_error
from gateway.telemetry.logs import log_failure

MAX_HEAD_BYTES = 65_536
"""Request line and headers, and in a body whatever is none of it: chunk extensions, trailers. nginx takes 8 KB a
header and 32 KB in all."""

FAREWELL_S = 1.0
"""How long a client that was told off may go on sending, unheard."""

_ENDING = b"\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
INVALID = b"HTTP/1.1 400 Bad Request" + _ENDING
TOO_SLOW = b"HTTP/1.1 408 Request Timeout" + _ENDING
TOO_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large" + _ENDING


class Exchange(Protocol):
    """A request and its answer, as a connection sees them."""

    keep_alive: bool

    def take(self, part: bytes) -> None:
        """Take a part of the body."""

    def finish(self) -> None:
        """Take note that the body is whole."""

    def spoil(self) -> None:
        """Take note that nothing more will be read; after the answer the connection closes."""

    def lose(self) -> None:
        """Take note that the client has gone."""


@dataclass(slots=True)
class Port:
    """What the connections of one port share.

    `open_hot` returns the exchange of a request whose path is hot, None for all else, which is `open_asgi`'s.
    """

    header_timeout_s: float
    keep_alive_s: float
    open_hot: "Callable[[Connection, bytes], Exchange | None]"
    open_asgi: "Callable[[Connection, str, URL], Exchange]"
    wheel: Wheel
    _dated: RawHeaders = field(default_factory=list)
    _lines: dict[int, bytes] = field(default_factory=dict)

    def status_line(self, status: int, dated: RawHeaders) -> bytes:
        """Return the first lines of an answer; uvicorn renews the list that holds the date once a second."""
        if dated is not self._dated:
            self._dated = dated
            self._lines = {}
        line = self._lines.get(status)
        if line is None:
            first = b"HTTP/1.1 %d %b\r\n" % (status, HTTPStatus(status).phrase.encode())
            line = self._lines[status] = first + b"".join(b"%b: %b\r\n" % header for header in dated)
        return line


class Connection(asyncio.Protocol):
    """A connection and the one exchange that is under way on it."""

    __slots__ = (
        "_barren_bytes",
        "_head_timer",
        "_idle_since_s",
        "_idle_timer",
        "_is_deaf",
        "_is_in_head",
        "_is_whole",
        "_parser",
        "_port",
        "_read_bytes",
        "_stall_timer",
        "_url",
        "app_state",
        "config",
        "exchange",
        "flow",
        "headers",
        "keep_alive",
        "loop",
        "server_state",
        "takes_chunks",
        "transport",
        "wheel",
    )

    transport: asyncio.Transport
    flow: FlowControl

    def __init__(
        self,
        port: Port,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self._port = port
        self.config = config
        self.app_state = app_state
        self.server_state = server_state
        self.loop = _loop or asyncio.get_running_loop()
        self.wheel = port.wheel
        self.exchange: Exchange | None = None
        self.headers: RawHeaders = []
        self.keep_alive = self.takes_chunks = True
        self._parser: Any = httptools.HttpRequestParser(self)
        self._url = b""
        self._barren_bytes = self._read_bytes = 0
        self._is_in_head = self._is_deaf = False
        self._is_whole = True
        self._idle_since_s = 0.0
        self._head_timer: Timer | None = None
        self._idle_timer: Timer | None = None
        self._stall_timer: Timer | None = None

    @property
    def method(self) -> bytes:
        """Return the method of the request under way."""
        method: bytes = self._parser.get_method()
        return method

    def status_line(self, status: int) -> bytes:
        """Return the first lines of an answer, the date among them."""
        return self._port.status_line(status, self.server_state.default_headers)

    @property
    def _connections(self) -> set[Any]:
        # uvicorn names its own protocols there; all it asks of one is `shutdown`.
        return self.server_state.connections

    # What the transport tells.

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take up the connection."""
        self.transport = transport
        self.flow = FlowControl(transport)
        self._connections.add(self)
        self._expect_head()

    def eof_received(self) -> None:
        """Take a client that sends no more for one that has gone; so does nginx. The transport closes itself.

        Only after what it holds back is sent: waiting for that, the walk would go on.
        """
        if self.exchange is not None:
            self.exchange.lose()

    def connection_lost(self, _: Exception | None) -> None:
        """Let go of everything; the parser's callbacks would otherwise keep it until the garbage collector comes."""
        self._connections.discard(self)
        for timer in (self._head_timer, self._idle_timer, self._stall_timer):
            if timer is not None:
                timer.cancel()
        self._head_timer = self._idle_timer = self._stall_timer = None
        if self.exchange is not None:
            self.exchange.lose()
            self.exchange = None
        self.flow.resume_writing()
        self._is_deaf = True
        self._parser = None

    def shutdown(self) -> None:
        """Close after the answer under way, or now. Called by uvicorn when the server stops."""
        if self.exchange is None:
            self.transport.close()
        else:
            self.exchange.keep_alive = False

    def data_received(self, data: bytes) -> None:
        """Read what has come."""
        if self._is_deaf:
            return
        self._read_bytes = len(data)
        self._feed(data)
        if not self._is_whole or self.exchange is None:
            self._check_barren()

    def _feed(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as offer:
            if not self._is_deaf:
                self._decline(data[offer.args[0] :])
        except httptools.HttpParserCallbackError as exc:
            log_failure(internal_error(exc.__context__ or exc))
            self._hang_up(INVALID)
        except httptools.HttpParserError:
            self._hang_up(INVALID)

    def _check_barren(self) -> None:
        if not self._is_whole:
            # Counted here: the parser tells of a header only once it is whole, and of a chunk's extension never.
            self._barren_bytes += self._read_bytes
            if self._barren_bytes > MAX_HEAD_BYTES:
                self._hang_up(TOO_LARGE if self._is_in_head else INVALID)
        if self._head_timer is None and not self._is_deaf and (self._is_in_head or self.exchange is None):
            # Empty lines before a request begin no message, but keep no connection open either.
            self._expect_head()

    def _expect_head(self) -> None:
        self._head_timer = self.wheel.after(self._port.header_timeout_s, lambda: self._hang_up(TOO_SLOW))

    def _decline(self, rest: bytes) -> None:
        """Read a request that offers another protocol (`curl --http2` offers h2c) as if it did not.

        The parser ends such a message at its head and its body would be lost, so another one starts anew.
        """
        method, version = self.method, self._parser.get_http_version().encode()
        if method == b"CONNECT":
            self._hang_up(INVALID)
            return
        start = b"%b %b HTTP/%b" % (method, self._url, version)
        lines = [start, *(b"%b: %b" % header for header in without_offer(self.headers)), b"", b""]
        self._parser = httptools.HttpRequestParser(self)
        self._feed(b"\r\n".join(lines) + rest)

    # What the parser tells.

    def on_message_begin(self) -> None:
        """Begin a head."""
        self._url = b""
        self.headers = []
        self._barren_bytes = 0
        self._is_in_head = True
        self._is_whole = False

    def on_url(self, url: bytes) -> None:
        """Take a part of the target."""
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header. Trailers are read past: what comes after a body is no head any more."""
        if self._is_in_head:
            self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """Hand the request over to an exchange."""
        self._is_in_head = False
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None
        parser = self._parser
        if parser.should_upgrade() or self._is_deaf:
            return
        if self.exchange is not None:
            self._hang_up(INVALID)
        elif self._barren_bytes + self._read_bytes > MAX_HEAD_BYTES and self._measure_head() > MAX_HEAD_BYTES:
            self._hang_up(TOO_LARGE)
        else:
            self.takes_chunks = parser.get_http_version() != "1.0"
            self.keep_alive = self.takes_chunks and parser.should_keep_alive()
            self.exchange = self._port.open_hot(self, self._url) or self._open_other()
        self._barren_bytes = -self._read_bytes

    def _measure_head(self) -> int:
        return len(self._url) + sum(len(name) + len(value) + 4 for name, value in self.headers)

    def on_body(self, part: bytes) -> None:
        """Hand on a part of a body; what came with it is not counted."""
        self._barren_bytes = -self._read_bytes
        if self.exchange is not None and not self._is_deaf:
            self.exchange.take(part)

    def on_message_complete(self) -> None:
        """Tell that the body is whole."""
        if self._parser.should_upgrade():
            return
        self._is_whole = True
        if self.exchange is not None and not self._is_deaf:
            self.exchange.finish()

    # The ends of exchanges, and of the connection.

    def _open_other(self) -> Exchange | None:
        """Open an exchange by the path alone, which a target may write in many ways; over ASGI if it is not hot."""
        try:
            target = httptools.parse_url(self._url)
            path = unquote((target.path or b"/").decode("ascii"))
        except (httptools.HttpParserInvalidURLError, UnicodeDecodeError):
            self._hang_up(INVALID)
            return None
        return self._port.open_hot(self, path.encode()) or self._port.open_asgi(self, path, target)

    def end_exchange(self, *, keep_alive: bool) -> None:
        """Wait for the next request, or close.

        An unread rest of a body would keep the connection busy for as long as the client likes.
        """
        self.server_state.total_requests += 1
        self.exchange = None
        if not keep_alive or not self._is_whole:
            self.transport.close()
            return
        self.flow.resume_reading()
        self._idle_since_s = self.loop.time()
        if self._idle_timer is None:
            self._idle_timer = self.wheel.after(self._port.keep_alive_s, self._check_idle)

    def _check_idle(self) -> None:
        """Close an idle connection at its time. One timer a connection: one a request costs five times as much."""
        limit_s = self._port.keep_alive_s
        is_idle = self.exchange is None and not self._is_in_head
        left_s = self._idle_since_s + limit_s - self.loop.time() if is_idle else limit_s
        if left_s > 0:
            self._idle_timer = self.wheel.after(left_s, self._check_idle)
        else:
            self.transport.close()

    def _hang_up(self, farewell: bytes) -> None:
        """Listen no more; close now or, so that nothing is mixed into an answer under way, at its end."""
        if self._is_deaf or self.transport.is_closing():
            return
        self._is_deaf = True
        if self.exchange is not None:
            self.exchange.spoil()
        else:
            self.transport.write(farewell)
            self.transport.write_eof()
            # Closing while it still sends would reset the connection, and take the farewell away from it.
            self.wheel.after(FAREWELL_S, self.transport.abort)

    def pause_writing(self) -> None:
        """Have whoever writes wait, and watch whether anything is taken."""
        self.flow.pause_writing()
        self._watch_stall()

    def _watch_stall(self) -> None:
        held_bytes = self.transport.get_write_buffer_size()
        self._stall_timer = self.wheel.after(self._port.keep_alive_s, lambda: self._check_stall(held_bytes))

    def _check_stall(self, held_bytes: int) -> None:
        if self.transport.get_write_buffer_size() == held_bytes:
            self.transport.abort()
        else:
            self._watch_stall()

    def resume_writing(self) -> None:
        """Let whoever writes go on."""
        if self._stall_timer is not None:
            self._stall_timer.cancel()
            self._stall_timer = None
        self.flow.resume_writing()


def without_offer(headers: RawHeaders) -> RawHeaders:
    """Return headers without the offer of another protocol; a server may ignore it (RFC 9110, 7.8)."""
    kept = [(name, value) for name, value in headers if name not in {b"upgrade", b"http2-settings", b"connection"}]
    options = [part.strip() for name, value in headers if name == b"connection" for part in value.split(b",")]
    others = [part for part in options if part.lower() not in {b"upgrade", b"http2-settings"}]
    return [*kept, (b"connection", b", ".join(others))] if others else kept
