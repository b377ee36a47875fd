"""Traces: which requests are recorded, and what spans a finished one becomes.

Spans are made of the request's context after it has ended, as metrics are; nothing is wrapped around a stage. No text
that a client or a model wrote is in them, but for a sane request id and the ids of the client's own trace. Names:
https://opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-spans/ and .../http/http-spans/. Deviation: the request's own
span has no `gen_ai` attributes, as whoever adds up tokens over spans would count them twice.
"""

import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Final
from urllib.parse import urlsplit

from gateway.core.clock import Lap, LapRecorder, Stage
from gateway.core.context import CacheOutcome, Phase, RequestContext, Usage
from gateway.core.errors import MethodError, UpstreamError
from gateway.core.trace import SAMPLED, TRACEPARENT, Attempt, Trace, read_parent
from gateway.schema.request import Operation
from gateway.settings.models import BackendKind, ModelSettings
from gateway.settings.tracing import TracingSettings
from gateway.telemetry.spans import NOTHING, Attributes, Kind, Span, Value

Offer = Callable[[str, Sequence[Span]], None]
"""Takes a trace's id and the spans of one request."""

BeginTrace = Callable[[RequestContext, Mapping[str, str]], None]
"""Gives a request its trace, by its headers."""

PATHS: Final = {
    Operation.CHAT: "/v1/chat/completions",
    Operation.COMPLETION: "/v1/completions",
    Operation.EMBEDDING: "/v1/embeddings",
}
OPERATIONS: Final = {
    Operation.CHAT: "chat",
    Operation.COMPLETION: "text_completion",
    Operation.EMBEDDING: "embeddings",
}
PROVIDERS: Final = {
    BackendKind.OPENAI: "openai",  # the convention's word for whoever speaks OpenAI's API and says no more
    BackendKind.TRITON: "triton",
    BackendKind.ONNX: "onnxruntime-genai",
    BackendKind.SIMULATED: "postern",
}
FINISH_REASONS: Final = frozenset({"stop", "length", "tool_calls", "content_filter", "function_call"})
_ALL_IDS = 2**64
_INTERNAL, _SERVER, _CLIENT = Kind
_CLASSIFY, _UPSTREAM = Stage.CLASSIFY, Stage.UPSTREAM


def pass_on(ctx: RequestContext, headers: Mapping[str, str]) -> None:
    """Have a client's trace passed on as it came: what a gateway does that records nothing."""
    if TRACEPARENT in headers and (parent := read_parent(headers)) is not None:
        ctx.trace = Trace(parent.trace_id, parent.span_id, parent.flags, parent.state)


class Tracer:
    """Records requests. `offer` gets their spans."""

    def __init__(self, settings: TracingSettings, models: Mapping[str, ModelSettings], offer: Offer) -> None:
        self._settings = settings
        self.models = models
        self._offer = offer
        self._sampled_ids = round(settings.sample_ratio * _ALL_IDS)
        self.random = random.Random()  # noqa: S311 - ids must differ, and may be guessed

    def begin(self, ctx: RequestContext, headers: Mapping[str, str]) -> None:
        """Give a request its place in its client's trace, or in a new one."""
        parent = read_parent(headers) if TRACEPARENT in headers else None
        if parent is None:
            trace_id = f"{self.random.getrandbits(128) or 1:032x}"
            is_recorded = self._is_sampled(trace_id)
            ctx.trace = Trace(trace_id, self._draw_id(), SAMPLED if is_recorded else 0)
        else:
            follows = self._settings.follow_parent
            is_recorded = parent.is_sampled if follows else self._is_sampled(parent.trace_id)
            ctx.trace = Trace(parent.trace_id, parent.span_id, parent.flags, parent.state)
            if is_recorded:
                ctx.trace.span_id, ctx.trace.parent_id = self._draw_id(), parent.span_id
                ctx.trace.flags |= SAMPLED
        if is_recorded:
            ctx.trace.is_recorded, ctx.trace.began_ns, ctx.trace.draw_id = True, time.time_ns(), self._draw_id
            ctx.stopwatch = LapRecorder(ctx.stopwatch)

    def _is_sampled(self, trace_id: str) -> bool:
        """Tell by the id, so that all who see the trace with one ratio decide alike: TraceIdRatioBased of the SDKs."""
        return int(trace_id[16:], 16) < self._sampled_ids

    def _draw_id(self) -> str:
        return f"{self.random.getrandbits(64) or 1:016x}"

    def record(self, ctx: RequestContext) -> None:
        """Take down one finished request."""
        trace = ctx.trace
        if trace is not None and trace.is_recorded and isinstance(ctx.stopwatch, LapRecorder):
            self._offer(trace.trace_id, _Finished(ctx, trace, ctx.stopwatch, self).spans())


class _Finished:
    """One finished request, to be told in spans."""

    def __init__(self, ctx: RequestContext, trace: Trace, stopwatch: LapRecorder, tracer: Tracer) -> None:
        self._ctx = ctx
        self._trace = trace
        self._laps = stopwatch.laps
        self._models = tracer.models
        self._draw_bytes = tracer.random.randbytes
        self._root_id = bytes.fromhex(trace.span_id)
        self._began_s = stopwatch.started_s
        self._zero_ns = trace.began_ns - int(stopwatch.started_s * 1e9)
        self._ended_s = stopwatch.started_s + stopwatch.elapsed_s()

    def _ns(self, at_s: float) -> int:
        return self._zero_ns + int(at_s * 1e9)

    def spans(self) -> list[Span]:
        """Return the request's span, then its stages', then its attempts'."""
        found = [self._root(), *self._stages()]
        if self._trace.attempts:
            dispatch_id = next((span.span_id for span in found if span.name is _UPSTREAM), self._root_id)
            found += [self._attempt(attempt, dispatch_id) for attempt in self._trace.attempts]
        return found

    def _root(self) -> Span:
        ctx, trace = self._ctx, self._trace
        path = PATHS[ctx.operation]
        method = "_OTHER" if isinstance(ctx.failure, MethodError) else "POST"
        told: dict[str, Value | None] = {
            "http.request.method": method,
            "http.route": path,
            "url.path": path,
            "url.scheme": "http",
            "http.response.status_code": self._status(),
            "error.type": None if ctx.outcome == "ok" else ctx.outcome,
            "postern.request_id": ctx.request_id,
            "postern.caller": None if ctx.caller is None else ctx.caller.name,
            "postern.team": None if ctx.caller is None else ctx.caller.team,
            "postern.streaming": None if ctx.request is None else ctx.request.is_streaming,
            **self._decision(),
        }
        is_streaming = ctx.request is not None and ctx.request.is_streaming
        has_event = is_streaming and ctx.first_token_s is not None
        first_token = (("first_token", self._ns(self._began_s + (ctx.first_token_s or 0.0))),) if has_event else ()
        return Span(
            f"{'HTTP' if method == '_OTHER' else method} {path}",
            _SERVER,
            self._root_id,
            bytes.fromhex(trace.parent_id),
            trace.began_ns,
            self._ns(self._ended_s),
            known(told),
            ctx.failure is not None and ctx.failure.status >= 500,
            first_token,
            has_remote_parent=bool(trace.parent_id),
        )

    def _decision(self) -> dict[str, Value | None]:
        ctx = self._ctx
        if ctx.ladder is None:
            return {}
        return {
            "postern.route": ctx.ladder.name,
            "postern.model": ctx.model,
            "postern.tier": ctx.tier,
            "postern.reason": ctx.reason,
            "postern.cache": ctx.cache_outcome,
            "postern.score": ctx.score,
            "postern.threshold": None if ctx.decision is None else ctx.decision.threshold,
            "postern.confidence": None if ctx.verdict is None else ctx.verdict.confidence,
            "postern.attempts": ctx.attempts,
            "postern.cost_usd": None if ctx.bill is None else ctx.bill.cost_usd,
            "postern.baseline_usd": None if ctx.bill is None else ctx.bill.baseline_usd,
        }

    def _status(self) -> int | None:
        """Return the status that was sent; a stream's stays 200, whatever came after it."""
        if self._ctx.first_token_s is not None or self._ctx.outcome == "ok":
            return 200
        return None if self._ctx.failure is None else self._ctx.failure.status

    def _stages(self) -> Iterator[Span]:
        upstream: Lap | None = None
        for lap in self._laps:
            if lap.name is _UPSTREAM:
                upstream = lap
            else:
                yield self._stage(lap)
        if upstream is None and self._ctx.phase is Phase.UPSTREAM and self._laps:
            upstream = Lap(_UPSTREAM, self._laps[-1].ended_s, self._ended_s)  # it has not come to an answer
            yield self._stage(upstream)
        elif upstream is not None:
            if self._ctx.cache_outcome is not CacheOutcome.HIT:
                yield self._stage(upstream)
            yield self._stage(Lap("relay", upstream.ended_s, self._ended_s))

    def _stage(self, lap: Lap) -> Span:
        name, began_s, ended_s = lap
        attributes = self._classified() if name is _CLASSIFY else NOTHING
        began_ns, ended_ns = self._zero_ns + int(began_s * 1e9), self._zero_ns + int(ended_s * 1e9)
        return Span(name, _INTERNAL, self._draw_bytes(8), self._root_id, began_ns, ended_ns, attributes)

    def _classified(self) -> Attributes:
        return known({"postern.router": self._ctx.router, "postern.score": self._ctx.score})

    def _attempt(self, attempt: Attempt, parent_id: bytes) -> Span:
        ctx, model = self._ctx, self._models.get(attempt.model)
        asked = (model and model.upstream_model) or attempt.model
        host, port = _place(attempt.url)
        error = self._error_of(attempt)
        is_streaming = ctx.request is not None and ctx.request.is_streaming
        told: dict[str, Value | None] = {
            "gen_ai.operation.name": OPERATIONS[ctx.operation],
            "gen_ai.provider.name": None if model is None else PROVIDERS[model.backend],
            "gen_ai.request.model": asked,
            "gen_ai.request.stream": is_streaming,
            "server.address": host,
            "server.port": port,
            "error.type": error,
            "postern.model": attempt.model,
        }
        if attempt.answered_s is not None:
            told["gen_ai.response.model"] = asked
            if is_streaming:
                told["gen_ai.response.time_to_first_chunk"] = attempt.answered_s - attempt.began_s
            told["gen_ai.response.finish_reasons"] = [_closed(reason) for reason in attempt.finish_reasons] or None
            told |= self._used(attempt)
        return Span(
            f"{OPERATIONS[ctx.operation]} {asked}",
            _CLIENT,
            bytes.fromhex(attempt.span_id),
            parent_id,
            self._ns(attempt.began_s),
            self._ns(self._ended_s if attempt.ended_s is None else min(attempt.ended_s, self._ended_s)),
            known(told),
            error is not None and error != "cancelled",
        )

    def _error_of(self, attempt: Attempt) -> str | None:
        """Return why an attempt came to no good end; an answer that broke off is the last attempt's."""
        if attempt.outcome != "ok":
            return attempt.outcome
        is_last = attempt is self._trace.attempts[-1]
        if not is_last or not (self._ctx.is_cancelled or isinstance(self._ctx.failure, UpstreamError)):
            return None
        return self._ctx.outcome

    def _used(self, attempt: Attempt) -> dict[str, Value | None]:
        """Return the tokens of an attempt's answer: the one that was given, or the one that was given up."""
        charge = self._ctx.charge
        is_last = attempt is self._trace.attempts[-1]
        if is_last and attempt.model == self._ctx.model and self._ctx.usage is not None:
            return _tokens(self._ctx.usage)
        if charge is not None and charge.model == attempt.model:
            return {**_tokens(charge.usage), "postern.given_up": True}
        return {}


def known(told: Mapping[str, Value | None]) -> Attributes:
    """Return what is known."""
    return {name: value for name, value in told.items() if value is not None}


def _tokens(usage: Usage) -> dict[str, Value | None]:
    return {
        "gen_ai.usage.input_tokens": usage.prompt_tokens,
        "gen_ai.usage.output_tokens": usage.completion_tokens,
        "gen_ai.usage.cache_read.input_tokens": usage.cached_tokens or None,
        "postern.usage.is_estimated": usage.is_estimated or None,
    }


def _closed(reason: str) -> str:
    """Return one of OpenAI's reasons: what else a server says is a text of its own."""
    return reason if reason in FINISH_REASONS else "other"


@lru_cache(1_024)
def _place(url: str) -> tuple[str | None, int | None]:
    """Return a replica's host and port; a model in the process has neither."""
    parts = urlsplit(url)
    port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    return parts.hostname, port if parts.hostname else None
