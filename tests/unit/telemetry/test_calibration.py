"""Calibration: the chances that a router told against the marks that answers got."""

import random

import pytest

from gateway.telemetry.calibration import LEAST, Reliability


def marked(pairs, **options):
    found = Reliability(**options)
    for chance, mark in pairs:
        found.add(chance, mark)
    return found


def test_the_error_is_the_mean_distance_over_bins():
    half = LEAST // 2
    found = marked([(0.85, 1.0)] * half + [(0.25, 0.0)] * half, half_life=1e9)
    assert found.error() == pytest.approx((0.15 + 0.25) / 2, abs=1e-6)
    assert found.bias() == pytest.approx((0.25 - 0.15) / 2, abs=1e-6)


def test_chances_that_hold_have_little_error_and_ones_that_do_not_have_much():
    random.seed(3)
    chances = [random.random() for _ in range(4_000)]
    honest = marked([(chance, float(random.random() < chance)) for chance in chances])
    boastful = marked([(chance, float(random.random() < chance**3)) for chance in chances])
    assert honest.error() < 0.06
    assert abs(honest.bias()) < 0.05
    assert boastful.error() > 0.15
    assert boastful.bias() > 0.15


def test_nothing_is_told_before_there_are_enough_marks():
    found = marked([(0.5, 1.0)] * (LEAST - 1))
    assert (found.error(), found.bias()) == (None, None)
    found.add(0.5, 1.0)
    assert (found.error(), found.bias()) == (pytest.approx(0.5), pytest.approx(-0.5))


def test_the_ends_of_the_scale_have_bins():
    found = marked([(1.0, 1.0), (0.0, 0.0)] * LEAST)
    assert found.error() == 0


def test_old_marks_fade():
    found = marked([(0.9, 0.0)] * LEAST + [(0.9, 0.9)] * 500, half_life=50)
    assert found.error() < 0.01
