"""A residual learns what the labels show, stays out where they show nothing, and never extrapolates far."""

import numpy as np
import pytest

from router_models.evaluate import apgr
from router_models.odds import logit
from router_models.residual import (
    FewLabelsError,
    Labelled,
    adapt,
    learning_curve,
    merge_repeated,
    rank_held_out,
)

COLUMNS = 20


def labels(rows, seed=0, *, lesson=2.0, signal=1.0, measures=COLUMNS):
    """Gaps that follow the score by `signal`, and the first column of the representation by `lesson`."""
    rng = np.random.default_rng(seed)
    representation = rng.normal(size=(rows, COLUMNS))
    representation[:, -1] = 7.0  # never varies
    base = rng.normal(size=rows)
    chance = 1 / (1 + np.exp(-(signal * base + lesson * representation[:, 0])))
    gap = (rng.random(rows) < chance).astype(float)
    return Labelled(1 / (1 + np.exp(-base)), representation, gap, gap, measures)


def test_what_the_labels_show_is_learned_and_holds_on_others():
    found = adapt(labels(400), np.random.default_rng(1))
    assert found.residual is not None
    assert found.adapted > found.shipped + 0.06
    assert found.difference[0] > 0
    others = labels(3000, seed=9)
    score = found.residual.apply(others.score, others.representation)
    assert apgr(score, others.gap) > apgr(others.score, others.gap) + 0.06
    # What was told on held-out folds is what comes of it.
    assert apgr(score, others.gap) == pytest.approx(found.adapted, abs=0.05)
    # And it is a chance: calibrated on labels it has not seen.
    assert np.mean(score) == pytest.approx(np.mean(others.win), abs=0.05)
    high = score > 0.7
    assert np.mean(score[high]) == pytest.approx(np.mean(others.win[high]), abs=0.06)


@pytest.mark.parametrize("seed", range(6))
def test_where_the_labels_teach_nothing_the_router_stays_or_is_no_worse(seed):
    found = adapt(labels(200, seed, lesson=0.0), np.random.default_rng(seed))
    if found.residual is not None:
        others = labels(4000, seed=99, lesson=0.0)
        score = found.residual.apply(others.score, others.representation)
        assert apgr(score, others.gap) > apgr(others.score, others.gap) - 0.02
    else:
        assert found.adapted <= found.shipped or found.sure < 0.8


def test_at_least_one_of_them_stays():
    kept = [adapt(labels(200, seed, lesson=0.0), np.random.default_rng(seed)).residual is None for seed in range(6)]
    assert sum(kept) >= 4


def test_a_router_that_is_wrong_for_this_pair_is_turned_round():
    found = adapt(labels(600, lesson=0.0, signal=-1.5), np.random.default_rng(0))
    assert found.shipped < 0.45 < 0.55 < found.adapted
    assert found.residual.slope < 0


def test_held_out_ranks_saw_nothing_of_their_fold(monkeypatch):
    # Hardly shrunk, a fit knows its own labels by heart: seen ones would stand out.
    monkeypatch.setattr("router_models.residual.STRENGTHS", (1.0,))
    noise = labels(300, lesson=0.0, signal=0.0)
    noise = Labelled(noise.score, np.random.default_rng(1).normal(size=(300, 150)), noise.gap, noise.win, 150)
    apgrs = [apgr(rank_held_out(noise, np.random.default_rng(seed)), noise.gap) for seed in range(4)]
    assert np.mean(apgrs) == pytest.approx(0.5, abs=0.05)


def test_a_vectors_columns_keep_their_spread_and_measures_do_not():
    both = labels(400, measures=1)
    wide = both.representation * np.array([100.0, *[1.0] * (COLUMNS - 1)])
    units = Labelled(both.score, wide, both.gap, both.win, 1)
    first, second = (adapt(one, np.random.default_rng(1)) for one in (both, units))
    # The unit of a measure changes nothing.
    assert first.adapted == pytest.approx(second.adapted)
    # A column of the vector that hardly varies hardly speaks, however well it would fit.
    faint = Labelled(both.score, both.representation * np.array([1e-3, *[1.0] * (COLUMNS - 1)]), both.gap, both.win, 0)
    assert adapt(faint, np.random.default_rng(1)).adapted < first.adapted - 0.05


def test_scores_stay_finite_however_sure():
    found = adapt(labels(400), np.random.default_rng(1)).residual
    assert np.isfinite(found.apply(np.array([0.0, 1.0]), np.zeros((2, COLUMNS)))).all()


def test_a_column_that_never_varies_has_no_say():
    found = adapt(labels(400), np.random.default_rng(1)).residual
    moved = np.zeros((2, COLUMNS))
    moved[1, -1] = 100.0
    assert found.push(moved)[0] == found.push(moved)[1]


def test_the_learning_curve_rises_and_ends_before_the_labels_do():
    curve = learning_curve(labels(1100), np.random.default_rng(0))
    assert [step.labels for step in curve] == [100, 200, 400, 800]
    assert curve[0].adapted < curve[-1].adapted
    assert all(step.adapted > step.shipped for step in curve)


def test_too_few_labels_and_no_gap_are_refused():
    with pytest.raises(FewLabelsError, match="99 labels; a residual needs 100"):
        adapt(labels(99), np.random.default_rng(0))
    flat = labels(200)
    with pytest.raises(FewLabelsError, match="nothing to route for"):
        adapt(Labelled(flat.score, flat.representation, -flat.gap, flat.win, COLUMNS), np.random.default_rng(0))


def test_the_same_seed_gives_the_same_residual():
    first, second = (adapt(labels(200), np.random.default_rng(4)) for _ in range(2))
    assert (first.adapted, first.residual.slope) == (second.adapted, second.residual.slope)


def test_logits_stay_finite():
    assert np.isfinite(logit(np.array([0.0, 1.0]))).all()
    assert logit(np.array([0.5]))[0] == 0.0


def test_labels_of_equal_texts_are_averaged_in_the_order_of_their_first():
    labels = Labelled(
        np.array([0.2, 0.6, 0.2]), np.array([[1.0], [2.0], [1.0]]), np.array([1.0, 0.5, 0.0]), np.array([1, 0, 0]), 1
    )  # fmt: skip
    merged = merge_repeated(["b", "a", "b"], labels)
    assert merged.score.tolist() == [0.2, 0.6]
    assert merged.representation.tolist() == [[1.0], [2.0]]
    assert (merged.gap.tolist(), merged.win.tolist()) == ([0.5, 0.5], [0.5, 0.0])
