"""The metrics themselves. prometheus_client is imported in this folder only."""

import asyncio
import math
import os
import time
from collections.abc import Iterable, Iterator
from typing import Final, Protocol, TypeVar, cast

from prometheus_client import CollectorRegistry, Gauge, disable_created_metrics
from prometheus_client import Metric as Family
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from prometheus_client.registry import Collector

from gateway.core.clock import Stage
from gateway.core.context import Bill, Charge, Phase, RequestContext
from gateway.core.errors import DrainingError, OverloadedError
from gateway.telemetry import names
from gateway.telemetry.families import POUR_S, Families
from gateway.telemetry.local import LocalCount, LocalFamily, LocalSpread, Registry

METRICS_FOLDER = "PROMETHEUS_MULTIPROC_DIR"
"""The variable that makes prometheus_client keep metrics as files in a folder, for several processes."""

SLICE_S = 0.001
"""How long a scrape holds the event loop at a time. A thread would wait for the interpreter's lock for as long as the
loop is busy: 3 s for 1,200 samples were measured, and 17 s for 180,000."""

MAX_BOUND = 4_096
"""Combinations of labels whose children are kept at hand."""

OTHER = "other"
NONE = "none"
OVERHEAD_STAGES = (Stage.AUTH, Stage.LIMITS, Stage.CACHE, Stage.CLASSIFY)
_CLASSIFY: Final = Stage.CLASSIFY


M_co = TypeVar("M_co", covariant=True)


class Labelled(Protocol[M_co]):
    """A metric with labels."""

    def labels(self, *values: str) -> M_co:
        """Return the child of these labels."""
        ...


M = TypeVar("M")


class Metrics:
    """Every metric of one process. Label values come from the configuration or from closed sets."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # samples that no query of ours reads
        self.registry = registry or Registry()
        self.families = families = Families(self.registry, is_shared=METRICS_FOLDER in os.environ)
        self._known: frozenset[str] = frozenset()
        self.requests = families.counter(
            names.REQUESTS, "Requests finished.", "route", "model", "tier", "reason", "status"
        )
        self.cost = families.counter(names.COST, "USD that answers cost.", "route", "model")
        self.baseline = families.counter(names.BASELINE, "USD had the strongest candidate served all.", "route")
        self.saved = families.counter(names.SAVED, "USD saved against the baseline.", "route")
        self.team_cost = families.counter(names.TEAM_COST, "USD that a team's answers cost.", "team")
        self.team_baseline = families.counter(
            names.TEAM_BASELINE, "USD had the strongest candidate served all of a team's.", "team"
        )
        self.energy = families.counter(names.ENERGY, "Wh that answers took.", "model")
        self.cache_requests = families.counter(names.CACHE_REQUESTS, "What the cache did.", "route", "outcome")
        self.attempts = families.counter(names.UPSTREAM_ATTEMPTS, "Calls to upstreams.", "model", "outcome")
        self.shed = families.counter(names.SHED, "Requests refused under load.", "reason")
        self.fail_open = families.counter(names.FAIL_OPEN, "Stages that failed and were passed by.", "stage")
        self.cancelled = families.counter(names.CANCELLED, "Requests whose client went away.", "phase")
        self.spans = families.counter(names.SPANS, "Spans of recorded requests.", "outcome")
        self.in_flight = families.gauge(names.IN_FLIGHT, "Requests at a model now.", "model")
        self.threshold = Gauge(
            names.THRESHOLD,
            "Score from which the strongest model serves, as it stands now.",
            ("route",),
            registry=self.registry,
            multiprocess_mode="livemostrecent",
        )
        self.overhead = families.histogram(
            names.OVERHEAD, "Gateway time, upstream excluded.", names.OVERHEAD_BUCKETS, "stage"
        )
        self.classify = families.histogram(names.CLASSIFY, "Time to judge.", names.CLASSIFY_BUCKETS, "router")
        self.score = families.histogram(names.SCORE, "Scores given.", names.SCORE_BUCKETS, "route")
        self.confidence = families.histogram(
            names.CONFIDENCE, "How sure weaker models began, where cascades judged.", names.SCORE_BUCKETS, "route"
        )
        self.redis = families.histogram(names.REDIS, "Time of Redis operations.", names.REDIS_BUCKETS, "operation")
        self.token_usage = families.histogram(
            names.TOKEN_USAGE, "Tokens per request.", names.TOKEN_BUCKETS, "gen_ai_operation_name",
            "gen_ai_request_model", "gen_ai_response_model", "gen_ai_token_type",
        )  # fmt: skip
        self.duration = families.histogram(
            names.OPERATION_DURATION, "Seconds per request.", names.DURATION_BUCKETS, "gen_ai_operation_name",
            "gen_ai_request_model", "gen_ai_response_model", "error_type",
        )  # fmt: skip
        self.ttft = families.histogram(
            names.TIME_TO_FIRST_TOKEN, "Seconds to the first token.", names.TTFT_BUCKETS, "gen_ai_operation_name",
            "gen_ai_request_model", "gen_ai_response_model",
        )  # fmt: skip
        self.tpot = families.histogram(
            names.TIME_PER_OUTPUT_TOKEN, "Seconds per token after the first.", names.TPOT_BUCKETS,
            "gen_ai_operation_name", "gen_ai_request_model", "gen_ai_response_model",
        )  # fmt: skip
        self._children: dict[tuple[object, ...], object] = {}
        self._combinations: dict[tuple[str, ...], _Bound] = {}
        self._overheads = _Overheads(self)
        self._lost_usd: dict[str, float] = {}
        self._teams = _Teams(self)
        for reason in (OverloadedError.code, DrainingError.code):
            self.child(self.shed, reason)
        for phase in Phase:
            self.child(self.cancelled, phase)
        for stage in names.FAIL_OPEN_STAGES:
            self.child(self.fail_open, stage)

    def child(self, metric: Labelled[M], *labels: str) -> M:
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

    def foresee(self, models: Iterable[str], teams: Iterable[str | None]) -> None:
        """Tell 0 of what has not happened yet: of a series that begins with its first event, no rate sees that one."""
        for model in models:
            self.child(self.in_flight, model)
        for team in {None, *teams}:
            self._teams[team]  # made where it is missing

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
        bound = self._bound(ctx)
        bound.requests.inc()
        if ctx.is_cancelled:
            self.child(self.cancelled, ctx.phase).inc()
        if isinstance(ctx.failure, OverloadedError | DrainingError):
            self.child(self.shed, ctx.failure.code).inc()
        if ctx.ladder is not None:
            bound.cache_requests.inc()
        self._record_times(ctx, bound)
        if ctx.bill is not None:
            self._record_bill(ctx, ctx.bill, bound)
            cost, baseline = self._teams[None if ctx.caller is None else ctx.caller.team]
            cost.inc(ctx.bill.cost_usd)
            baseline.inc(ctx.bill.baseline_usd)
        if ctx.verdict is not None and ctx.verdict.confidence is not None and ctx.is_own_call:
            bound.confidence.observe(ctx.verdict.confidence)

    def _bound(self, ctx: RequestContext) -> "_Bound":
        route = self.label(None if ctx.request is None else ctx.request.model)
        outcomes = ctx.tier or NONE, ctx.reason or NONE, ctx.outcome, ctx.cache_outcome
        key = (ctx.operation, route, self.label(ctx.model), *outcomes)
        found = self._combinations.get(key)
        if found is None:
            if len(self._combinations) >= MAX_BOUND:
                self._combinations.clear()
            found = self._combinations[key] = _Bound(self, key)
        return found

    def _record_times(self, ctx: RequestContext, bound: "_Bound") -> None:
        durations_s = ctx.stopwatch.durations_s
        for stage in OVERHEAD_STAGES:
            seconds = durations_s.get(stage)
            if seconds is not None:
                self._overheads[stage].observe(seconds)
        if ctx.model is not None:
            bound.overhead.observe(ctx.overhead_s)
        classify_s = durations_s.get(_CLASSIFY)
        if classify_s is not None and ctx.router is not None:
            self.child(self.classify, ctx.router).observe(classify_s)
        if ctx.judgement is not None:
            bound.score.observe(ctx.judgement.score)
        bound.duration.observe(ctx.stopwatch.elapsed_s())
        first_s = _first_token_s(ctx)
        if first_s is not None:
            bound.ttft.observe(first_s)

    def _record_bill(self, ctx: RequestContext, bill: Bill, bound: "_Bound") -> None:
        cost_usd, energy_wh, usage, charge = bill.cost_usd, bill.energy_wh, ctx.usage, bill.charge
        if charge is not None:
            self._record_charge(ctx, charge, bound.route)
            cost_usd, energy_wh = max(0.0, cost_usd - charge.cost_usd), max(0.0, energy_wh - charge.energy_wh)
        if usage is not None:
            bound.cost.inc(cost_usd)
            bound.baseline.inc(bill.baseline_usd)
            bound.energy.inc(energy_wh)
            bound.input_tokens.observe(usage.prompt_tokens)
            bound.output_tokens.observe(usage.completion_tokens)
            first_s, last_s = _first_token_s(ctx), ctx.last_token_s
            if usage.completion_tokens > 1 and first_s is not None and last_s is not None:
                bound.tpot.observe((last_s - first_s) / (usage.completion_tokens - 1))
        self._record_saving(bill, bound)

    def _record_saving(self, bill: Bill, bound: "_Bound") -> None:
        """Take down what was saved. Counters only grow: what was lost on one request is first made good by others."""
        saved_usd = bill.baseline_usd - bill.cost_usd - self._lost_usd.get(bound.route, 0.0)
        self._lost_usd[bound.route] = max(0.0, -saved_usd)
        bound.saved.inc(max(0.0, saved_usd))

    def _record_charge(self, ctx: RequestContext, charge: Charge, route: str) -> None:
        """Take down what was given up, at the model that had begun it."""
        model = self.label(charge.model)
        self.child(self.cost, route, model).inc(charge.cost_usd)
        self.child(self.energy, model).inc(charge.energy_wh)
        labels = (ctx.operation.value, route, model)
        self.child(self.token_usage, *labels, "input").observe(charge.usage.prompt_tokens)
        self.child(self.token_usage, *labels, "output").observe(charge.usage.completion_tokens)


def _first_token_s(ctx: RequestContext) -> float | None:
    """Return when a stream began. Of an answer that comes whole no token's time is known: late, then all at once."""
    return ctx.first_token_s if ctx.request is not None and ctx.request.is_streaming else None


class _Overheads(dict[Stage, LocalSpread]):
    """The children by stage, each bound when it is first asked for."""

    def __init__(self, metrics: Metrics) -> None:
        super().__init__()
        self._metrics = metrics

    def __missing__(self, stage: Stage) -> LocalSpread:
        found = self[stage] = self._metrics.child(self._metrics.overhead, stage)
        return found


class _Teams(dict[str | None, tuple[LocalCount, LocalCount]]):
    """The cost and the baseline of each team. Teams come from the configuration, never from a client."""

    def __init__(self, metrics: Metrics) -> None:
        super().__init__()
        self._metrics = metrics

    def __missing__(self, team: str | None) -> tuple[LocalCount, LocalCount]:
        metrics, label = self._metrics, team or NONE
        found = metrics.child(metrics.team_cost, label), metrics.child(metrics.team_baseline, label)
        self[team] = found
        return found


class _Bound:
    """The children of one combination of labels: found at once, not one by one.

    Each is bound when it is first needed (by `__getattr__`, which Python asks for what is not there yet): a series of
    which nothing is known is not told as 0.
    """

    __slots__ = (
        *("_key", "_metrics", "baseline", "cache_requests", "confidence", "cost", "duration", "energy", "input_tokens"),
        *("output_tokens", "overhead", "requests", "route", "saved", "score", "tpot", "ttft"),
    )
    requests: LocalCount
    cache_requests: LocalCount
    cost: LocalCount
    baseline: LocalCount
    saved: LocalCount
    energy: LocalCount
    overhead: LocalSpread
    score: LocalSpread
    confidence: LocalSpread
    duration: LocalSpread
    ttft: LocalSpread
    tpot: LocalSpread
    input_tokens: LocalSpread
    output_tokens: LocalSpread

    def __init__(self, metrics: Metrics, key: tuple[str, ...]) -> None:
        self._metrics = metrics
        self._key = key
        self.route = key[1]

    def __getattr__(self, name: str) -> object:
        metric, labels = self._labels()[name]
        found = self._metrics.child(cast("Labelled[object]", metric), *labels)
        setattr(self, name, found)
        return found

    def _labels(self) -> dict[str, tuple[object, tuple[str, ...]]]:
        metrics = self._metrics
        operation, route, model, tier, reason, status, cache = self._key
        answered = (operation, route, model)
        return {
            "requests": (metrics.requests, (route, model, tier, reason, status)),
            "cache_requests": (metrics.cache_requests, (route, cache)),
            "cost": (metrics.cost, (route, model)),
            "baseline": (metrics.baseline, (route,)),
            "saved": (metrics.saved, (route,)),
            "energy": (metrics.energy, (model,)),
            "overhead": (metrics.overhead, ("gateway",)),
            "score": (metrics.score, (route,)),
            "confidence": (metrics.confidence, (route,)),
            "duration": (metrics.duration, (*answered, "" if status == "ok" else status)),
            "ttft": (metrics.ttft, answered),
            "tpot": (metrics.tpot, answered),
            "input_tokens": (metrics.token_usage, (*answered, "input")),
            "output_tokens": (metrics.token_usage, (*answered, "output")),
        }


def render(registry: CollectorRegistry) -> tuple[bytes, str]:
    """Return the text that Prometheus scrapes, and its content type."""
    return b"".join(_pieces(registry)), CONTENT_TYPE_LATEST


async def render_in_turns(registry: CollectorRegistry) -> tuple[bytes, str]:
    """Return what `render` does, and let others have their turn every SLICE_S."""
    pieces, began_s = [], time.perf_counter()
    for piece in _pieces(registry):
        pieces.append(piece)
        if time.perf_counter() - began_s > SLICE_S:
            await asyncio.sleep(0)
            began_s = time.perf_counter()
    return b"".join(pieces), CONTENT_TYPE_LATEST


def _pieces(registry: CollectorRegistry) -> Iterator[bytes]:
    if not isinstance(registry, Registry):
        yield generate_latest(registry)
        return
    for collector in [*registry.collectors]:
        if isinstance(collector, LocalFamily):
            yield from map(str.encode, collector.text())
        else:
            yield generate_latest(collector)


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


async def render_merged(folder: str, figures: Collector) -> tuple[bytes, str]:
    """Return what every worker had counted by now: they need as long to write it down. `figures`: of processes.

    In a thread: many files take long, and the process that has the admin port serves nothing else.
    """
    await asyncio.sleep(2 * POUR_S)
    text, content_type = await asyncio.to_thread(lambda: render(merged_registry(folder)))
    return text + generate_latest(figures), content_type


def forget_worker(pid: int | None) -> None:
    """Drop a dead worker's gauges; its counters still count."""
    if pid is not None:
        mark_process_dead(pid)  # type: ignore[no-untyped-call]
