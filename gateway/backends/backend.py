"""The upstream seam: one method. Tests inject here; every kind of backend implements it."""

from typing import Protocol

import msgspec

from gateway.core.reply import Reply
from gateway.schema.request import Request


class Call(msgspec.Struct, frozen=True):
    """One request to one model. `deadline_s`, on the event loop's clock, bounds it as a whole."""

    request: Request
    request_id: str
    deadline_s: float


class Backend(Protocol):
    """A replica of a model."""

    url: str

    async def open(self, call: Call) -> Reply:
        """Call the model and return once its answer has begun.

        A streamed reply's blocks hold whole events only and end with `[DONE]`; whatever breaks off raises. Raises
        `UpstreamError` when it failed before the first byte, `UpstreamRejectionError` when the request is at fault.
        Cancelling stops the work upstream.
        """
        ...

    async def close(self) -> None:
        """Let go of every connection."""
        ...
