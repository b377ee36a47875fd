"""Drift: the population stability index of live traffic against the reference that training wrote."""

import math
import random

import msgspec
import pytest

from gateway.core.judgement import Distribution, Reference
from gateway.telemetry.drift import LEAST, Drift, psi
from gateway.telemetry.fading import FadingSums
from router_models.reference import build_reference

TENTHS = Distribution(tuple(step / 10 for step in range(1, 10)), (0.1,) * 10)


def watch(scores, signals=(), **options):
    found = Drift(Reference(TENTHS, dict.fromkeys(("words", "code")[: len(signals)], TENTHS)), **options)
    for score in scores:
        found.observe(score, [draw() for draw in signals])
    return found


def test_the_index_is_siddiqis():
    trained, live = (0.2, 0.3, 0.5), (0.3, 0.3, 0.4)
    by_hand = 0.1 * math.log(0.3 / 0.2) - 0.1 * math.log(0.4 / 0.5)
    assert psi(trained, live) == pytest.approx(by_hand)
    assert psi(trained, [count * 100 for count in live]) == pytest.approx(by_hand)


def test_an_empty_bin_counts_as_almost_empty_on_either_side():
    assert psi((0.5, 0.5, 0.0), (1, 1, 0)) == 0
    assert psi((0.5, 0.5), (1, 0)) == pytest.approx((1 - 0.5) * math.log(2) + (1e-4 - 0.5) * math.log(1e-4 / 0.5))
    assert psi((1.0, 0.0), (0.5, 0.5)) > 1


def test_traffic_as_in_training_has_not_drifted_and_other_traffic_has():
    random.seed(5)
    same = watch([random.random() for _ in range(4_000)])
    other = watch([random.random() ** 2 for _ in range(4_000)])
    assert same.psi()["score"] < 0.02
    assert other.psi()["score"] > 0.25


def test_nothing_is_told_before_there_is_enough_to_tell():
    found = watch([0.5] * (LEAST - 1))
    assert found.psi() == {}
    found.observe(0.5, ())
    assert found.psi()["score"] > 1
    assert found.count == LEAST


def test_every_signal_is_told_by_its_own_name():
    random.seed(6)
    found = watch([random.random() for _ in range(1_000)], [random.random, lambda: 0.95])
    told = found.psi()
    assert found.names == ("score", "words", "code")
    assert told["score"] < 0.1
    assert told["words"] < 0.1
    assert told["code"] > 1


def test_a_router_that_gives_fewer_or_more_signals_than_its_reference_is_told_as_far_as_both_go():
    found = Drift(Reference(TENTHS, {"words": TENTHS, "code": TENTHS}))
    for _ in range(LEAST):
        found.observe(0.5, (0.5,))
    assert set(found.psi()) == {"score", "words"}
    found.observe(0.5, (0.5, 0.5, 0.5, 0.5))
    assert set(found.psi()) == {"score", "words", "code"}


def test_the_past_fades():
    found = watch([0.05] * 1_000, half_life=100)
    for _ in range(200):
        for step in range(10):
            found.observe(step / 10 + 0.05, ())
    assert found.psi()["score"] < 0.01


def test_sums_stay_finite_for_ever():
    fading = FadingSums(2, half_life=1)
    for number in range(2_000):
        weight = fading.weigh()
        fading.sums[number % 2] += weight
    assert all(math.isfinite(each) for each in fading.sums)
    assert fading.sums[1] / fading.sums[0] == pytest.approx(2)
    assert fading.count == 2_000


def test_what_training_writes_is_read_and_has_no_drift_against_itself():
    random.seed(7)
    scores = [random.betavariate(2, 5) for _ in range(2_000)]
    words = [float(random.choice([0, 0, 0, 0, 1, 2, 7])) for _ in scores]
    text = msgspec.json.encode(build_reference(scores, {"words": words}))
    found = Drift(msgspec.json.decode(text, type=Reference), half_life=1e9)
    for score, count in zip(scores, words, strict=True):
        found.observe(score, (count,))
    assert found.psi() == pytest.approx({"score": 0, "words": 0}, abs=1e-6)
