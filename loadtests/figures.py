"""Statistics on small samples: medians, quantiles, intervals, and whether a ratio has worsened. Pure."""

import random
import statistics
from collections.abc import Sequence
from typing import NamedTuple

RESAMPLES = 2000
WORSE_BY = 0.15


class Estimate(NamedTuple):
    """A median with its 95 % interval."""

    median: float
    low: float
    high: float


def quantile(values: Sequence[float], share: float) -> float:
    """Return the value below which `share` of the values lie, between neighbours by their distance."""
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


def estimate(values: Sequence[float], seed: int = 1) -> Estimate:
    """Return the median and its percentile bootstrap interval; of up to five rounds that is their whole range.

    The seed is fixed: the same rounds always print the same report.
    """
    chance = random.Random(seed)
    medians = [statistics.median(chance.choices(values, k=len(values))) for _ in range(RESAMPLES)]
    return Estimate(statistics.median(values), quantile(medians, 0.025), quantile(medians, 0.975))


def ratios(values: Sequence[float], bases: Sequence[float]) -> list[float]:
    """Return each round's value over the base's of the same round."""
    return [value / base for value, base in zip(values, bases, strict=True)]


def has_worsened(now: Estimate, then: Estimate) -> bool:
    """Say whether a ratio is worse by over 15 % and by more than noise: the two intervals lie apart.

    A median alone would cry wolf on a busy machine; the intervals alone would let a quiet machine fail for 2 %.
    """
    return now.median > then.median * (1 + WORSE_BY) and now.low > then.high


def is_suspect(now: Estimate, then: Estimate) -> bool:
    """Say whether more rounds are wanted: the median is worse by over 15 %, by more than noise or not."""
    return now.median > then.median * (1 + WORSE_BY)
