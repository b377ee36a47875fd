"""The contract's headers: what clients may ask for, and what they are told."""

import re
import secrets
from collections.abc import Iterable, Mapping

from gateway.core.clock import Stage
from gateway.core.context import CacheOutcome, RequestContext, Tier, Wishes
from gateway.core.errors import InvalidValueError

RawHeaders = list[tuple[bytes, bytes]]

_SANE_ID = re.compile(r"[\x21-\x7e]{1,128}")
_FORCIBLE = {"weak": Tier.WEAK, "strong": Tier.STRONG}


def read_headers(raw: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """Return headers by lower-case name; of repeated ones the last, but every Cache-Control."""
    headers: dict[str, str] = {}
    for name, value in raw:
        key, text = name.decode("latin-1").lower(), value.decode("latin-1")
        headers[key] = f"{headers[key]},{text}" if key == "cache-control" and key in headers else text
    return headers


def request_id_of(headers: Mapping[str, str]) -> str:
    """Keep the client's id if it is printable ASCII of at most 128 bytes, else make one."""
    given = headers.get("x-request-id", "")
    return given if _SANE_ID.fullmatch(given) else f"req-{secrets.token_hex(12)}"


def wishes_of(headers: Mapping[str, str]) -> Wishes:
    """Read what the client asks for. Raises InvalidValueError for a threshold or tier that is none."""
    scheme, _, token = headers.get("authorization", "").strip().partition(" ")
    return Wishes(
        bearer=token.strip() or None if scheme.lower() == "bearer" else None,
        threshold=_threshold(headers.get("x-postern-threshold")),
        tier=_tier(headers.get("x-postern-tier")),
        session=headers.get("x-postern-session"),
        cache_control=headers.get("cache-control", ""),
    )


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


def response_headers(ctx: RequestContext) -> RawHeaders:
    """Tell the client what was decided; what is not known (yet) is left out."""
    decision = ctx.decision
    outcome = CacheOutcome.HIT if ctx.cache_outcome is CacheOutcome.SHARED else ctx.cache_outcome
    told = {
        "x-request-id": ctx.request_id,
        "x-postern-route": ctx.ladder.name if ctx.ladder else None,
        "x-postern-model": ctx.model,
        "x-postern-tier": ctx.tier,
        "x-postern-score": None if ctx.score is None else f"{ctx.score:.4f}",
        "x-postern-threshold": None if decision is None or decision.threshold is None else f"{decision.threshold:g}",
        "x-postern-reason": ctx.reason,
        "x-postern-cache": outcome if ctx.ladder else None,
        "x-postern-cost-usd": f"{ctx.bill.cost_usd:.9f}" if ctx.bill else None,
        "x-postern-attempts": str(ctx.attempts) if ctx.ladder else None,
        "server-timing": server_timing(ctx),
    }
    return [(name.encode(), value.encode("latin-1", "replace")) for name, value in told.items() if value is not None]


def server_timing(ctx: RequestContext) -> str:
    """Return the stages' durations in milliseconds; `gateway` is all that is not upstream."""
    durations_s = {**ctx.stopwatch.durations_s, Stage.GATEWAY: ctx.overhead_s}
    return ", ".join(f"{stage};dur={seconds * 1000:.3f}" for stage, seconds in durations_s.items())
