"""The metrics themselves. prometheus_client is imported in this folder only."""

import math
import os
from collections.abc import Iterable
from typing import TypeVar, cast

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics
from prometheus_client import Metric as Family
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from gateway.core.clock import Stage
from gateway.core.context import Bill, Charge, RequestContext
from gateway.core.errors import DrainingError, OverloadedError
from gateway.telemetry import names

METRICS_FOLDER = "PROMETHEUS_MULTIPROC_DIR"
"""The variable that makes prometheus_client keep metrics as files in a folder, for several processes."""

M = TypeVar("M", Counter, Gauge, Histogram)
OTHER = "other"
NONE = "none"
OVERHEAD_STAGES = (Stage.AUTH, Stage.LIMITS, Stage.CACHE, Stage.CLASSIFY)


class Metrics:
    """Every metric of one process. Label values come from the configuration or from closed sets."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # samples that no query of ours reads
        self.registry = registry or CollectorRegistry()
        self._known: frozenset[str] = frozenset()
        self.requests = self._counter(
            names.REQUESTS, "Requests finished.", "route", "model", "tier", "reason", "status"
        )
        self.cost = self._counter(names.COST, "USD that answers cost.", "route", "model")
        self.baseline = self._counter(names.BASELINE, "USD had the strongest candidate served all.", "route")
        self.saved = self._counter(names.SAVED, "USD saved against the baseline.", "route")
        self.energy = self._counter(names.ENERGY, "Wh that answers took.", "model")
        self.cache_requests = self._counter(names.CACHE_REQUESTS, "What the cache did.", "route", "outcome")
        self.attempts = self._counter(names.UPSTREAM_ATTEMPTS, "Calls to upstreams.", "model", "outcome")
        self.shed = self._counter(names.SHED, "Requests refused under load.", "reason")
        self.fail_open = self._counter(names.FAIL_OPEN, "Stages that failed and were passed by.", "stage")
        self.cancelled = self._counter(names.CANCELLED, "Requests whose client went away.", "phase")
        self.in_flight = Gauge(
            names.IN_FLIGHT,
            "Requests at a model now.",
            ("model",),
            registry=self.registry,
            multiprocess_mode="livesum",
        )
        self.threshold = Gauge(
            names.THRESHOLD,
            "Score from which the strongest model serves, as it stands now.",
            ("route",),
            registry=self.registry,
            multiprocess_mode="livemostrecent",
        )
        self.overhead = self._histogram(
            names.OVERHEAD, "Gateway time, upstream excluded.", names.OVERHEAD_BUCKETS, "stage"
        )
        self.classify = self._histogram(names.CLASSIFY, "Time to judge.", names.CLASSIFY_BUCKETS, "router")
        self.score = self._histogram(names.SCORE, "Scores given.", names.SCORE_BUCKETS, "route")
        self.confidence = self._histogram(
            names.CONFIDENCE, "How sure weaker models began, where cascades judged.", names.SCORE_BUCKETS, "route"
        )
        self.redis = self._histogram(names.REDIS, "Time of Redis operations.", names.REDIS_BUCKETS, "operation")
        self.token_usage = self._histogram(
            names.TOKEN_USAGE, "Tokens per request.", names.TOKEN_BUCKETS, "gen_ai_operation_name",
            "gen_ai_request_model", "gen_ai_response_model", "gen_ai_token_type",
        )  # fmt: skip
        self.duration = self._histogram(
            names.OPERATION_DURATION, "Seconds per request.", names.DURATION_BUCKETS, "gen_ai_operation_name",
            "gen_ai_request_model", "gen_ai_response_model", "error_type",
        )  # fmt: skip
        self.ttft = self._histogram(
            names.TIME_TO_FIRST_TOKEN, "Seconds to the first token.", names.TTFT_BUCKETS, "gen_ai_operation_name",
            "gen_ai_request_model", "gen_ai_response_model",
        )  # fmt: skip
        self.tpot = self._histogram(
            names.TIME_PER_OUTPUT_TOKEN, "Seconds per token after the first.", names.TPOT_BUCKETS,
            "gen_ai_operation_name", "gen_ai_request_model", "gen_ai_response_model",
        )  # fmt: skip
        self._children: dict[tuple[object, ...], object] = {}
        self._lost_usd: dict[str, float] = {}

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(name, text, labels, registry=self.registry)

    def _histogram(self, name: str, text: str, buckets: Iterable[float], *labels: str) -> Histogram:
        return Histogram(name, text, labels, registry=self.registry, buckets=tuple(buckets))

    def child(self, metric: M, *labels: str) -> M:
        """Return the metric bound to its labels; a dict finds it in 0.1 µs, prometheus_client in 1."""
        key = (metric, *labels)
        found = self._children.get(key)
        if found is None:
            found = self._children[key] = metric.labels(*labels)
        return cast("M", found)

    def drop(self, gauge: Gauge, *labels: str) -> None:
        """Let a gauge tell nothing of these labels any more."""
        key = (gauge, *labels)
        if key not in self._children:
            return
        if METRICS_FOLDER in os.environ:
            self.child(gauge, *labels).set(math.nan)  # files only grow: `merged_registry` leaves it out
        else:
            del self._children[key]
            gauge.remove(*labels)

    def know(self, configured: Iterable[str]) -> None:
        """Take the names of routes and models that may be labels; all others are `other`."""
        self._known = frozenset(configured)

    def label(self, name: str | None) -> str:
        """Return a name as a label value."""
        if name is None:
            return NONE
        return name if name in self._known else OTHER

    def track(self, model: str, change: int) -> None:
        """Count a request into (+1) or out of (-1) a model."""
        self.child(self.in_flight, model).inc(change)

    def record(self, ctx: RequestContext) -> None:
        """Take down one finished request."""
        route = self.label(ctx.request.model if ctx.request else None)
        model = self.label(ctx.model)
        status = ctx.outcome
        self.child(self.requests, route, model, ctx.tier or NONE, ctx.reason or NONE, status).inc()
        if ctx.is_cancelled:
            self.child(self.cancelled, ctx.phase).inc()
        if isinstance(ctx.failure, OverloadedError | DrainingError):
            self.child(self.shed, ctx.failure.code).inc()
        if ctx.ladder is not None:
            self.child(self.cache_requests, route, ctx.cache_outcome).inc()
        self._record_times(ctx, route, model, status)
        if ctx.usage is not None and ctx.bill is not None:
            self._record_bill(ctx, route, model)
        if ctx.bill is not None:
            self._record_saving(ctx.bill, route)
            self._record_charge(ctx, ctx.bill.charge, route)
        if ctx.verdict is not None and ctx.verdict.confidence is not None and ctx.is_own_call:
            self.child(self.confidence, route).observe(ctx.verdict.confidence)

    def _record_times(self, ctx: RequestContext, route: str, model: str, status: str) -> None:
        durations_s = ctx.stopwatch.durations_s
        for stage in OVERHEAD_STAGES:
            if stage in durations_s:
                self.child(self.overhead, stage).observe(durations_s[stage])
        if ctx.model is not None:
            self.child(self.overhead, "gateway").observe(ctx.overhead_s)
        if Stage.CLASSIFY in durations_s and ctx.router is not None:
            self.child(self.classify, ctx.router).observe(durations_s[Stage.CLASSIFY])
        if ctx.score is not None:
            self.child(self.score, route).observe(ctx.score)
        labels = (ctx.operation.value, route, model)
        error = "" if status == "ok" else status
        self.child(self.duration, *labels, error).observe(ctx.stopwatch.elapsed_s())
        if ctx.first_token_s is not None:
            self.child(self.ttft, *labels).observe(ctx.first_token_s)

    def _record_bill(self, ctx: RequestContext, route: str, model: str) -> None:
        if ctx.usage is None or ctx.bill is None:
            return
        charge = ctx.bill.charge
        charged_usd, charged_wh = (charge.cost_usd, charge.energy_wh) if charge else (0.0, 0.0)
        self.child(self.cost, route, model).inc(max(0.0, ctx.bill.cost_usd - charged_usd))
        self.child(self.baseline, route).inc(ctx.bill.baseline_usd)
        self.child(self.energy, model).inc(max(0.0, ctx.bill.energy_wh - charged_wh))
        labels = (ctx.operation.value, route, model)
        self.child(self.token_usage, *labels, "input").observe(ctx.usage.prompt_tokens)
        self.child(self.token_usage, *labels, "output").observe(ctx.usage.completion_tokens)
        if ctx.first_token_s is not None and ctx.last_token_s is not None and ctx.usage.completion_tokens > 1:
            generating_s = ctx.last_token_s - ctx.first_token_s
            self.child(self.tpot, *labels).observe(generating_s / (ctx.usage.completion_tokens - 1))

    def _record_saving(self, bill: Bill, route: str) -> None:
        """Take down what was saved. Counters only grow: what was lost on one request is first made good by others."""
        saved_usd = bill.baseline_usd - bill.cost_usd - self._lost_usd.get(route, 0.0)
        self._lost_usd[route] = max(0.0, -saved_usd)
        self.child(self.saved, route).inc(max(0.0, saved_usd))

    def _record_charge(self, ctx: RequestContext, charge: Charge | None, route: str) -> None:
        """Take down what was given up, at the model that had begun it."""
        if charge is None:
            return
        model = self.label(charge.model)
        self.child(self.cost, route, model).inc(charge.cost_usd)
        self.child(self.energy, model).inc(charge.energy_wh)
        labels = (ctx.operation.value, route, model)
        self.child(self.token_usage, *labels, "input").observe(charge.usage.prompt_tokens)
        self.child(self.token_usage, *labels, "output").observe(charge.usage.completion_tokens)


def render(registry: CollectorRegistry) -> tuple[bytes, str]:
    """Return the text that Prometheus scrapes, and its content type."""
    return generate_latest(registry), CONTENT_TYPE_LATEST


class _Told(MultiProcessCollector):
    """Leaves out what was dropped."""

    def collect(self) -> Iterable[Family]:
        """Return every metric with the samples that tell something."""
        families: Iterable[Family] = super().collect()  # type: ignore[no-untyped-call]
        for family in families:
            family.samples = [sample for sample in family.samples if not math.isnan(sample.value)]
            yield family


def merged_registry(folder: str) -> CollectorRegistry:
    """Return a registry that adds up every worker's metrics, kept as files in `folder`."""
    registry = CollectorRegistry()
    _Told(registry, path=folder)  # type: ignore[no-untyped-call]
    return registry


def forget_worker(pid: int | None) -> None:
    """Drop a dead worker's gauges; its counters still count."""
    if pid is not None:
        mark_process_dead(pid)  # type: ignore[no-untyped-call]
