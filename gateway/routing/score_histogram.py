"""A histogram of scores in which the recent ones weigh more, its quantiles, and what of it is new. Pure.

A Fenwick tree (Fenwick 1994): to add and to find a quantile take ten steps each, however the scores lie.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Final

import msgspec

from gateway.core.judgement import Distribution

BINS: Final = 1024
ABOVE_ALL: Final = 1.000001
"""A threshold that no score reaches."""
_TOO_LARGE: Final = 1e12


class News(msgspec.Struct, frozen=True):
    """What was added since it was last asked for: weights by bin, and what of their weight all older ones keep."""

    weights: Mapping[int, float]
    keep: float


class ScoreHistogram:
    """Weights of scores from 0 to 1, in fine bins. Instead of all weights shrinking, that of the next one grows."""

    def __init__(self, prior: Distribution | None, weight: float) -> None:
        """Begin with a distribution of this weight; without one, with any score being as likely as another."""
        self._bins = spread(prior or Distribution((), (1.0,)), weight)
        self._tree = _tree_of(self._bins)
        self._total = weight
        self._unit = 1.0
        self._news: dict[int, float] = {}
        self._told_unit = 1.0

    def add(self, score: float, keep: float) -> None:
        """Add one score; all before it keep this share of their weight."""
        self._unit /= keep
        unit, tree = self._unit, self._tree
        place = _bin(score)
        self._bins[place] += unit
        self._news[place] = self._news.get(place, 0.0) + unit
        self._total += unit
        place += 1
        while place <= BINS:
            tree[place] += unit
            place += place & -place
        if unit > _TOO_LARGE:
            self._fill(self.weights())

    def quantile(self, share: float, push: Callable[[float], float] = lambda _: 0.0) -> float:
        """Return the score that this share of the weight reaches; inside a bin it is interpolated.

        Where in a bin its scores lie is not known. `push` tells from the bin's share of the weight by how many bins to
        move on inside it.
        """
        if share >= 1:
            return 0.0
        if share <= 0:
            return ABOVE_ALL
        rest = (1 - share) * self._total
        place, step, tree = 0, BINS, self._tree
        while step:
            ahead = place + step
            if ahead <= BINS and tree[ahead] <= rest:
                place = ahead
                rest -= tree[ahead]
            step >>= 1
        place = min(place, BINS - 1)
        weight = self._bins[place]
        # Sums round: the place found may be an empty one beside the right one.
        inside = min(max(rest / weight + push(weight / self._total), 0.0), 1.0) if weight else 0.0
        return ABOVE_ALL if place + inside >= BINS else (place + inside) / BINS

    def weights(self) -> list[float]:
        """Return each bin's weight; the newest score's is 1."""
        return [weight / self._unit for weight in self._bins]

    def take_news(self) -> News:
        """Return what was added since the last call."""
        news = News({place: weight / self._unit for place, weight in self._news.items()}, self._told_unit / self._unit)
        self._news, self._told_unit = {}, self._unit
        return news

    def put_back(self, news: News) -> None:
        """Take news back that nobody could be told, as if they had never been taken."""
        for place, weight in news.weights.items():
            self._news[place] = self._news.get(place, 0.0) + weight * self._told_unit
        self._told_unit *= news.keep

    def adopt(self, weights: Sequence[float]) -> None:
        """Take the weights that all replicas know in place of these; what is new here since it was told stays."""
        keep = self._told_unit / self._unit
        merged = [weight * keep for weight in weights]
        for place, weight in self._news.items():
            merged[place] += weight / self._unit
        self._fill(merged)

    def _fill(self, weights: list[float]) -> None:
        """Stand on these weights, the newest score's being 1 again."""
        self._news = {place: weight / self._unit for place, weight in self._news.items()}
        self._told_unit /= self._unit
        self._unit = 1.0
        self._bins, self._tree, self._total = weights, _tree_of(weights), sum(weights)


def spread(distribution: Distribution, weight: float) -> list[float]:
    """Return a distribution over 0 to 1 as bins that weigh `weight` together, even within each of its own."""
    bins = [0.0] * BINS
    for share, (low, high) in zip(distribution.share, pairwise((0.0, *distribution.edges, 1.0)), strict=True):
        first = _bin(low)
        count = max(1, _bin(high) - first + (high >= 1))
        for place in range(first, first + count):
            bins[place] += share * weight / count
    return bins


def _bin(score: float) -> int:
    return min(max(int(score * BINS), 0), BINS - 1)


def _tree_of(bins: Sequence[float]) -> list[float]:
    tree = [0.0, *bins]
    for place in range(1, BINS):
        tree[place + (place & -place)] += tree[place]
    return tree
