"""What each head learns on data whose answer is known."""

import numpy as np
import pytest
from scipy import sparse

from gateway.classify.features import FEATURE_NAMES
from gateway.core.judgement import DOMAINS
from router_models.heads import (
    FRONTIER,
    FRONTIER_LEAD,
    LENGTH,
    MIN_SLOPE,
    WEAK,
    Linear,
    Recipe,
    fit_chances,
    fit_curve,
    fit_domains,
    fit_rank,
    fit_tokens,
    tell_chances,
    tell_domains,
)

COLUMNS = len(FEATURE_NAMES) + 3
PLAIN = Recipe(1.0, chances=0.0, length=0.0)
EVEN = np.full((600, 3), 0.5)


@pytest.fixture
def read():
    return np.random.default_rng(0).normal(size=(600, COLUMNS)).astype(np.float32)


def sigmoid(values):
    return 1 / (1 + np.exp(-values))


def test_the_ranking_follows_what_is_gained_in_its_own_unit(read):
    gap = read[:, -1].astype(float)
    rank = fit_rank(read, gap, EVEN, np.ones(600), PLAIN).apply(read, EVEN)
    assert np.corrcoef(rank, gap)[0, 1] > 0.999
    assert (rank.mean(), rank.std()) == (pytest.approx(0, abs=1e-3), pytest.approx(1, abs=1e-3))


def test_length_joins_by_its_weight(read):
    gap = read[:, -1].astype(float)
    found = fit_rank(read, gap, EVEN, np.ones(600), Recipe(1.0, chances=0.0, length=0.25)).linear.weights[:, 0]
    ratio = found / found[-1]
    assert ratio[LENGTH] == pytest.approx(0.25, abs=0.05)
    assert np.abs(np.delete(ratio, [COLUMNS - 1, LENGTH])).max() < 0.02


def test_what_a_frontier_model_gains_joins_by_its_weight(read):
    gap = read[:, -1].astype(float)
    chances = np.column_stack([sigmoid(read[:, 0]), np.full(600, 0.3), np.full(600, 0.9)])
    rank = fit_rank(read, gap, chances, np.ones(600), Recipe(1.0, chances=0.5, length=0.0))
    without = fit_rank(read, gap, chances, np.ones(600), PLAIN)
    added = rank.apply(read, chances) - without.apply(read, chances)
    gained = chances[:, FRONTIER] - chances[:, WEAK]
    assert np.corrcoef(added, gained)[0, 1] > 0.999
    assert added.std() == pytest.approx(0.5, abs=0.01)


def test_a_scaled_ranking_is_the_ranking_scaled(read):
    chances = sigmoid(read[:, :3].astype(float))
    rank = fit_rank(read, read[:, -1].astype(float), chances, np.ones(600), Recipe())
    assert rank.scaled(2.0, -1.0).apply(read, chances) == pytest.approx(2.0 * rank.apply(read, chances) - 1.0)


def test_a_row_of_no_weight_teaches_nothing(read):
    gap = np.where(np.arange(600) < 300, read[:, -1], -100 * read[:, -1]).astype(float)
    weight = (np.arange(600) < 300).astype(float)
    rank = fit_rank(read, gap, EVEN, weight, PLAIN).apply(read, EVEN)
    assert np.corrcoef(rank, read[:, -1])[0, 1] > 0.99


def test_where_nothing_differs_there_is_no_ranking_and_no_fault(read):
    same = np.zeros_like(read)
    rank = fit_rank(same, np.full(600, 0.3), EVEN, np.ones(600), Recipe()).apply(same, EVEN)
    assert rank == pytest.approx(np.zeros(600))


def test_the_curve_finds_the_one_that_is_there():
    rank = np.linspace(-3, 3, 2000)
    assert fit_curve(rank, sigmoid(0.5 * rank - 1), np.ones(2000)) == pytest.approx((0.5, -1.0), abs=0.01)


@pytest.mark.parametrize("win", [1 - np.linspace(0, 1, 200), np.full(200, 0.4), np.zeros(200), np.ones(200)])
def test_the_curve_never_falls(win):
    slope, offset = fit_curve(np.linspace(0, 1, 200), win, np.ones(200))
    assert slope >= MIN_SLOPE
    assert np.isfinite(offset)


def test_chances_are_those_of_either_side(read):
    weak, strong = sigmoid(2.0 * read[:, 0]), sigmoid(1.0 + 0 * read[:, 0])
    found = tell_chances(fit_chances(read, weak, strong, np.ones(600)), read)
    frontier = sigmoid(1.0 + FRONTIER_LEAD + 0 * read[:, 0])
    assert np.abs(found - np.column_stack([weak, strong, frontier])).mean() < 0.05


def test_tokens_are_told_by_their_logarithm(read):
    found = fit_tokens(read, np.exp(5 + read[:, 1].astype(float))).apply(read)[:, 0]
    assert np.abs(found - (5 + read[:, 1])).mean() < 0.1


def texts_of(names):
    """Each domain has a word of its own."""
    rows = np.array([DOMAINS.index(name) for name in names])
    votes = sparse.csr_matrix((np.ones(len(rows), dtype=np.float32), (np.arange(len(rows)), rows)))
    votes.resize(len(rows), len(DOMAINS))
    return np.random.default_rng(0).normal(size=(len(rows), 4)).astype(np.float32), votes


@pytest.mark.parametrize("several", [DOMAINS, ("law", "math"), ("math", "chat", "law")])
def test_domains_are_told_and_one_never_seen_is_never_named(several):
    names = list(several) * 20
    whole, votes = texts_of(names)
    head = fit_domains(whole, votes, names)
    told = tell_domains(head, whole, votes)
    assert told.sum(axis=1) == pytest.approx(np.ones(len(names)))
    assert [DOMAINS[place] for place in told.argmax(axis=1)] == names
    unseen = [place for place, name in enumerate(DOMAINS) if name not in several]
    assert not unseen or told[:, unseen].max() < 1e-6
    assert head.table.dtype == np.int8


def test_far_logits_are_no_overflow():
    whole, votes = texts_of(["law", "math"] * 5)
    head = fit_domains(whole, votes, ["law", "math"] * 5)
    assert np.isfinite(tell_domains(head, whole * 1e6, votes)).all()
    assert Linear(np.ones((2, 1)), np.array([1.0])).apply(np.ones((3, 2), dtype=np.float32)).tolist() == [[3.0]] * 3
