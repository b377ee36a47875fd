"""The HTTP server: uvicorn with uvloop and httptools, and bounds for clients that mean no good or have no luck.

uvicorn waits for ever for the end of a request's head, takes heads of any size, writes its 400 into the middle of an
answer, does not see a client leave that has sent its next request already, and loses the body of a request that
offers another protocol; `BoundedProtocol` mends all of it.
Conformance is tested in `tests/faults/`.
"""

import asyncio
import math
import socket
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import httptools
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from gateway.api.headers import RawHeaders
from gateway.settings.service import ServerSettings

MAX_HEAD_BYTES = 65_536
"""Request line and headers. nginx takes 8 KB a header and 32 KB in all."""

LINGER_S = 1.0
"""How long a client that was told off may go on sending, unheard."""

_ENDING = b"\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
INVALID = b"HTTP/1.1 400 Bad Request" + _ENDING
TOO_SLOW = b"HTTP/1.1 408 Request Timeout" + _ENDING
TOO_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large" + _ENDING


def bounded_protocol(header_timeout_s: float, stall_s: float) -> type[HttpToolsProtocol]:  # noqa: C901 - one class
    """Return uvicorn's protocol with bounds.

    It hangs up on heads that take longer than `header_timeout_s` or are too large, and on clients that take nothing
    of an answer for `stall_s`. A second request that comes before the answer to the first is not served: the
    connection closes after the first answer, and HTTP clients then send the second one again (RFC 9112, 9.3.2).
    """

    class BoundedProtocol(HttpToolsProtocol):
        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self.head_bytes = 0
            self.is_in_head = False
            self.is_whole = True
            self.is_deaf = False
            self.head_timer: asyncio.TimerHandle | None = None
            self.stall_timer: asyncio.TimerHandle | None = None
            self.expect_head()

        def connection_lost(self, exc: Exception | None) -> None:
            self.stop_expecting()
            self.resume_writing()
            super().connection_lost(exc)

        @property
        def is_answering(self) -> bool:
            return self.cycle is not None and not self.cycle.response_complete

        def expect_head(self) -> None:
            self.stop_expecting()
            self.head_timer = self.loop.call_later(header_timeout_s, self.hang_up, TOO_SLOW)

        def stop_expecting(self) -> None:
            if self.head_timer is not None:
                self.head_timer.cancel()
                self.head_timer = None

        def data_received(self, data: bytes) -> None:
            if self.is_deaf:
                return
            self._unset_keepalive_if_required()
            self.feed(data)
            if self.is_in_head:
                # Counted here too: the parser tells of a header only once it is whole.
                self.head_bytes += len(data)
                if self.head_bytes > MAX_HEAD_BYTES:
                    self.hang_up(TOO_LARGE)
            elif self.head_timer is None and not self.is_answering:
                # Empty lines before a request begin no message, but end uvicorn's wait for a next one.
                self.expect_head()

        def feed(self, data: bytes) -> None:
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserUpgrade as offer:
                if not self.is_deaf:
                    self.decline(data[offer.args[0] :])
            except httptools.HttpParserError:
                self.hang_up(INVALID)

        def decline(self, rest: bytes) -> None:
            """Read a request that offers another protocol (`curl --http2` offers h2c) as if it did not.

            The parser ends such a message at its head and its body would be lost, so another one starts anew.
            """
            method, version = self.parser.get_method(), self.parser.get_http_version().encode()
            if method == b"CONNECT":
                self.hang_up(INVALID)
                return
            start = b"%b %b HTTP/%b" % (method, self.url, version)
            lines = [start, *(b"%b: %b" % header for header in without_offer(self.headers)), b"", b""]
            self.parser = httptools.HttpRequestParser(self)
            self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
            self.feed(b"\r\n".join(lines) + rest)

        def on_message_begin(self) -> None:
            self.is_in_head = True
            self.is_whole = False
            self.head_bytes = 0
            self.expect_head()
            super().on_message_begin()

        def on_headers_complete(self) -> None:
            self.is_in_head = False
            self.stop_expecting()
            if self.parser.should_upgrade():
                return
            if self.is_answering:
                self.hang_up(INVALID)
            elif len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers) > MAX_HEAD_BYTES:
                self.hang_up(TOO_LARGE)
            if not self.is_deaf:
                super().on_headers_complete()

        def on_body(self, body: bytes) -> None:
            if not self.is_deaf:
                super().on_body(body)

        def on_message_complete(self) -> None:
            if self.parser.should_upgrade():
                return
            self.is_whole = True
            if not self.is_deaf:
                super().on_message_complete()

        def on_response_complete(self) -> None:
            super().on_response_complete()
            if not self.is_whole and not self.transport.is_closing():
                # The rest of its body would keep the connection busy for as long as the client likes.
                self.transport.close()

        def hang_up(self, farewell: bytes) -> None:
            """Listen no more; close now or, so that nothing is mixed into an answer under way, at its end."""
            self.is_deaf = True
            if self.transport.is_closing():
                return
            if self.is_answering:
                self.cycle.keep_alive = False
            else:
                self.transport.write(farewell)
                self.transport.write_eof()
                # Closing while it still sends would reset the connection, and take the farewell away from it.
                self.loop.call_later(LINGER_S, self.transport.abort)

        def pause_writing(self) -> None:
            super().pause_writing()
            self.watch_stall()

        def watch_stall(self) -> None:
            held_bytes = self.transport.get_write_buffer_size()
            self.stall_timer = self.loop.call_later(stall_s, self.check_stall, held_bytes)

        def check_stall(self, held_bytes: int) -> None:
            if self.transport.get_write_buffer_size() == held_bytes:
                self.transport.abort()
            else:
                self.watch_stall()

        def resume_writing(self) -> None:
            if self.stall_timer is not None:
                self.stall_timer.cancel()
                self.stall_timer = None
            super().resume_writing()

    return BoundedProtocol


def without_offer(headers: RawHeaders) -> RawHeaders:
    """Return headers without the offer of another protocol; a server may ignore it (RFC 9110, 7.8)."""
    kept = [(name, value) for name, value in headers if name not in {b"upgrade", b"http2-settings", b"connection"}]
    options = [part.strip() for name, value in headers if name == b"connection" for part in value.split(b",")]
    others = [part for part in options if part.lower() not in {b"upgrade", b"http2-settings"}]
    return [*kept, (b"connection", b", ".join(others))] if others else kept


class QuietServer(uvicorn.Server):
    """uvicorn without its signal handlers: two servers share one process, and the gateway owns its signals."""

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Leave signals alone."""
        yield


def make_server(app: Any, settings: ServerSettings, *, is_admin: bool = False) -> QuietServer:
    """Return a server for an application; it is bound by `bind` and run by `serve`."""
    return QuietServer(
        uvicorn.Config(
            app,
            http=bounded_protocol(settings.header_timeout_s, settings.keep_alive_s),
            loop="none",
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=math.ceil(settings.keep_alive_s),
            timeout_graceful_shutdown=1 if is_admin else math.ceil(settings.shutdown_grace_s),
            backlog=4096,
        )
    )


def bind(host: str, port: int) -> socket.socket:
    """Bind a listening socket. Raises OSError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError:
        listener.close()
        raise
    listener.listen(4096)
    listener.setblocking(False)
    listener.set_inheritable(True)
    return listener
