"""The HTTP server: uvicorn's life of a server, its loop uvloop's, its connections ours."""

import math
import socket
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import partial
from typing import Any, cast

import uvicorn

from gateway.api.asgi_exchange import AsgiExchange
from gateway.api.connection import Connection, Exchange, Port
from gateway.core.deadlines import Wheel
from gateway.settings.service import ServerSettings

OpenHot = Callable[[Connection, bytes], Exchange | None]


class QuietServer(uvicorn.Server):
    """uvicorn without its signal handlers: two servers share one process, and the gateway owns its signals."""

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Leave signals alone."""
        yield


def make_server(
    app: Any, settings: ServerSettings, open_hot: OpenHot | None = None, wheel: Wheel | None = None
) -> QuietServer:
    """Return a server for an application; it is bound by `bind` and run by `serve`.

    `open_hot` opens the exchange of a request that the application need not see. Without it nobody waits for long
    for the server to stop: nothing of it takes long.
    """
    bounds = (settings.header_timeout_s, settings.keep_alive_s)
    port = Port(*bounds, open_hot or (lambda *_: None), AsgiExchange, wheel or Wheel())
    return QuietServer(
        uvicorn.Config(
            app,
            http=cast("Any", partial(Connection, port)),
            loop="none",
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=1 if open_hot is None else math.ceil(settings.shutdown_grace_s),
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
