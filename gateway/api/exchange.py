"""One hot request and its answer, straight on the connection: the walk's client, with no ASGI in between.

Owns how a body is collected and how an answer is written; knows neither the walk nor when a connection ends.
"""

import asyncio
from contextlib import suppress

from gateway.api.body import LINGER_IDLE_S, LINGER_S, check_declared, decode_body, too_large
from gateway.api.connection import Connection
from gateway.api.errors import error_body, error_bytes, error_lines
from gateway.api.headers import read_headers, response_lines
from gateway.core.context import RequestContext
from gateway.core.errors import BodyTimeoutError, DrainingError, InvalidRequestError, PosternError
from gateway.schema.request import Request
from gateway.schema.sse import event_of

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
JSON = b"content-type: application/json\r\n"
CHUNKED = b"transfer-encoding: chunked\r\n"
CLOSE = b"connection: close\r\n"
# no-transform and x-accel-buffering keep proxies in front of the gateway from holding chunks back.
EVENT_STREAM = (
    b"content-type: text/event-stream; charset=utf-8\r\n"
    b"cache-control: no-cache, no-transform\r\n"
    b"x-accel-buffering: no\r\n"
)
FAREWELL_S = 1.0
"""How long an error may take to be sent to a client that does not read."""


class DirectExchange:
    """One request's client. Its going away cancels the walk's task at once, whatever that waits for."""

    __slots__ = (
        "_body",
        "_body_timeout_s",
        "_connection",
        "_has_begun",
        "_has_ended",
        "_is_lingering",
        "_is_spoilt",
        "_is_whole",
        "_max_body_bytes",
        "_size",
        "_task",
        "_waiter",
        "extra_lines",
        "has_gone",
        "headers",
        "keep_alive",
        "method",
    )

    def __init__(self, connection: Connection, max_body_bytes: int, body_timeout_s: float) -> None:
        self._connection = connection
        self._max_body_bytes = max_body_bytes
        self._body_timeout_s = body_timeout_s
        self.method = connection.method
        self.headers = read_headers(connection.headers)
        self.keep_alive = connection.keep_alive
        self.extra_lines = b""
        self.has_gone = False
        self._task: asyncio.Task[None] | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._body: bytes | bytearray = b""
        self._size = 0
        self._is_whole = self._is_spoilt = False
        self._has_begun = self._has_ended = self._is_lingering = False

    # What the connection tells.

    def take(self, part: bytes) -> None:
        """Take a part of the body; one that nobody wants any more is thrown away."""
        self._size += len(part)
        if self._has_begun or self._size > self._max_body_bytes:
            self._body = b""
            self._wake()
        elif not self._body:
            self._body = part
        else:
            # No list of parts: of 10 MiB in chunks of one byte it would make 400.
            if isinstance(self._body, bytes):
                self._body = bytearray(self._body)
            self._body += part

    def finish(self) -> None:
        """Take note that the body is whole."""
        self._is_whole = True
        self._wake()

    def spoil(self) -> None:
        """Take note that nothing more will be read; after the answer the connection closes."""
        self.keep_alive = False
        self._is_spoilt = True
        self._wake()

    def lose(self) -> None:
        """Take note that the client has gone, and stop the walk."""
        if self.has_gone:  # told of the end of what it sends, then of the connection's: a task is cancelled once
            return
        self.has_gone = True
        # A task cancelled before its first step never takes one, and would not account for itself: `receive` stops it.
        if self._task is not None and not self._has_ended:
            self._task.cancel()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # What the walk asks.

    async def receive(self, ctx: RequestContext) -> Request:
        """Read and decode the body. Raises InvalidRequestError."""
        if not self._is_whole:
            await self._read()
        if self.has_gone:
            raise asyncio.CancelledError("the client went away")
        if self._size > self._max_body_bytes:
            raise too_large(self._max_body_bytes)
        body, self._body = self._body, b""
        ctx.stopwatch.skip()
        return decode_body(ctx.operation, bytes(body))

    async def _read(self) -> None:
        check_declared(self.headers, self._max_body_bytes)
        if self.headers.get("expect", "").lower() == "100-continue" and self._connection.takes_chunks:
            self._write(CONTINUE)
        if not (self._is_spoilt or self.has_gone or self._size > self._max_body_bytes):
            try:
                with self._connection.wheel.within(self._body_timeout_s):
                    await self._hear()
            except TimeoutError as exc:
                raise BodyTimeoutError(f"The body did not come within {self._body_timeout_s:g} s.") from exc
        if self._is_spoilt:
            raise InvalidRequestError("The body is not sent as HTTP has it.")

    async def _hear(self) -> None:
        self._waiter = self._connection.loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None  # a cancelled one holds its traceback, and that this exchange

    @property
    def is_taking(self) -> bool:
        """Tell whether nothing sent before is still held back."""
        return not self._connection.flow.write_paused

    async def answer(self, ctx: RequestContext, body: bytes) -> None:
        """Send a whole JSON body."""
        if self._connection.flow.write_paused:
            await self._connection.flow.drain()
        self._write_whole(200, response_lines(ctx), body)
        self._end()

    async def begin(self, ctx: RequestContext) -> None:
        """Send the head of a stream."""
        if self._connection.flow.write_paused:
            await self._connection.flow.drain()
        self._has_begun = True
        how = CHUNKED if self._connection.takes_chunks else b""
        self._write(b"".join((self._head(200), response_lines(ctx), EVENT_STREAM, how, b"\r\n")))

    async def send(self, block: bytes) -> None:
        """Send a block; waits while the socket is full."""
        if self._connection.flow.write_paused:
            await self._connection.flow.drain()
        self.offer(block)

    def offer(self, block: bytes) -> bool:
        """Send a block; false while the socket is full."""
        connection = self._connection
        if block and not self.has_gone:
            connection.transport.write(b"%x\r\n%b\r\n" % (len(block), block) if connection.takes_chunks else block)
        return not connection.flow.write_paused

    async def end(self) -> None:
        """Close the stream."""
        if self._connection.takes_chunks:
            self._write(b"0\r\n\r\n")
        self._end()

    async def fail(self, ctx: RequestContext, error: PosternError) -> None:
        """Send an error: as a response, or as an event where a stream has begun (official clients raise on it)."""
        try:
            with self._connection.wheel.within(FAREWELL_S):
                await self._connection.flow.drain()
        except TimeoutError:
            return
        if self._has_begun:
            await self.send(event_of(error_body(error)))
            await self.end()
        else:
            self._refuse(ctx, error)

    def _refuse(self, ctx: RequestContext, error: PosternError) -> None:
        # Part of the body may still be on its way; it must not be taken for the next request.
        self.keep_alive = self.keep_alive and self._is_whole and self._size <= self._max_body_bytes
        if isinstance(error, DrainingError):
            self.keep_alive = False  # a load balancer must not send its next request here
        self._write_whole(error.status, response_lines(ctx) + error_lines(error), error_bytes(error))
        if self._is_whole or self._is_spoilt:
            self._end()
        else:
            self._is_lingering = True

    def _write_whole(self, status: int, lines: bytes, body: bytes) -> None:
        self._has_begun = True
        length = b"content-length: %d\r\n\r\n" % len(body)
        body = b"" if self.method == b"HEAD" else body
        self._write(b"".join((self._head(status), lines, JSON, length, body)))

    def _head(self, status: int) -> bytes:
        lines = self._connection.status_line(status) + self.extra_lines
        return lines if self.keep_alive else lines + CLOSE

    def _write(self, data: bytes) -> None:
        if not self.has_gone:
            self._connection.transport.write(data)

    def _end(self) -> None:
        self._has_ended = True
        if not self.has_gone:
            self._connection.end_exchange(keep_alive=self.keep_alive)

    # What whoever serves it does.

    def begin_walk(self) -> None:
        """From here on the client's going away cancels the running task."""
        self._task = asyncio.current_task(self._connection.loop)  # to look for the loop is a system call

    async def close(self) -> None:
        """Let a client whose body was refused finish sending it; hang up on one that was not answered to the end."""
        try:
            if self._is_lingering:
                await self._linger()
        finally:
            if self._task is not None:
                self._connection.server_state.tasks.discard(self._task)
            self._task = None
            if not self._has_ended:
                self.keep_alive = False
                self._end()

    async def _linger(self) -> None:
        """Hear the rest of a body that was answered unread, and throw it away.

        Closing a connection with bytes unread resets it, and the client loses the answer (RFC 9112, 9.6).
        """
        wheel = self._connection.wheel
        with suppress(TimeoutError), wheel.within(LINGER_S):
            while not self._is_whole and not self._is_spoilt:
                with wheel.within(LINGER_IDLE_S):
                    await self._hear()
