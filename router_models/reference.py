"""Builds what a manifest's `reference` holds: how scores and signals were spread over the training data.

The gateway bins live traffic by the same edges and tells its drift from it (`gateway/telemetry/drift.py`).
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

BINS = 10
DIGITS = 6


def build_reference(scores: ArrayLike, signals: Mapping[str, ArrayLike]) -> dict[str, Any]:
    """Return `{"score": bins, "signals": {name: bins}}`, in the signals' order; bins have `edges` and `share`.

    `scores` and each signal hold a value a training prompt. Raises ValueError for none, and for one that is no number.
    """
    return {
        "score": build_bins(scores),
        "signals": {name: build_bins(values) for name, values in signals.items()},
    }


def build_bins(values: ArrayLike) -> dict[str, list[float]]:
    """Return the deciles of `values` as inner edges, and each bin's share; a bin starts at its lower edge.

    A value that a tenth of the prompts have, as counts do, gets a bin of its own: were it the floor of one that is
    open above, no live value over it would ever show. A constant one has room on either side.
    """
    numbers = np.asarray(values, dtype=np.float64).ravel()
    if not numbers.size or not np.isfinite(numbers).all():
        raise ValueError("a reference needs numbers, at least one and all of them finite")
    least, most = numbers.min(), numbers.max()
    if least == most:
        edges = np.array([least, np.nextafter(most, np.inf)])
    else:
        deciles = np.quantile(numbers, np.arange(1, BINS) / BINS, method="higher")
        atoms = [
            edge for edge in np.unique(deciles) if (deciles == edge).sum() > 1 or (numbers == edge).mean() * BINS >= 1
        ]
        above = [numbers[numbers > atom].min() for atom in atoms if atom < most]
        edges = np.unique(np.concatenate([deciles, above]))
        edges = edges[edges > least]
    counts = np.bincount(np.searchsorted(edges, numbers, side="right"), minlength=len(edges) + 1)
    return {"edges": edges.tolist(), "share": [round(float(share), DIGITS) for share in counts / numbers.size]}
