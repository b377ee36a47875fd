"""What is told of routers: drift now and then, calibration by marks, and nothing of a version that is gone."""

import math

import pytest
from prometheus_client import CollectorRegistry

from gateway.core.judgement import Distribution, Judgement, Reference
from gateway.telemetry.calibration import LEAST as LEAST_MARKS
from gateway.telemetry.drift import LEAST
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.router_watch import TELL_EVERY, RouterMetrics, RouterWatch

HALVES = Distribution((0.5,), (0.5, 0.5))
REFERENCE = Reference(HALVES, {"words": HALVES})


@pytest.fixture
def metrics():
    found = Metrics(CollectorRegistry())
    found.know({"auto", "small"})
    return found


@pytest.fixture
def make(metrics):
    router_metrics = RouterMetrics(metrics)
    return lambda reference=REFERENCE: RouterWatch("default", "v1", reference, router_metrics)


def told(metrics, name):
    return {
        tuple(sample.labels.values()): sample.value
        for family in metrics.registry.collect()
        for sample in family.samples
        if sample.name == name
    }


def test_drift_is_told_of_the_score_and_every_signal_once_there_is_enough(metrics, make):
    watch = make()
    for number in range(LEAST + TELL_EVERY):
        assert told(metrics, "postern_drift_psi") == {} or number >= LEAST
        watch.observe(Judgement(0.9, signals=(float(number % 2),)))
    found = told(metrics, "postern_drift_psi")
    assert set(found) == {("default", "score"), ("default", "words")}
    assert found["default", "score"] > 1
    assert found["default", "words"] < 0.01


def test_a_router_without_a_reference_tells_no_drift(metrics, make):
    watch = make(None)
    for _ in range(LEAST + TELL_EVERY):
        watch.observe(Judgement(0.9))
    watch.retire()
    assert told(metrics, "postern_drift_psi") == {}


def test_calibration_is_told_by_tier_once_there_are_marks_enough(metrics, make):
    watch = make()
    for _ in range(LEAST_MARKS - 1):
        watch.mark("weak", 0.9, 0.0)
    assert told(metrics, "postern_calibration_error") == {}
    watch.mark("weak", 0.9, 0.0)
    watch.mark("strong", 0.9, 1.0)
    assert told(metrics, "postern_calibration_error") == {("default", "weak"): pytest.approx(0.9)}
    assert told(metrics, "postern_calibration_bias") == {("default", "weak"): pytest.approx(0.9)}


def test_a_retired_version_takes_back_what_it_told_and_only_that(metrics, make):
    watch = make()
    for number in range(LEAST):
        watch.observe(Judgement(0.9, signals=(float(number % 2),)))
        watch.mark("weak", 0.9, 0.0)
    watch.mark("strong", 0.9, 1.0)
    watch.retire()
    drift, error = told(metrics, "postern_drift_psi"), told(metrics, "postern_calibration_error")
    assert len(drift) == 2
    assert all(math.isnan(value) for value in (*drift.values(), *error.values()))
    assert set(error) == {("default", "weak")}


def test_marks_are_counted_by_their_side_of_one_half(metrics):
    router_metrics = RouterMetrics(metrics)
    for mark in (0.0, 0.49, 0.5, 1.0, 1.0):
        router_metrics.count_mark("auto", "small", "weak", mark)
    router_metrics.count_mark("made up", "small", None, 1.0)
    assert told(metrics, "postern_feedback_total") == {
        ("auto", "small", "weak", "bad"): 2,
        ("auto", "small", "weak", "good"): 3,
        ("other", "small", "none", "good"): 1,
    }


def test_a_routes_threshold_and_share_are_told_until_it_has_none(metrics):
    router_metrics = RouterMetrics(metrics)
    router_metrics.tell_routes({"auto": 0.5, "held": 0.4}, {"held": 0.3})
    assert told(metrics, "postern_threshold") == {("auto",): 0.5, ("held",): 0.4}
    assert told(metrics, "postern_strong_share_wanted") == {("held",): 0.3}
    router_metrics.tell_routes({"held": 0.4}, {})
    assert told(metrics, "postern_threshold") == {("held",): 0.4}
    assert told(metrics, "postern_strong_share_wanted") == {}
    router_metrics.tell_routes({}, {})
    assert told(metrics, "postern_threshold") == {}


def test_a_threshold_that_moves_is_told_of_routes_that_have_one_only(metrics):
    router_metrics = RouterMetrics(metrics)
    router_metrics.tell_routes({"held": 0.4}, {"held": 0.3})
    router_metrics.tell_thresholds({"held": 0.45, "of one model": 0.2})
    assert told(metrics, "postern_threshold") == {("held",): 0.45}
