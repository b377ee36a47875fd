"""How far live traffic has moved from what a router was trained on: the population stability index (PSI). Pure.

PSI = sum over bins of (live - trained) * ln(live / trained): Siddiqi, Credit Risk Scorecards (2006), who reads below
0.1 as no shift and above 0.25 as a large one. Its noise without any shift is about (bins - 1) / requests: Yurdakul,
Statistical Properties of Population Stability Index (2018); hence LEAST.
"""

import math
from bisect import bisect_right
from collections.abc import Sequence

from gateway.core.judgement import Distribution, Reference
from gateway.telemetry.fading import FadingSums

HALF_LIFE = 2_000
"""Requests after which a request counts half: some minutes of a busy route, a day of a quiet one."""
LEAST = 200
"""Requests before anything is told: with ten bins the noise is 0.045 by then, half of what counts as no shift."""
SCORE = "score"
_FLOOR = 1e-4
"""The least share of a bin, as ln(0) is none. Lower ones let a single stray request look like a landslide."""


class Drift:
    """Bin what a router judges now, the past fading, and compare it with its reference."""

    def __init__(self, reference: Reference, half_life: float = HALF_LIFE) -> None:
        named = {SCORE: reference.score, **reference.signals}
        self._names = tuple(named)
        self._bins = tuple(named.values())
        self._starts = _starts_of(self._bins)
        self._sums = FadingSums(sum(len(bins.share) for bins in self._bins), half_life)
        self._edges = tuple(bins.edges for bins in self._bins)

    @property
    def names(self) -> tuple[str, ...]:
        """Tell what is compared: `score`, then the signals."""
        return self._names

    @property
    def count(self) -> int:
        """Tell how many requests were seen."""
        return self._sums.count

    def observe(self, score: float, signals: Sequence[float]) -> None:
        """Take in one judged request. Signals that the reference does not know are left out."""
        sums = self._sums
        weight = sums.weigh()
        counts = sums.sums
        places = map(bisect_right, self._edges, (score, *signals))
        for start, place in zip(self._starts, places, strict=False):
            counts[start + place] += weight

    def psi(self) -> dict[str, float]:
        """Return the index of the score and of every signal; nothing before LEAST requests."""
        if self._sums.count < LEAST:
            return {}
        counts = self._sums.sums
        found = {}
        for name, bins, start in zip(self._names, self._bins, self._starts, strict=True):
            live = counts[start : start + len(bins.share)]
            if any(live):  # none where a judgement has fewer signals than the reference
                found[name] = psi(bins.share, live)
        return found


def _starts_of(bins: Sequence[Distribution]) -> tuple[int, ...]:
    starts = [0]
    for one in bins[:-1]:
        starts.append(starts[-1] + len(one.share))
    return tuple(starts)


def psi(trained: Sequence[float], live: Sequence[float]) -> float:
    """Return the population stability index of two spreads over the same bins; neither need add up to 1."""
    return sum((now - then) * math.log(now / then) for then, now in zip(_shares(trained), _shares(live), strict=True))


def _shares(counts: Sequence[float]) -> list[float]:
    total = sum(counts)
    return [max(count / total, _FLOOR) for count in counts]
