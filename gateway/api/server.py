"""The HTTP server: uvicorn with uvloop and httptools, and a deadline for slow senders of headers.

uvicorn tells of disconnects at every phase but waits for ever for the end of a request's head, and takes heads of
any size; `BoundedProtocol` mends both. Conformance is tested in `tests/faults/`.
"""

import asyncio
import socket
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from gateway.settings.service import ServerSettings

MAX_HEAD_BYTES = 65_536
"""Request line and headers. nginx takes 8 KB a header and 32 KB in all."""

TOO_SLOW = b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
TOO_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"


def bounded_protocol(header_timeout_s: float) -> type[HttpToolsProtocol]:
    """Return uvicorn's protocol, which hangs up on heads that come too slowly or grow too large."""

    class BoundedProtocol(HttpToolsProtocol):
        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self.head_bytes = 0
            self.is_in_head = True
            self.head_timer = self.loop.call_later(header_timeout_s, self.hang_up, TOO_SLOW)

        def connection_lost(self, exc: Exception | None) -> None:
            self.head_timer.cancel()
            super().connection_lost(exc)

        def data_received(self, data: bytes) -> None:
            # Bodies are counted where they are read; only what comes before them is counted here.
            self.head_bytes += len(data) if self.is_in_head else 0
            super().data_received(data)
            if self.is_in_head and self.head_bytes > MAX_HEAD_BYTES:
                self.hang_up(TOO_LARGE)

        def on_message_begin(self) -> None:
            self.is_in_head = True
            self.head_bytes = 0
            self.head_timer.cancel()
            self.head_timer = self.loop.call_later(header_timeout_s, self.hang_up, TOO_SLOW)
            super().on_message_begin()

        def on_headers_complete(self) -> None:
            self.is_in_head = False
            self.head_timer.cancel()
            super().on_headers_complete()

        def hang_up(self, farewell: bytes) -> None:
            if not self.transport.is_closing():
                self.transport.write(farewell)
                self.transport.close()

    return BoundedProtocol


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
            http=bounded_protocol(settings.header_timeout_s),
            loop="none",
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=int(settings.keep_alive_s),
            timeout_graceful_shutdown=1 if is_admin else int(settings.shutdown_grace_s),
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
