"""A request's place in a distributed trace: W3C's headers, read strictly and written, and what a trace is made of.

Knows neither OpenTelemetry nor who exports. Source: https://www.w3.org/TR/trace-context/.
"""

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final

import msgspec

from gateway.core.clock import monotonic_s

TRACEPARENT: Final = "traceparent"
TRACESTATE: Final = "tracestate"
MAX_STATE_CHARACTERS: Final = 512
"""What every participant must be able to pass on; a longer one is left out, as the specification allows."""

SAMPLED: Final = 1
_KNOWN_FLAGS: Final = 3
"""Sampled, and that the trace id is random; what later versions mean by others is not ours to pass on."""

_PARENT = re.compile(r"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_KEY = r"[a-z0-9][a-z0-9_\-*/]{0,240}(?:@[a-z][a-z0-9_\-*/]{0,13})?"
_MEMBER = re.compile(rf"{_KEY}=[\x20-\x2b\x2d-\x3c\x3e-\x7e]{{0,255}}[\x21-\x2b\x2d-\x3c\x3e-\x7e]")
_MAX_MEMBERS = 32


class Parent(msgspec.Struct, frozen=True, gc=False):
    """The span that a client told of."""

    trace_id: str
    span_id: str
    flags: int
    state: str = ""

    @property
    def is_sampled(self) -> bool:
        """Tell whether the client records this trace."""
        return bool(self.flags & SAMPLED)


def read_parent(headers: Mapping[str, str]) -> Parent | None:
    """Return what a client's headers say; None where they say nothing, or nothing that the standard allows.

    Text that is not in the standard's form would go on to upstreams, into logs and traces.
    """
    given = headers.get(TRACEPARENT)
    found = None if given is None else _PARENT.fullmatch(given.strip(" \t"))
    if found is None:
        return None
    version, trace_id, span_id, flags, more = found.groups()
    if more is not None and version == "00":
        return None
    return Parent(trace_id, span_id, int(flags, 16) & _KNOWN_FLAGS, _read_state(headers.get(TRACESTATE, "")))


def _read_state(given: str) -> str:
    if len(given) > MAX_STATE_CHARACTERS:
        return ""
    members = [member for part in given.split(",") if (member := part.strip(" \t"))]
    if len(members) > _MAX_MEMBERS or not all(map(_MEMBER.fullmatch, members)):
        return ""
    return ",".join(members)


def trace_headers(trace_id: str, span_id: str, flags: int, state: str) -> dict[str, str]:
    """Return the headers under which an upstream continues the trace below a span."""
    parent = f"00-{trace_id}-{span_id}-{flags:02x}"
    return {TRACEPARENT: parent, TRACESTATE: state} if state else {TRACEPARENT: parent}


class Attempt(msgspec.Struct, eq=False):
    """One call to an upstream. `outcome`: `ok` once its answer began, else the error's code or `cancelled`.

    Times are the monotonic clock's; `ended_s` is None while the answer is still read.
    """

    model: str
    url: str
    span_id: str
    began_s: float
    answered_s: float | None = None
    ended_s: float | None = None
    outcome: str = "cancelled"
    finish_reasons: Sequence[str] = ()

    def fail(self, outcome: str) -> None:
        """Take note that no answer came."""
        self.outcome, self.ended_s = outcome, monotonic_s()

    def answer(
        self, close: Callable[[], Awaitable[None]], finish_reasons: Callable[[], Sequence[str]]
    ) -> Callable[[], Awaitable[None]]:
        """Take note that the answer has begun; return its `close`, which takes note of the end."""
        self.outcome, self.answered_s = "ok", monotonic_s()

        async def close_and_note() -> None:
            if self.ended_s is None:
                self.ended_s, self.finish_reasons = monotonic_s(), finish_reasons()
            await close()

        return close_and_note


class Trace(msgspec.Struct, eq=False):
    """The trace that a request belongs to. `span_id`: the request's own span, or its client's where none is recorded.

    `began_ns`: when it began, since 1970; `draw_id` gives a span its id, as upstreams are told it before it ends.
    """

    trace_id: str
    span_id: str
    flags: int = 0
    state: str = ""
    parent_id: str = ""
    is_recorded: bool = False
    began_ns: int = 0
    draw_id: Callable[[], str] = str
    attempts: list[Attempt] = msgspec.field(default_factory=list)

    def begin(self, model: str, url: str) -> Attempt | None:
        """Begin an attempt; None where nobody records it."""
        if not self.is_recorded:
            return None
        attempt = Attempt(model, url, self.draw_id(), monotonic_s())
        self.attempts.append(attempt)
        return attempt

    def headers(self, span_id: str | None = None) -> dict[str, str]:
        """Return the headers for a call, below a span of ours or below the request's."""
        return trace_headers(self.trace_id, span_id or self.span_id, self.flags, self.state)
