"""Scores in fine bins, the recent ones weighing more: quantiles, and what is new."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.judgement import Distribution
from gateway.routing.score_histogram import ABOVE_ALL, BINS, ScoreHistogram, spread

SCORES = st.lists(st.floats(0, 1) | st.sampled_from([0.0, 0.25, 1.0]), max_size=40)
SHARES = st.floats(0.001, 0.999)
KEEP = 0.97


def made_of(scores, keep=KEEP, weight=1.0):
    histogram = ScoreHistogram(None, weight)
    for score in scores:
        histogram.add(score, keep)
    return histogram


def weight_from(histogram, threshold):
    """The share of the weight that lies at or above a threshold, evenly within bins."""
    place = threshold * BINS
    weights = histogram.weights()
    above = sum(weight * min(1.0, max(0.0, number + 1 - place)) for number, weight in enumerate(weights))
    return above / sum(weights)


@given(SCORES, SHARES)
def test_the_quantile_is_where_the_share_of_the_weight_begins(scores, share):
    histogram = made_of(scores)
    assert weight_from(histogram, histogram.quantile(share)) == pytest.approx(share, abs=1e-6)


@given(SCORES, SHARES, SHARES)
def test_a_greater_share_never_has_a_higher_threshold(scores, one, other):
    histogram = made_of(scores)
    assert histogram.quantile(max(one, other)) <= histogram.quantile(min(one, other)) + 1e-9


@pytest.mark.parametrize(("share", "threshold"), [(1.0, 0.0), (1.7, 0.0), (0.0, ABOVE_ALL), (-0.2, ABOVE_ALL)])
def test_all_and_none_are_beyond_every_score(share, threshold):
    assert made_of([0.0, 0.5, 1.0]).quantile(share) == threshold


def test_a_share_too_small_for_the_sums_is_still_a_score():
    assert 0.999 < made_of([0.5, 1.0]).quantile(1e-18) <= ABOVE_ALL


def test_older_scores_weigh_less_by_what_each_newer_one_lets_them_keep():
    weights = made_of([0.1, 0.9, 0.5], keep=0.5, weight=0.0).weights()
    assert [weights[int(score * BINS)] for score in (0.1, 0.9, 0.5)] == [0.25, 0.5, 1.0]
    assert sum(weights) == 1.75


def test_weights_that_grow_for_ever_are_scaled_and_nothing_is_lost():
    rng = random.Random(7)
    scores = [rng.random() for _ in range(3000)]
    long = made_of(scores, keep=0.98)
    short = made_of(scores[-1200:], keep=0.98, weight=0.0)
    assert long.weights() == pytest.approx(short.weights(), abs=1e-9)
    assert long.quantile(0.3) == pytest.approx(short.quantile(0.3), abs=1e-6)


@pytest.mark.parametrize(
    ("edges", "share", "below", "above"),
    [
        ((), (1.0,), 0.5, 0.5),
        ((0.5,), (0.1, 0.9), 0.1, 0.9),
        ((0.25, 0.5), (0.1, 0.4, 0.5), 0.5, 0.5),
        ((-1.0, 0.5, 2.0), (0.1, 0.2, 0.7, 0.0), 0.3, 0.7),
    ],
)
def test_a_distribution_is_even_within_its_bins(edges, share, below, above):
    bins = spread(Distribution(edges, share), 2.0)
    assert [sum(bins[: BINS // 2]) / 2, sum(bins[BINS // 2 :]) / 2] == pytest.approx([below, above])
    assert len(set(bins[BINS // 4 + 1 : BINS // 2])) == 1


def test_a_push_moves_on_inside_the_bin_and_never_out_of_it():
    histogram = made_of([0.5] * 50, weight=0.0)
    low, high = 0.5, 0.5 + 1 / BINS
    assert histogram.quantile(0.5) == pytest.approx((low + high) / 2)
    assert histogram.quantile(0.5, lambda share: 0.25 * share) == pytest.approx(low + 0.75 / BINS)
    assert histogram.quantile(0.5, lambda _: 9.0) == high
    assert histogram.quantile(0.5, lambda _: -9.0) == low
    assert made_of([1.0] * 50, weight=0.0).quantile(0.5, lambda _: 9.0) == ABOVE_ALL


def test_a_bin_of_no_width_keeps_its_weight():
    assert sum(spread(Distribution((0.5, 0.50001), (0.3, 0.4, 0.3)), 1.0)) == pytest.approx(1.0)


@given(SCORES, SCORES)
def test_news_are_what_was_added_since_and_what_all_older_ones_keep(before, after):
    histogram = made_of(before)
    histogram.take_news()
    old = histogram.weights()
    for score in after:
        histogram.add(score, KEEP)
    news = histogram.take_news()
    expected = [weight * news.keep for weight in old]
    for place, weight in news.weights.items():
        expected[place] += weight
    assert histogram.weights() == pytest.approx(expected)
    assert news.keep == pytest.approx(KEEP ** len(after))
    assert histogram.take_news().weights == {}


@given(SCORES, SCORES, SCORES)
def test_news_put_back_are_as_if_never_taken(before, taken, after):
    one, other = made_of(before), made_of(before)
    for histogram in (one, other):
        histogram.take_news()
        for score in taken:
            histogram.add(score, KEEP)
    news = other.take_news()
    for histogram in (one, other):
        for score in after:
            histogram.add(score, KEEP)
    other.put_back(news)
    expected, found = one.take_news(), other.take_news()
    assert found.keep == pytest.approx(expected.keep)
    assert found.weights == pytest.approx(expected.weights)


@given(SCORES, SCORES, SHARES)
def test_what_all_know_replaces_what_one_knew_but_not_what_is_new(before, after, share):
    histogram = made_of(before)
    histogram.take_news()
    known = [1.0] * BINS
    for score in after:
        histogram.add(score, KEEP)
    histogram.adopt(known)
    weights = histogram.weights()
    assert weights[0] == pytest.approx(
        KEEP ** len(after) + sum(KEEP ** (len(after) - n - 1) for n, s in enumerate(after) if s < 1 / BINS)
    )
    assert weight_from(histogram, histogram.quantile(share)) == pytest.approx(share, abs=1e-6)
    assert sum(histogram.take_news().weights.values()) == pytest.approx(sum(KEEP**n for n in range(len(after))))
