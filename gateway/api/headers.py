"""The contract's headers: what clients may ask for, and what they are told."""

import os
import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Final

from gateway.core.clock import Stage
from gateway.core.context import CacheOutcome, RequestContext, Tier, Wishes
from gateway.core.errors import InvalidValueError

RawHeaders = list[tuple[bytes, bytes]]

ID_BYTES: Final = 12
REQUEST_ID: Final = "request_id"
"""Where the state of a request over ASGI holds its id."""
_GATEWAY: Final = Stage.GATEWAY
_SANE_ID = re.compile(r"[\x21-\x7e]{1,128}")
_FORCIBLE = {"weak": Tier.WEAK, "strong": Tier.STRONG}
_READ: Final = {
    name.encode(): name
    for name in (
        "authorization",
        "cache-control",
        "content-length",
        "expect",
        "traceparent",
        "tracestate",
        "x-postern-session",
        "x-postern-threshold",
        "x-postern-tier",
        "x-request-id",
    )
}
"""The headers that the gateway reads; official clients send a dozen more, and each costs its decoding."""
_LISTS: Final = frozenset({"cache-control", "traceparent", "tracestate"})
"""Of `traceparent` there may be one only: joined, several are none that is read."""


def read_headers(raw: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """Return the headers that are read, by lower-case name; of repeated ones the last, but all of those in `_LISTS`.

    The names given are in lower case.
    """
    headers: dict[str, str] = {}
    for name, value in raw:
        key = _READ.get(name)
        if key is not None:
            text = value.decode("latin-1")
            headers[key] = f"{headers[key]},{text}" if key in headers and key in _LISTS else text
    return headers


class RequestIds:
    """Give requests their ids. Randomness is drawn for many at once: for each alone it is a system call."""

    def __init__(self, drawn: int = 64) -> None:
        self._drawn_bytes = drawn * ID_BYTES
        self._made: list[str] = []

    def id_of(self, headers: Mapping[str, str]) -> str:
        """Keep the client's id if it is printable ASCII of at most 128 bytes, else make one."""
        given = headers.get("x-request-id")
        if given and _SANE_ID.fullmatch(given):
            return given
        if not self._made:
            drawn = os.urandom(self._drawn_bytes).hex()
            self._made = [f"req-{drawn[at : at + 2 * ID_BYTES]}" for at in range(0, len(drawn), 2 * ID_BYTES)]
        return self._made.pop()


def request_id_of(headers: Mapping[str, str]) -> str:
    """Return the id of a request that comes alone, as `RequestIds` would."""
    return RequestIds(1).id_of(headers)


def wishes_of(headers: Mapping[str, str]) -> Wishes:
    """Read what the client asks for. Raises InvalidValueError for a threshold or tier that is none."""
    authorization = headers.get("authorization")
    return Wishes(
        bearer=None if authorization is None else _bearer(authorization),
        threshold=_threshold(headers.get("x-postern-threshold")),
        tier=_tier(headers.get("x-postern-tier")),
        session=headers.get("x-postern-session"),
        cache_control=headers.get("cache-control", ""),
    )


def _bearer(authorization: str) -> str | None:
    scheme, _, token = authorization.strip().partition(" ")
    return token.strip() or None if scheme.lower() == "bearer" else None


def _threshold(value: str | None) -> float | None:
    if value is None:
        return None
    try:
        threshold = float(value)
    except ValueError:
        threshold = -1.0
    if not 0 <= threshold <= 1 or "_" in value:  # Python reads `0_1` as 1
        raise InvalidValueError("x-postern-threshold is a number from 0 to 1.", param="x-postern-threshold")
    return threshold


def _tier(value: str | None) -> Tier | None:
    if value is None:
        return None
    tier = _FORCIBLE.get(value.strip().lower())
    if tier is None:
        raise InvalidValueError("x-postern-tier is `weak` or `strong`.", param="x-postern-tier")
    return tier


def response_lines(ctx: RequestContext) -> bytes:
    """Tell the client what was decided, in lines as they are sent; what is not known (yet) is left out."""
    lines = f"x-request-id: {ctx.request_id}\r\n"
    if ctx.ladder is not None:
        lines += _decided(ctx.ladder.name, ctx.model, ctx.tier, ctx.reason, ctx.cache_outcome, ctx.attempts)
    if ctx.judgement is not None:
        lines += f"x-postern-score: {ctx.judgement.score:.4f}\r\n"
    if ctx.decision is not None and ctx.decision.threshold is not None:
        lines += f"x-postern-threshold: {ctx.decision.threshold:g}\r\n"
    if ctx.bill is not None:
        lines += f"x-postern-cost-usd: {ctx.bill.cost_usd:.9f}\r\n"
    # Names of routes and models may hold any printable characters.
    return f"{lines}server-timing: {server_timing(ctx)}\r\n".encode("latin-1", "replace")


@lru_cache(1024)  # every value is from a closed set, and few of their combinations are in use: 0.2 µs instead of 1.2
def _decided(
    route: str, model: str | None, tier: Tier | None, reason: str | None, cache: CacheOutcome, attempts: int
) -> str:
    told = {
        "route": route,
        "model": model,
        "tier": tier,
        "reason": reason,
        "cache": CacheOutcome.HIT if cache is CacheOutcome.SHARED else cache,
        "attempts": attempts,
    }
    return "".join(f"x-postern-{name}: {value}\r\n" for name, value in told.items() if value is not None)


def server_timing(ctx: RequestContext) -> str:
    """Return the stages' durations in milliseconds; `gateway` is all that is not upstream."""
    durations_ms = {stage: seconds * 1000 for stage, seconds in ctx.stopwatch.durations_s.items()}
    durations_ms[_GATEWAY] = ctx.overhead_s * 1000
    return _timing_form(tuple(durations_ms)) % tuple(durations_ms.values())


@lru_cache(64)  # the stages of a request are always the same few
def _timing_form(stages: tuple[Stage, ...]) -> str:
    return ", ".join(f"{stage};dur=%.3f" for stage in stages)
