"""Log-odds of chances, and back."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

# A chance of 0 or 1 has no finite log-odds.
SURE_SCORE: Final = 1e-6


def logit(score: Floats) -> Floats:
    """Return the log-odds of chances, kept finite."""
    inside = np.clip(score, SURE_SCORE, 1 - SURE_SCORE)
    return np.asarray(np.log(inside) - np.log1p(-inside))


def sigmoid(log_odds: Floats) -> Floats:
    """Return the chances of log-odds."""
    return np.asarray(1.0 / (1.0 + np.exp(-log_odds)))
