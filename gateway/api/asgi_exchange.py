"""One request and its answer over ASGI, as uvicorn has it: all that is not hot."""

import asyncio
import logging
from typing import Any

from httptools.parser.url_parser import URL
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle
from uvicorn.protocols.utils import get_local_addr, get_remote_addr

from gateway.api.connection import Connection


class AsgiExchange(RequestResponseCycle):
    """A request and its answer over ASGI."""

    def __init__(self, connection: Connection, path: str, target: URL) -> None:
        super().__init__(
            scope=scope_of(connection, path, target),
            transport=connection.transport,
            flow=connection.flow,
            logger=logging.getLogger("uvicorn.error"),
            access_logger=logging.getLogger("uvicorn.access"),
            access_log=False,
            default_headers=connection.server_state.default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=any(
                name == b"expect" and value.lower() == b"100-continue" for name, value in connection.headers
            ),
            keep_alive=connection.keep_alive,
            on_response=self._end,
        )
        self._connection = connection
        tasks = connection.server_state.tasks
        task = connection.loop.create_task(self.run_asgi(connection.config.loaded_app))
        task.add_done_callback(tasks.discard)
        tasks.add(task)

    def take(self, part: bytes) -> None:
        """Hold a part of the body until the application asks for it; read no more while that is much."""
        self.body += part
        if len(self.body) > HIGH_WATER_LIMIT:
            self.flow.pause_reading()
        self.message_event.set()

    def finish(self) -> None:
        """Tell the application that the body is whole."""
        self.more_body = False
        self.message_event.set()

    def spoil(self) -> None:
        """Have the connection closed after the answer."""
        self.keep_alive = False

    def lose(self) -> None:
        """Tell the application that its client has gone."""
        self.disconnected = True
        self.message_event.set()

    def _end(self) -> None:
        self._connection.end_exchange(keep_alive=self.keep_alive)


def scope_of(connection: Connection, path: str, target: URL) -> Any:
    """Return the request's scope; Any, as uvicorn has types of its own for it."""
    return {
        "type": "http",
        "asgi": {"version": connection.config.asgi_version, "spec_version": "2.3"},
        "http_version": "1.1" if connection.takes_chunks else "1.0",
        "server": get_local_addr(connection.transport),
        "client": get_remote_addr(connection.transport),
        "scheme": "http",
        "method": connection.method.decode("ascii"),
        "root_path": "",
        "path": path,
        "raw_path": target.path or b"/",
        "query_string": target.query or b"",
        "headers": connection.headers,
        "state": connection.app_state.copy(),
    }
