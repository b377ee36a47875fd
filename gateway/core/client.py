"""Whoever sent the request, as the walk sees them: something to read from, answer to, and fail at."""

from typing import Protocol

from gateway.core.context import RequestContext
from gateway.core.errors import PosternError
from gateway.schema.request import Request


class Asker(Protocol):
    """Whoever only asks what would be decided."""

    async def receive(self, ctx: RequestContext) -> Request:
        """Read the request to its end. Raises InvalidRequestError."""
        ...


class Client(Asker, Protocol):
    """Whoever sent the request, as the walk sees them."""

    @property
    def is_taking(self) -> bool:
        """Tell whether a whole answer can be sent now, with no wait."""
        ...

    async def answer(self, ctx: RequestContext, body: bytes) -> None:
        """Send a whole answer."""
        ...

    async def begin(self, ctx: RequestContext) -> None:
        """Begin a stream."""
        ...

    async def send(self, block: bytes) -> None:
        """Send a block of a stream; waits while the client reads slowly."""
        ...

    def offer(self, block: bytes) -> bool:
        """Send a block of a stream without waiting; false where whoever sends should wait before the next."""
        ...

    async def end(self) -> None:
        """End a stream."""
        ...

    async def fail(self, ctx: RequestContext, error: PosternError) -> None:
        """Send an error, inside the stream where one has begun."""
        ...
