"""The front: which requests are hot, and how one of them is served. All else goes to Litestar, over ASGI.

Measured: a mounted Litestar app costs 17 µs a request and a route of it 55 to 63, and neither passes bytes on as
they are read nor tells a handler that its client has gone.
"""

import asyncio
from collections import deque

from gateway.api.connection import Connection
from gateway.api.exchange import DirectExchange
from gateway.api.headers import RequestIds, wishes_of
from gateway.api.live import Live
from gateway.core.context import RequestContext
from gateway.core.errors import DrainingError, MethodError, PosternError, internal_error
from gateway.schema.request import Operation
from gateway.telemetry.logs import log_failure
from gateway.telemetry.traces import BeginTrace, pass_on

HOT = {
    b"/v1/chat/completions": Operation.CHAT,
    b"/v1/completions": Operation.COMPLETION,
    b"/v1/embeddings": Operation.EMBEDDING,
}
AT_ONCE = 32
"""How many requests of one turn begin their walks together. More would push each other out of the processor's caches
between two stages: with 500 clients in a closed loop a request took 185 µs, and 157 in batches."""
ALLOW = b"allow: POST\r\n"
"""Which method a hot endpoint takes, as RFC 9110 asks of every 405."""


class Front:
    """The data port's hot endpoints."""

    def __init__(self, live: Live, begin_trace: BeginTrace = pass_on) -> None:
        self._live = live
        self._begin_trace = begin_trace
        self._ids = RequestIds()
        self._waiting: deque[tuple[Connection, Operation, DirectExchange]] = deque()
        self._unbegun = 0

    def open(self, connection: Connection, path: bytes) -> DirectExchange | None:
        """Begin to serve a request whose head has come, if its path is hot."""
        operation = HOT.get(path)
        if operation is None:
            return None
        settings = self._live.settings
        exchange = DirectExchange(connection, settings.limits.max_body_bytes, settings.server.body_timeout_s)
        exchange.extra_lines = self._live.fleet_line
        if self._unbegun < AT_ONCE and not self._waiting:
            self._start(connection, operation, exchange)
        else:
            if not self._waiting:
                connection.loop.call_soon(self._start_more, connection.loop)
            self._waiting.append((connection, operation, exchange))
        return exchange

    def _start_more(self, loop: asyncio.AbstractEventLoop) -> None:
        """Start the next batch: all that were started before have begun by now."""
        self._unbegun = 0
        for _ in range(min(len(self._waiting), AT_ONCE)):
            self._start(*self._waiting.popleft())
        if self._waiting:
            loop.call_soon(self._start_more, loop)

    def _start(self, connection: Connection, operation: Operation, exchange: DirectExchange) -> None:
        self._unbegun += 1
        connection.server_state.tasks.add(connection.loop.create_task(self._serve(operation, exchange)))

    async def _serve(self, operation: Operation, exchange: DirectExchange) -> None:
        self._unbegun -= 1
        exchange.begin_walk()
        ctx = RequestContext(operation, self._ids.id_of(exchange.headers))
        self._begin_trace(ctx, exchange.headers)
        pipeline = self._live.pipeline
        try:
            try:
                self._read_head(ctx, exchange)
            except PosternError as fault:
                await pipeline.refuse(ctx, exchange, fault)
            else:
                await pipeline.walk(ctx, exchange)
        except asyncio.CancelledError:
            # Either the client has gone, and nobody is left to tell; or the server's grace has ended, and the client
            # learns why its stream breaks off. Nobody waits for this task: it may end in peace.
            if not exchange.has_gone:
                self._live.cut += 1
                await exchange.fail(ctx, DrainingError("The gateway is shutting down."))
        except Exception as exc:  # noqa: BLE001 - a task's supervisor: the walk told the client; telling may fail too
            log_failure(internal_error(exc), request_id=ctx.request_id)
        finally:
            await exchange.close()

    @staticmethod
    def _read_head(ctx: RequestContext, exchange: DirectExchange) -> None:
        """Read what the client wishes for. Raises PosternError."""
        if exchange.method != b"POST":
            exchange.extra_lines += ALLOW
            raise MethodError("Use POST here.")
        ctx.wishes = wishes_of(exchange.headers)
