"""The client of one request, over ASGI: reads its body, sends it bytes as they come, and notices when it goes away."""

import asyncio
from contextlib import suppress

from gateway.api.asgi import Receive, Send
from gateway.api.body import decode_body, drain, read_body
from gateway.api.errors import error_body, error_bytes, error_headers
from gateway.api.headers import RawHeaders, response_headers
from gateway.core.context import RequestContext
from gateway.core.errors import PosternError
from gateway.schema.request import Request
from gateway.schema.sse import event_of

JSON = (b"content-type", b"application/json")
# no-transform and x-accel-buffering keep proxies in front of the gateway from holding chunks back.
EVENT_STREAM: RawHeaders = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache, no-transform"),
    (b"x-accel-buffering", b"no"),
]
FAREWELL_S = 1.0
"""How long an error may take to be sent to a client that does not read."""


class AsgiClient:
    """One request's client.

    From the end of its body on, a watcher waits for the client to go away and cancels the walk's task then:
    within one turn of the event loop, whatever the walk waits for.
    """

    def __init__(
        self, receive: Receive, send: Send, headers: dict[str, str], *, max_body_bytes: int, body_timeout_s: float
    ) -> None:
        self._receive = receive
        self._send = send
        self._headers = headers
        self._max_body_bytes = max_body_bytes
        self._body_timeout_s = body_timeout_s
        self._watcher: asyncio.Task[None] | None = None
        self._has_begun = False
        self._has_ended = False
        self._is_lingering = False
        self.extra_headers: RawHeaders = []
        self.has_gone = False

    async def receive(self, ctx: RequestContext) -> Request:
        """Read and decode the body, then watch."""
        try:
            body = await read_body(self._receive, self._headers, self._max_body_bytes, self._body_timeout_s)
        except asyncio.CancelledError:
            self.has_gone = True
            raise
        ctx.stopwatch.skip()
        task = asyncio.current_task()
        if task is not None:
            self._watcher = asyncio.create_task(self._watch(task))
        return decode_body(ctx.operation, body)

    async def _watch(self, walk: "asyncio.Task[None]") -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        if not self._has_ended:
            self.has_gone = True
            walk.cancel()

    async def answer(self, ctx: RequestContext, body: bytes) -> None:
        """Send a whole JSON body."""
        await self._start(200, [*response_headers(ctx), JSON, (b"content-length", b"%d" % len(body))])
        await self._finish(body)

    async def begin(self, ctx: RequestContext) -> None:
        """Send the head of a stream."""
        await self._start(200, [*response_headers(ctx), *EVENT_STREAM])

    async def send(self, block: bytes) -> None:
        """Send a block; waits while the socket is full."""
        if block:
            await self._send({"type": "http.response.body", "body": block, "more_body": True})

    async def end(self) -> None:
        """Close the stream."""
        await self._finish(b"")

    async def fail(self, ctx: RequestContext, error: PosternError) -> None:
        """Send an error: as a response, or as an event where a stream has begun (official clients raise on it)."""
        with suppress(TimeoutError):
            async with asyncio.timeout(FAREWELL_S):
                if self._has_begun:
                    await self._finish(event_of(error_body(error)))
                else:
                    await self._refuse(ctx, error)

    async def _refuse(self, ctx: RequestContext, error: PosternError) -> None:
        body = error_bytes(error)
        headers = [*response_headers(ctx), *error_headers(error), JSON, (b"content-length", b"%d" % len(body))]
        if self._watcher is not None or await drain(self._receive, 0):
            await self._start(error.status, headers)
            await self._finish(body)
            return
        # Part of the body may still be on its way; it must not be taken for the next request.
        await self._start(error.status, [*headers, (b"connection", b"close")])
        await self.send(body)
        self._is_lingering = True

    async def _start(self, status: int, headers: RawHeaders) -> None:
        self._has_begun = True
        headers.extend(self.extra_headers)
        await self._send({"type": "http.response.start", "status": status, "headers": headers})

    async def _finish(self, body: bytes) -> None:
        # Before the send: once the last byte is out the server reports a disconnect that means nothing.
        self._has_ended = True
        await self._send({"type": "http.response.body", "body": body, "more_body": False})

    async def close(self) -> None:
        """Stop watching; let a client whose body was refused finish sending it."""
        if self._is_lingering:
            await drain(self._receive)
            await self._finish(b"")
        if self._watcher is not None:
            self._watcher.cancel()
            await asyncio.wait({self._watcher})
