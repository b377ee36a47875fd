"""Thresholds from scores alone: for a share of strong calls, for a budget. Pure. They hold for prompts like these."""

import math

import msgspec
import numpy as np

from router_models.costs import Costs
from router_models.evaluate import Floats

# What the configuration shows; two scores nearer than this are taken for one.
DIGITS = 6
Z95 = 1.96


class BudgetError(Exception):
    """The budget can't be kept. The message says what the least is."""


class Threshold(msgspec.Struct, frozen=True):
    """A threshold and what it does on the prompts it was taken from."""

    threshold: float
    strong_share: float
    prompts: int
    usd_per_1000: float | None = None
    share_of_all_strong_cost: float | None = None

    @property
    def share_error(self) -> float:
        """How far the share on new prompts of the same kind may be off: the far end of Wilson's 95% interval.

        Two standard errors would be nothing at all where none or all of the prompts are strong.
        """
        share, part = self.strong_share, Z95**2 / self.prompts
        middle = (share + part / 2) / (1 + part)
        reach = math.sqrt(part * (share * (1 - share) + part / 4)) / (1 + part)
        return reach + abs(middle - share)


def at(threshold: float, score: Floats, costs: Costs | None) -> Threshold:
    """Tell what a threshold does."""
    strong = score >= threshold
    share = float(strong.mean())
    if costs is None:
        return Threshold(threshold, share, len(score))
    usd, most = float(np.where(strong, costs.strong, costs.weak).mean()), float(costs.strong.mean())
    return Threshold(threshold, share, len(score), 1000 * usd, usd / most if most else None)


def for_share(score: Floats, share: float, costs: Costs | None = None) -> Threshold:
    """Return the threshold whose strong share is nearest to `share`; prompts of equal score go together."""
    candidates = _candidates(score)
    shares = 1 - np.searchsorted(np.sort(score), candidates) / len(score)
    return at(float(candidates[np.argmin(np.abs(shares - share))]), score, costs)


def for_budget(score: Floats, costs: Costs, usd_per_1000: float) -> Threshold:
    """Return the threshold that sends most to the strong side within a budget. Raises BudgetError."""
    found = [at(float(one), score, costs) for one in _candidates(score)]
    within = [one for one in found if (one.usd_per_1000 or 0.0) <= usd_per_1000]
    if not within:
        least = min(one.usd_per_1000 or 0.0 for one in found)
        raise BudgetError(
            f"no threshold keeps within {usd_per_1000:.4g} USD for 1,000 requests; the cheapest mix is {least:.4g}"
        )
    return max(within, key=lambda one: one.strong_share)


def _candidates(score: Floats) -> Floats:
    """Return a threshold below all scores, between any two of them and above all; at most 1,000, evenly by rank."""
    distinct = np.unique(score)
    middle = (distinct[1:] + distinct[:-1]) / 2
    if len(middle) > 1000:
        middle = middle[np.linspace(0, len(middle) - 1, 1000).astype(int)]
    above = min(float(np.nextafter(distinct[-1], 2.0)) + 10.0**-DIGITS, 1.0)
    return np.unique(np.round(np.concatenate(([0.0], middle, [above])), DIGITS))
