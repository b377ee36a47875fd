"""Turns a rank into a win rate by a curve that always rises, so that it never changes the order of two prompts.

The curve is sigmoid(offset + slope * rank + low * min(rank - low_knot, 0) + high * max(rank - high_knot, 0)), all three
slopes at least MIN_SLOPE. The knots bound the middle 90% of benchmark ranks: one slope for all would be set by
benchmark questions alone and leave "hi" and a proof at about the same score. Isotonic regression was left: its
plateaus make ties that no threshold can split.
"""

import msgspec
import numpy as np
from scipy.optimize import minimize  # type: ignore[import-untyped]  # no stubs; it comes with scikit-learn

from router_models.evaluate import Floats

MIN_SLOPE = 1e-2
# Pulls a curve without evidence to the flat one; 1e-3 of a nat a row is far below what a thousand rows say.
RIDGE = 1e-5


class Calibration(msgspec.Struct, frozen=True):
    """The curve's knots, offset and the slopes (middle, added below the low knot, added above the high knot)."""

    knots: tuple[float, float]
    offset: float
    slopes: tuple[float, float, float]

    def apply(self, rank: Floats) -> Floats:
        """Return the win rate of each rank."""
        logit = self.offset + _bend(rank, self.knots) @ np.array(self.slopes)
        return np.asarray(1.0 / (1.0 + np.exp(-logit)))


def _bend(rank: Floats, knots: tuple[float, float]) -> Floats:
    return np.stack([rank, np.minimum(rank - knots[0], 0.0), np.maximum(rank - knots[1], 0.0)], axis=-1)


def fit_calibration(rank: Floats, win: Floats, weight: Floats, knots: tuple[float, float]) -> Calibration:
    """Fit the curve to win rates by weighted cross-entropy (Platt's method with soft labels, bent at the knots)."""
    bent = _bend(rank, knots)
    share = weight / weight.sum()

    def loss(parameters: Floats) -> tuple[float, Floats]:
        logit = parameters[0] + bent @ parameters[1:]
        error = share * (1.0 / (1.0 + np.exp(-logit)) - win)
        value = float(share @ (np.logaddexp(0.0, logit) - win * logit)) + RIDGE * float(parameters @ parameters)
        return value, np.concatenate(([error.sum()], error @ bent)) + 2 * RIDGE * parameters

    bounds = [(None, None), (MIN_SLOPE, None), (0.0, None), (0.0, None)]
    found = minimize(loss, np.array([0.0, 1.0, 0.0, 0.0]), jac=True, bounds=bounds, method="L-BFGS-B").x
    return Calibration(knots, float(found[0]), (float(found[1]), float(found[2]), float(found[3])))
