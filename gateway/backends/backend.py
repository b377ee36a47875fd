"""The upstream seam. Tests inject here; every kind of backend implements it."""

from collections.abc import Mapping
from typing import Protocol

import msgspec

from gateway.core.reply import Reply
from gateway.core.trace import Trace
from gateway.schema.request import Request


class Call(msgspec.Struct, frozen=True):
    """One request to one model. `deadline_s`, on the event loop's clock, bounds it as a whole.

    `trace_headers` go to the model's server, by HTTP or as gRPC's metadata: the trace that this call belongs to.
    """

    request: Request
    request_id: str
    deadline_s: float
    trace: Trace | None = None
    trace_headers: Mapping[str, str] = {}


class Health(msgspec.Struct, frozen=True):
    """How a replica said that it is. None where it does not tell.

    `waiting` and `running` count requests, ours and others'; `kv_cache_usage` is a share, 0 to 1.
    """

    is_ready: bool = True
    waiting: int | None = None
    running: int | None = None
    kv_cache_usage: float | None = None
    problem: str | None = None


class BackendLoadError(Exception):
    """A model can't be served as it is configured: a file that can't be used, or a missing extra.

    `key` is the setting at fault, below the model's own entry.
    """

    def __init__(self, key: str, problem: str, remedy: str) -> None:
        super().__init__(f"{key}: {problem}; {remedy}")
        self.key = key
        self.problem = problem
        self.remedy = remedy


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

    async def look(self) -> Health | None:
        """Ask the replica how it is; None where there is nobody to ask. Never raises but for a cancellation.

        Asked every `watch.interval_s`, from the moment the replica is first served from.
        """
        ...

    async def close(self) -> None:
        """Let go of every connection."""
        ...
