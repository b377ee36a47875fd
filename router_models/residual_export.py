"""Folds a residual into a shipped router, and proves that the new graph says what was fitted.

Residual and router are linear in the same representation, so the adapted graph is the shipped one with other weights:
as small, as fast, and fit to be adapted or read again.
"""

import numpy as np

from router_models.evaluate import Floats
from router_models.export import TOLERANCE, ExportError, Heads, from_model, run_texts, to_model
from router_models.heads import Linear
from router_models.residual import Residual

SCORE = 0


def attach(model: bytes, residual: Residual) -> bytes:
    """Return the router with the residual in its score; what else it tells stays. Raises ExportError."""
    space, heads = from_model(model)
    weights, offset = heads.figures.weights.copy(), heads.figures.offset.copy()
    added = residual.weights / residual.scale
    weights[:, SCORE] = residual.slope * weights[:, SCORE] + added
    offset[SCORE] = residual.slope * offset[SCORE] + residual.offset - residual.mean @ added
    adapted = to_model(space, Heads(Linear(weights, offset), residual.slope * heads.chances, heads.domain))
    exported: bytes = adapted.SerializeToString(deterministic=True)
    return exported


def verify(model: bytes, texts: list[str], expected: Floats) -> float:
    """Return the largest difference between the graph's scores and those fitted. Raises ExportError over TOLERANCE."""
    found = run_texts(model, texts)[:, SCORE]
    difference = float(np.abs(found - expected).max())
    if not difference <= TOLERANCE:
        raise ExportError(f"the exported residual differs from the fitted one by {difference:.2g}")
    return difference
