"""Counters and histograms of our own: in the text, and in what is collected, one with prometheus_client's."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, generate_latest

from gateway.core.clock import Stage
from gateway.core.context import Bill, CacheOutcome, Charge, Phase, Reason, Usage, Verdict
from gateway.core.errors import InvalidJsonError, OverloadedError
from gateway.core.judgement import Judgement
from gateway.telemetry import metrics as metrics_module
from gateway.telemetry.families import POUR_S
from gateway.telemetry.local import LocalCounter, LocalGauge, LocalHistogram, Registry
from gateway.telemetry.metrics import METRICS_FOLDER, Metrics, render, render_in_turns
from tests.builders import context, decided_context, request

BOUNDS = (5e-5, 0.1, 1.0, 20.0, 1_048_576.0, 67_108_864.0)
LABELS = ("kind", "zone")
VALUES = st.floats(min_value=0, max_value=1e18) | st.sampled_from([*BOUNDS, 0.0, float("inf")]) | st.integers(0, 10**9)
NAMES = st.sampled_from(["a", 'quo"te', "back\\slash", "new\nline", "é"])
TEXT = 'What "it" is, \\ and\nwhy.'


@pytest.fixture(autouse=True)
def without_created():
    disable_created_metrics()


def told(registry):
    return [
        (family.name, family.documentation, family.type, [(s.name, s.labels, s.value) for s in family.samples])
        for family in registry.collect()
    ]


@given(st.lists(st.tuples(NAMES, NAMES, VALUES)))
def test_what_is_told_is_what_prometheus_client_tells(events):
    disable_created_metrics()
    theirs, ours = CollectorRegistry(), Registry()
    pairs = [
        (Counter("events", TEXT, LABELS, registry=theirs), LocalCounter("events", TEXT, LABELS, ours)),
        (Gauge("levels", TEXT, LABELS, registry=theirs), LocalGauge("levels", TEXT, LABELS, ours)),
        (
            Histogram("sizes", TEXT, LABELS, registry=theirs, buckets=BOUNDS),
            LocalHistogram("sizes", TEXT, LABELS, ours, BOUNDS),
        ),
    ]
    for kind, zone, value in events:
        for family in pairs[0]:
            family.labels(kind, zone).inc(value)
        for family in pairs[1]:
            family.labels(kind, zone).inc(value)
            family.labels(kind, zone).inc(-1)
        for family in pairs[2]:
            family.labels(kind, zone).observe(value)
    assert render(ours)[0] == generate_latest(theirs) == generate_latest(ours)
    assert told(ours) == told(theirs)


@pytest.mark.parametrize("labels", [("aa",), ("le_a", "ld"), ("zz",), ("aa", "zz")])
def test_the_bucket_stands_among_the_labels_by_its_name(labels):
    theirs, ours = CollectorRegistry(), Registry()
    Histogram("sizes", "s", labels, registry=theirs, buckets=(1,)).labels(*labels).observe(1)
    LocalHistogram("sizes", "s", labels, ours, (1,)).labels(*labels).observe(1)
    assert render(ours)[0] == generate_latest(theirs)


def test_a_child_has_every_label():
    with pytest.raises(ValueError, match="has 2 labels"):
        LocalCounter("events", "e", LABELS, Registry()).labels("one")


CHARGE = Charge("small", Usage(100, 16), cost_usd=0.25, energy_wh=1.0)
ANSWERED = {"model": "small", "reason": Reason.SCORE, "cache_outcome": CacheOutcome.MISS, "judgement": Judgement(0.23)}


def finished():
    """A request of every kind."""
    times = {"first_token_s": 0.5, "last_token_s": 2.5}
    asked = {"request": request(stream=True), "router": "default"}
    miss = decided_context(**ANSWERED, **asked, usage=Usage(400, 280), bill=Bill(0.1, 1.0, 3.0), **times)
    miss.stopwatch.durations_s = dict.fromkeys(Stage, 0.125)
    loss = decided_context(**ANSWERED, usage=Usage(10, 1), bill=Bill(1.0, 0.5), **times)
    hit = decided_context(**{**ANSWERED, "cache_outcome": CacheOutcome.HIT}, usage=Usage(1, 1), bill=Bill(0, 1))
    escalated = decided_context(
        **{**ANSWERED, "model": "large"},
        usage=Usage(100, 50),
        bill=Bill(1.25, 1.0, 3.0, CHARGE),
        charge=CHARGE,
        verdict=Verdict(0.4, has_passed=False, charge=CHARGE),
    )
    left = decided_context(**ANSWERED, is_cancelled=True, phase=Phase.RELAY, bill=Bill(0.25, charge=CHARGE))
    refused = [context(failure=InvalidJsonError("no")), context(request=request(), failure=OverloadedError("full"))]
    found = [miss, loss, hit, escalated, left, *refused, miss]
    for ctx in found:
        ctx.stopwatch._clock = lambda ctx=ctx: ctx.stopwatch.started_s + 0.75
    return found


def recorded():
    metrics = Metrics()
    metrics.know({"auto", "small", "large"})
    for ctx in finished():
        metrics.record(ctx)
    metrics.track("small", 1)
    metrics.child(metrics.redis, "get").observe(0.01)
    return metrics


@pytest.fixture
def shared(monkeypatch, tmp_path):
    """Recorded by a worker. (prometheus_client, imported before, keeps in memory what it else has in files.)"""
    monkeypatch.setenv(METRICS_FOLDER, str(tmp_path))
    return recorded()


def test_all_metrics_read_alike_where_workers_share_them(shared, monkeypatch):
    monkeypatch.delenv(METRICS_FOLDER)
    shared.families.pour()
    assert render(shared.registry)[0] == render(recorded().registry)[0]


def test_nothing_is_poured_twice(shared, monkeypatch):
    monkeypatch.delenv(METRICS_FOLDER)
    alone = recorded()
    for metrics in (shared, alone):
        for ctx in [*finished(), *finished()]:
            metrics.families.pour()
            metrics.record(ctx)
        metrics.track("small", -1)
    shared.families.pour()
    shared.families.pour()
    assert render(shared.registry)[0] == render(alone.registry)[0]


async def test_a_worker_pours_by_itself(shared):
    pouring = asyncio.create_task(shared.families.keep_poured())
    await asyncio.sleep(0)
    shared.track("large", 1)
    await asyncio.sleep(POUR_S * 1.5)
    pouring.cancel()
    assert b'postern_in_flight{model="large"} 1.0' in generate_latest(shared.registry)


async def test_who_shares_nothing_pours_nothing():
    await asyncio.wait_for(recorded().families.keep_poured(), 1)


def test_children_at_hand_are_bounded_and_lose_nothing(monkeypatch):
    monkeypatch.setattr(metrics_module, "MAX_BOUND", 2)
    metrics = recorded()
    assert len(metrics._combinations) <= 2
    monkeypatch.undo()
    assert render(metrics.registry) == render(recorded().registry)


def test_a_name_that_is_configured_no_longer_is_no_label_any_more():
    metrics = recorded()
    metrics.know({"small"})
    metrics.record(finished()[0])
    assert b'postern_requests_total{model="small",reason="score",route="other",status="ok",tier="weak"}' in render(
        metrics.registry
    )[0]  # fmt: skip


async def test_a_scrape_lets_others_have_their_turn(monkeypatch):
    metrics, turns = recorded(), 0

    async def count_turns():
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.create_task(count_turns())
    monkeypatch.setattr(metrics_module, "SLICE_S", 0.0)
    found = await render_in_turns(metrics.registry)
    counting.cancel()
    assert found == render(metrics.registry)
    assert turns > 30
