"""The guarantee of a bounded loss, simulated; thresholds for shares and budgets, by hand."""

import numpy as np
import pytest

from router_models.bounds import (
    GRID,
    TooFewLabelsError,
    certify,
    labels_needed,
    losses,
    refutes,
    thresholds,
)
from router_models.costs import Costs
from router_models.thresholds import BudgetError, at, for_budget, for_share

DRAWS = 600
ALPHA, DELTA = 0.02, 0.05
# 5% and three standard deviations of a binomial count.
ALLOWED = DELTA + 3 * (DELTA * (1 - DELTA) / DRAWS) ** 0.5


def smooth(rng, rows):
    """Losses that grow with the score; the weak side wins now and then. True loss: t^3 / 12 - t^2 / 40."""
    score = rng.random(rows)
    gap = (rng.random(rows) < score**2 / 4).astype(float) - (rng.random(rows) < score / 20)
    return score, gap


def stepped(rng, rows):
    """The hardest case: the loss jumps to just over the bound, so that any threshold past the step violates it."""
    score = rng.random(rows)
    return score, ((score > 0.3) & (score < 0.4) & (rng.random(rows) < 0.21)).astype(float)


TRUE_LOSS = {smooth: lambda t: t**3 / 12 - t**2 / 40, stepped: lambda t: 0.21 * min(max(t - 0.3, 0.0), 0.1)}


@pytest.mark.parametrize(("draw", "rows"), [(smooth, 300), (stepped, 800)])
def test_the_loss_exceeds_the_bound_in_less_than_5_percent_of_draws(draw, rows):
    violations = 0
    for seed in range(DRAWS):
        rng = np.random.default_rng(seed)
        try:
            violations += TRUE_LOSS[draw](certify(*draw(rng, rows), ALPHA, DELTA, rng).threshold) > ALPHA
        except TooFewLabelsError:
            continue
    assert violations / DRAWS <= ALLOWED


def test_more_labels_certify_more():
    found = [
        certify(*smooth(np.random.default_rng(1), rows), ALPHA, DELTA, np.random.default_rng(0))
        for rows in (400, 20_000)
    ]
    assert found[0].threshold < found[1].threshold <= found[1].hopeful + 1 / GRID
    assert found[1].threshold > 0.6  # the true limit is 0.71
    assert found[1].weak_share == pytest.approx(found[1].threshold, abs=0.02)


def test_a_test_at_its_own_bound_is_refuted_in_less_than_5_percent():
    wrong = sum(
        refutes((np.random.default_rng(seed).random(400) < 0.1).astype(float), 0.1, DELTA) for seed in range(DRAWS)
    )
    assert wrong / DRAWS <= ALLOWED


def test_a_far_smaller_loss_is_refuted_nearly_always():
    right = sum(
        refutes((np.random.default_rng(seed).random(1000) < 0.01).astype(float), 0.05, DELTA) for seed in range(100)
    )
    assert right >= 98


def test_the_grid_is_fixed_and_losses_are_of_the_weak_side_only():
    assert (len(thresholds()), thresholds()[-1]) == (GRID, 1.0)
    assert losses(np.array([0.2, 0.3, 0.4]), np.array([1.0, -0.5, 1.0]), 0.4).tolist() == [1.0, -0.5, 0.0]


def test_too_few_labels_are_refused_with_a_number_that_would_do():
    rng = np.random.default_rng(0)
    score, gap = smooth(rng, 60)
    with pytest.raises(TooFewLabelsError, match=r"60 labels can't show .* about") as told:
        certify(score, gap, ALPHA, DELTA, rng)
    needed = told.value.needed
    assert 60 < needed < 20_000
    enough = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        try:
            certify(*smooth(rng, needed), ALPHA, DELTA, rng)
            enough += 1
        except TooFewLabelsError:
            continue
    assert enough >= 30


def test_where_the_weak_side_always_loses_no_number_is_promised():
    with pytest.raises(TooFewLabelsError, match="wherever the weak side answers") as told:
        certify(np.full(500, 0.2), np.ones(500), ALPHA, DELTA, np.random.default_rng(0))
    assert told.value.needed is None


def test_the_number_of_labels_grows_with_the_variance_and_the_nearness_of_the_bound():
    def needed(share, bound):
        loss = np.array([1.0] * round(1000 * share) + [0.0] * round(1000 * (1 - share)))
        return labels_needed(loss, bound, DELTA, np.random.default_rng(0))

    assert needed(0.0, 0.02) < needed(0.005, 0.02) < needed(0.01, 0.02) < needed(0.015, 0.02)
    assert needed(0.0, 0.02) > needed(0.0, 0.05)
    assert needed(0.02, 0.02) is needed(0.0199999, 0.02) is None


SCORE = np.array([0.1, 0.2, 0.3, 0.3, 0.9])
COSTS = Costs(np.full(5, 1e-3), np.array([2e-3, 3e-3, 4e-3, 5e-3, 6e-3]), "as told")


@pytest.mark.parametrize(
    ("share", "threshold", "strong"),
    [(0.0, 0.900001, 0.0), (0.2, 0.6, 0.2), (0.35, 0.6, 0.2), (0.5, 0.25, 0.6), (0.8, 0.15, 0.8), (1.0, 0.0, 1.0)],
)
def test_a_share_is_met_as_nearly_as_equal_scores_allow(share, threshold, strong):
    found = for_share(SCORE, share)
    assert (found.threshold, found.strong_share) == (pytest.approx(threshold), pytest.approx(strong))
    assert found.strong_share == pytest.approx(np.mean(found.threshold <= SCORE))


def test_a_share_on_many_prompts_is_exact_and_tells_its_error():
    found = for_share(np.random.default_rng(0).random(5000), 0.3)
    assert found.strong_share == pytest.approx(0.3, abs=0.001)
    assert found.share_error == pytest.approx(2 * (0.3 * 0.7 / 5000) ** 0.5, rel=0.01)


def test_a_score_of_one_can_be_kept_from_the_strong_side_by_no_threshold():
    assert for_share(np.ones(5), 0.0).strong_share == 1.0


def test_costs_of_a_threshold_by_hand():
    found = at(0.25, SCORE, COSTS)
    assert found.usd_per_1000 == pytest.approx((1 + 1 + 4 + 5 + 6) / 5)
    assert found.share_of_all_strong_cost == pytest.approx(17 / 20)


def test_a_budget_buys_as_much_of_the_strong_side_as_it_can():
    found = for_budget(SCORE, COSTS, 2.1)
    assert (found.strong_share, found.usd_per_1000) == (0.2, pytest.approx(2.0))
    assert for_budget(SCORE, COSTS, 99).strong_share == 1.0
    with pytest.raises(BudgetError, match="cheapest mix is 1"):
        for_budget(SCORE, COSTS, 0.5)
