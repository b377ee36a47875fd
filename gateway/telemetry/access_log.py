"""The access log: one line a finished request. Every value is a fact about it; nothing was said by client or model."""

import logging
from typing import Any

import msgspec

from gateway.core.clock import Stage
from gateway.core.context import Decision, RequestContext
from gateway.telemetry.log_writer import LogWriter
from gateway.telemetry.logs import LOGGER, TerminalFormatter, log, log_failure

_CLASSIFY = Stage.CLASSIFY


class _Row(msgspec.Struct, frozen=True, gc=False):
    """A request's line, in the order of its fields. A struct, as it is made and encoded in a third of a dict's time."""

    time: str
    level: str
    event: str
    request_id: str
    operation: str
    caller: str | None
    route: str | None
    model: str | None
    tier: str | None
    reason: str | None
    score: float | None
    threshold: float | None
    confidence: float | None
    given_up: str | None
    cache: str
    attempts: int
    is_streaming: bool
    status: str
    phase: str
    prompt_tokens: int | None
    completion_tokens: int | None
    is_estimated: bool | None
    cost_usd: float | None
    baseline_usd: float | None
    ttft_ms: float | None
    duration_ms: float | None
    overhead_ms: float | None
    classify_ms: float | None


class _TracedRow(_Row, frozen=True, gc=False):
    """The line of a request that belongs to a trace."""

    trace_id: str


_encoder = msgspec.json.Encoder()


def log_faults(ctx: RequestContext) -> None:
    """Log what a finished request's client was not told, and at level debug how its model was chosen."""
    if ctx.failure is not None:
        chosen = None if ctx.decision is None else ctx.decision.model
        log_failure(ctx.failure, request_id=ctx.request_id, model=ctx.model or chosen)
    if ctx.decision is not None and LOGGER.isEnabledFor(logging.DEBUG):
        _log_decision(ctx, ctx.decision)


def log_request(ctx: RequestContext) -> None:
    """Log one finished request."""
    log_faults(ctx)
    if not LOGGER.isEnabledFor(logging.INFO):
        return
    for handler in LOGGER.handlers:
        if isinstance(handler, LogWriter):
            handler.put(_line(_row(ctx, handler.stamp()), handler.formatter))
            return
    log("request", **_facts(_row(ctx, "")))


def _log_decision(ctx: RequestContext, decision: Decision) -> None:
    log(
        "decided",
        level=logging.DEBUG,
        request_id=ctx.request_id,
        model=decision.model,
        reason=decision.reason,
        score=ctx.score,
        threshold=decision.threshold,
        escalation=decision.escalation,
        dropped={one.model: one.dropped for one in decision.candidates if one.dropped is not None},
    )


def _line(row: _Row, formatter: logging.Formatter | None) -> bytes:
    if isinstance(formatter, TerminalFormatter):
        return formatter.line(row.time, row.level, row.event, _facts(row)).encode() + b"\n"
    return _encoder.encode(row) + b"\n"


def _facts(row: _Row) -> dict[str, Any]:
    return {name: getattr(row, name) for name in row.__struct_fields__[3:]}


def _row(ctx: RequestContext, stamp: str) -> _Row:
    usage, bill, decision, judgement = ctx.usage, ctx.bill, ctx.decision, ctx.judgement
    confidence = None if ctx.verdict is None else ctx.verdict.confidence
    stopwatch = ctx.stopwatch
    row = _Row(  # by place: 28 names would cost as much again
        stamp,
        "info",
        "request",
        ctx.request_id,
        ctx.operation,
        None if ctx.caller is None else ctx.caller.name,
        None if ctx.ladder is None else ctx.ladder.name,
        ctx.model,
        ctx.tier,
        ctx.reason,
        None if judgement is None else round(judgement.score, 4),
        None if decision is None else decision.threshold,
        None if confidence is None else round(confidence, 4),
        None if ctx.charge is None else ctx.charge.model,
        ctx.cache_outcome,
        ctx.attempts,
        ctx.request is not None and ctx.request.is_streaming,
        ctx.outcome,
        ctx.phase,
        None if usage is None else usage.prompt_tokens,
        None if usage is None else usage.completion_tokens,
        None if usage is None else usage.is_estimated,
        None if bill is None else bill.cost_usd,
        None if bill is None else bill.baseline_usd,
        _ms(ctx.first_token_s),
        _ms(stopwatch.elapsed_s()),
        _ms(ctx.overhead_s),
        _ms(stopwatch.durations_s.get(_CLASSIFY)),
    )
    return row if ctx.trace is None else _TracedRow(*(*msgspec.structs.astuple(row), ctx.trace.trace_id))


def _ms(seconds: float | None) -> float | None:
    """Return milliseconds, to the nearest microsecond: in a third of the time that `round` takes."""
    return None if seconds is None else int(seconds * 1e6 + 0.5) / 1e3
