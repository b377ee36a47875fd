import numpy as np
import pytest

from router_models.data import Example
from router_models.evaluate import (
    NoGapError,
    apgr,
    calibration_error,
    cpt,
    evaluate,
    measure,
    over_length,
    pgr_curve,
    pooled_gain,
    threshold_for_share,
)

# Four prompts, gain of the strong side 1, 0, 0, 1.
GAP = np.array([1.0, 0.0, 0.0, 1.0])
BEST = np.array([0.9, 0.2, 0.1, 0.8])
WORST = -BEST
FLAT = np.full(4, 0.5)


def example(bench, weak, strong, prompt="p"):
    return Example(prompt, bench, "own", weak, strong, strong * (1 - weak))


def test_pgr_sends_the_highest_scores_to_the_strong_side_first():
    share, gained = pgr_curve(np.array([0.9, 0.1, 0.5, 0.3]), np.array([1.0, 1.0, 0.0, 2.0]))
    assert share.tolist() == [0, 0.25, 0.5, 0.75, 1]
    assert gained.tolist() == [0, 0.25, 0.25, 0.75, 1]


def test_apgr_of_the_best_order_by_hand():
    # PGR 0, .5, 1, 1, 1 at shares 0, .25, .5, .75, 1: trapezoids .0625 + .1875 + .25 + .25
    assert apgr(BEST, GAP) == pytest.approx(0.75)


def test_apgr_of_the_worst_order_is_the_mirror_image():
    assert apgr(WORST, GAP) == pytest.approx(0.25)


def test_a_constant_router_is_a_random_one():
    assert apgr(FLAT, GAP) == pytest.approx(0.5)
    assert cpt(FLAT, GAP, 0.8) == pytest.approx(0.8)


def test_equal_scores_are_mixed_in_expectation_whatever_their_order():
    score, gap = np.array([1.0, 1.0, 0.0]), np.array([3.0, 0.0, 0.0])
    assert apgr(score, gap) == apgr(score, gap[[1, 0, 2]]) == pytest.approx(2 / 3)


def test_cpt_interpolates_between_calls():
    assert cpt(BEST, GAP, 0.5) == pytest.approx(0.25)
    assert cpt(BEST, GAP, 0.8) == pytest.approx(0.40)
    assert cpt(WORST, GAP, 0.5) == pytest.approx(0.75)


def test_cpt_is_the_first_share_that_reaches_the_level():
    # A weak side that wins in the end: PGR goes 0, 1.5, 1.
    assert cpt(np.array([2.0, 1.0]), np.array([1.5, -0.5]), 0.75) == pytest.approx(0.25)


def test_no_calls_reach_nothing_and_more_than_the_gap_is_never_reached():
    assert cpt(BEST, GAP, 0.0) == 0.0
    assert cpt(BEST, GAP, 1.1) == 1.0


def test_weights_count_as_copies():
    copied = apgr(np.array([0.9, 0.9, 0.2, 0.1]), np.array([1.0, 1.0, 0.0, 0.5]))
    assert apgr(np.array([0.9, 0.2, 0.1]), np.array([1.0, 0.0, 0.5]), np.array([2.0, 1.0, 1.0])) == pytest.approx(
        copied
    )


def test_without_a_gap_there_is_no_pgr():
    with pytest.raises(NoGapError):
        apgr(BEST, np.zeros(4))


def test_calibration_error_by_hand():
    # Bin 0.2: two scores of .25 with win rates 0 and 1, off by .25; bin 0.9: one score of .95, off by .05.
    score, win = np.array([0.25, 0.25, 0.95]), np.array([0.0, 1.0, 1.0])
    assert calibration_error(score, win) == pytest.approx((2 * 0.25 + 0.05) / 3)


def test_a_score_of_one_falls_in_the_last_bin():
    assert calibration_error(np.array([1.0]), np.array([1.0])) == 0


def test_the_interval_holds_the_figure_and_is_repeatable():
    rng = np.random.default_rng(0)
    weak = rng.random(300) * 0.5
    strong = weak + rng.random(300) * 0.5
    score = np.clip(strong - weak + rng.normal(0, 0.2, 300), 0, 1)
    figures = [
        measure(score, weak, strong, strong * (1 - weak), np.ones(300), rng=np.random.default_rng(1)) for _ in range(2)
    ]
    gain = figures[0].gain
    assert gain.apgr_low < gain.apgr < gain.apgr_high
    assert gain.apgr_by_length == pytest.approx(0.5)
    assert figures[0] == figures[1]


def test_a_bench_without_a_gap_has_no_gain_and_no_say_in_the_mean():
    rows = [example("good", 0.0, 1.0), example("good", 1.0, 1.0)] * 20 + [example("none", 0.5, 0.5)] * 10
    score = np.array([0.9, 0.1] * 20 + [0.3] * 10)
    report = evaluate(rows, score, np.ones(50), seed=0)
    assert report.benches["none"].gain is None
    assert report.within_apgr == report.benches["good"].gain.apgr == pytest.approx(0.75)
    assert report.within_apgr_by_length == pytest.approx(0.5)


def test_the_ece_is_of_the_chance_and_the_apgr_of_the_rank():
    rows = [example("a", 0.0, 1.0), example("b", 1.0, 1.0)] * 20
    report = evaluate(rows, np.array([7.0, -7.0] * 20), np.ones(40), seed=0, chance=np.array([1.0, 0.0] * 20))
    assert report.pooled.ece == 0
    assert report.pooled.gain.apgr == pytest.approx(0.75)


def test_nothing_to_route_for_is_said():
    report = evaluate([example("a", 0.5, 0.5), example("b", 0.2, 0.9)], np.zeros(2), np.array([1.0, 1e-9]), seed=0)
    with pytest.raises(NoGapError, match="nothing to route"):
        pooled_gain(report)


def test_a_threshold_for_a_share_sends_that_share():
    score = np.linspace(0, 1, 1001)
    assert np.mean(score >= threshold_for_share(score, 0.3)) == pytest.approx(0.3, abs=0.002)


def test_the_lead_over_length_is_as_unsure_as_families_differ():
    rng = np.random.default_rng(0)
    length, gap = rng.random(400), np.tile([0.0, 1.0], 200)
    family = np.repeat(["a", "b", "c", "d"], 100)
    # It orders two families perfectly and two the wrong way round: the mean is clear over rows, not over families.
    score = np.where(np.isin(family, ["a", "b"]), gap, -gap) + np.where(gap > 0, 0.2, 0.0)
    value, low, high = over_length(score, gap, length, np.ones(400), family, np.random.default_rng(1))
    assert low < value < high
    assert high - low > 0.4
    alike = over_length(gap, gap, length, np.ones(400), family, np.random.default_rng(1))
    assert alike[2] - alike[1] < 0.15
    assert np.isnan(over_length(score, -gap, length, np.ones(400), family, np.random.default_rng(1))).all()
