"""A residual folded into a router: the new graph's score is the residual's, to the digit, and all else stays."""

import numpy as np
import pytest

from router_models.export import FIGURES, ExportError, from_model, run_texts
from router_models.represent import represent
from router_models.residual import Residual
from router_models.residual_export import SCORE, attach, verify

TEXTS = ["Who wrote Faust?", "Prove that 3 divides 9 + 3n.", "", "x" * 3000, "証明", "write a function", "9 " * 500]


@pytest.fixture(scope="module")
def model(trained):
    return (trained.folder / "model.onnx").read_bytes()


def residual(width, seed=0, slope=0.7):
    rng = np.random.default_rng(seed)
    scale = rng.random(width) + 0.5
    scale[3] = np.inf  # a column that never varied
    return Residual(0.2, slope, rng.normal(size=width), scale, rng.normal(size=width) / 10)


def applied(model, fitted):
    return fitted.apply(run_texts(model, TEXTS)[:, SCORE], represent(from_model(model)[0], TEXTS))


@pytest.mark.parametrize("slope", [0.7, -1.0, 0.0])
def test_the_graph_says_what_was_fitted(model, slope):
    fitted = residual(from_model(model)[0].width, slope=slope)
    expected = applied(model, fitted)
    adapted = attach(model, fitted)
    assert verify(adapted, TEXTS, expected) < 1e-5
    with pytest.raises(ExportError, match="differs"):
        verify(adapted, TEXTS, expected + 0.01)


def test_what_else_it_tells_stays(model):
    adapted = attach(model, residual(from_model(model)[0].width))
    before, after = run_texts(model, TEXTS), run_texts(adapted, TEXTS)
    others = [column for column in range(before.shape[1]) if column != SCORE]
    assert after[:, others] == pytest.approx(before[:, others], abs=1e-5)
    assert np.abs(after[:, SCORE] - before[:, SCORE]).max() > 0.01
    assert len(adapted) == pytest.approx(len(model), rel=0.01)
    assert before.shape[1] > FIGURES


def test_an_adapted_router_can_be_adapted_again(model):
    width = from_model(model)[0].width
    once = attach(model, residual(width))
    second = residual(width, seed=1)
    assert verify(attach(once, second), TEXTS, applied(once, second)) < 1e-5
