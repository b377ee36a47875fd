"""Logs: one event a line, JSON for machines or readable on a terminal. Never a prompt, an answer or a key."""

import logging
import os
import sys
import time
from typing import Any

import msgspec

from gateway.core.clock import Stage
from gateway.core.context import RequestContext
from gateway.core.errors import InternalError, PosternError

LOGGER = logging.getLogger("postern")
_FIELDS = "postern_fields"


def log(event: str, *, level: int = logging.INFO, exc_info: BaseException | None = None, **fields: Any) -> None:
    """Log an event by its snake_case name, with fields."""
    if LOGGER.isEnabledFor(level):
        LOGGER.log(level, event, extra={_FIELDS: fields}, exc_info=exc_info)


class JsonFormatter(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        row = {"time": _time(record), "level": record.levelname.lower(), "event": record.getMessage()}
        row |= getattr(record, _FIELDS, {})
        if record.exc_info:
            row["traceback"] = self.formatException(record.exc_info)
        return msgspec.json.encode(row, enc_hook=str).decode()


class TerminalFormatter(logging.Formatter):
    """A line for people: time, event, fields."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        fields = " ".join(f"{name}={value}" for name, value in getattr(record, _FIELDS, {}).items())
        line = f"{_time(record)[11:19]} {record.levelname.lower():7} {record.getMessage()} {fields}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line.rstrip()


def _time(record: logging.LogRecord) -> str:
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
    return f"{stamp}.{int(record.msecs):03d}Z"


def set_up_logs(*, is_json: bool | None = None) -> None:
    """Log to standard error; as JSON unless that is a terminal."""
    # gRPC's core writes lines of its own, read from its environment when it is loaded.
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    handler = logging.StreamHandler()
    as_json = not sys.stderr.isatty() if is_json is None else is_json
    handler.setFormatter(JsonFormatter() if as_json else TerminalFormatter())
    LOGGER.handlers[:] = [handler]
    LOGGER.setLevel(logging.INFO)
    LOGGER.propagate = False
    for name in ("uvicorn", "uvicorn.error"):
        logger = logging.getLogger(name)
        logger.handlers[:] = [handler]
        logger.setLevel(logging.WARNING)
        logger.propagate = False


def log_request(ctx: RequestContext) -> None:
    """Log one finished request. Every value is a fact about it; nothing in it was said by the client or a model."""
    if ctx.failure is not None:
        log_failure(ctx.failure, request_id=ctx.request_id)
    if not LOGGER.isEnabledFor(logging.INFO):
        return
    usage, bill = ctx.usage, ctx.bill
    log(
        "request",
        request_id=ctx.request_id,
        operation=ctx.operation,
        caller=ctx.caller.name if ctx.caller else None,
        route=ctx.ladder.name if ctx.ladder else None,
        model=ctx.model,
        tier=ctx.tier,
        reason=ctx.reason,
        score=None if ctx.score is None else round(ctx.score, 4),
        threshold=ctx.decision.threshold if ctx.decision else None,
        confidence=round(ctx.verdict.confidence, 4) if ctx.verdict and ctx.verdict.confidence is not None else None,
        given_up=ctx.charge.model if ctx.charge else None,
        cache=ctx.cache_outcome,
        attempts=ctx.attempts,
        is_streaming=bool(ctx.request and ctx.request.is_streaming),
        status=ctx.outcome,
        phase=ctx.phase,
        prompt_tokens=usage.prompt_tokens if usage else None,
        completion_tokens=usage.completion_tokens if usage else None,
        is_estimated=usage.is_estimated if usage else None,
        cost_usd=bill.cost_usd if bill else None,
        baseline_usd=bill.baseline_usd if bill else None,
        ttft_ms=_ms(ctx.first_token_s),
        duration_ms=_ms(ctx.stopwatch.elapsed_s()),
        overhead_ms=_ms(ctx.overhead_s),
        classify_ms=_ms(ctx.stopwatch.durations_s.get(Stage.CLASSIFY)),
    )


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 3)


def log_failure(error: PosternError, request_id: str | None = None) -> None:
    """Log what a client was not told of a fault of ours or of an upstream."""
    where = {} if request_id is None else {"request_id": request_id}
    if isinstance(error, InternalError):
        log("internal_error", level=logging.ERROR, exc_info=error.__cause__, detail=error.detail, **where)
    elif error.detail is not None:
        log("upstream_fault", level=logging.WARNING, exc_info=None, code=error.code, detail=error.detail, **where)
