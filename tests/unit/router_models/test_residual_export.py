import numpy as np
import pytest

from gateway.app import ROUTERS
from router_models.export import ExportError, from_model, run_texts
from router_models.represent import represent
from router_models.residual import Residual
from router_models.residual_export import SCORE, attach, verify

MODEL = (ROUTERS / "default" / "model.onnx").read_bytes()
TEXTS = ["Who wrote Faust?", "Prove that 3 divides 9 + 3n.", "", "x" * 3000, "é 証明 😀"]


@pytest.mark.parametrize("slope", [0.7, -1.0, 0.0])
def test_the_graph_says_what_was_fitted(slope):
    space, _ = from_model(MODEL)
    rng = np.random.default_rng(0)
    scale = rng.random(space.width) + 0.5
    scale[3] = np.inf  # a column that never varied
    fitted = Residual(0.2, slope, rng.normal(size=space.width), scale, rng.normal(size=space.width) / 20)
    expected = fitted.apply(run_texts(MODEL, TEXTS)[:, SCORE], represent(space, TEXTS))
    model = attach(MODEL, fitted)
    assert verify(model, TEXTS, expected) < 1e-4
    # All but the score stays.
    assert run_texts(model, TEXTS)[:, SCORE + 1 :] == pytest.approx(run_texts(MODEL, TEXTS)[:, SCORE + 1 :], abs=1e-5)
    with pytest.raises(ExportError, match="differs"):
        verify(model, TEXTS, expected + 0.01)
