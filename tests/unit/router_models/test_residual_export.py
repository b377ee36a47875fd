import numpy as np
import onnx
import onnxruntime
import pytest

from gateway.app import ROUTERS
from gateway.classify.features import FEATURE_NAMES, text_features
from router_models.export import ExportError
from router_models.residual import Residual
from router_models.residual_export import attach, verify

MODEL = (ROUTERS / "default" / "model.onnx").read_bytes()
TEXTS = ["Who wrote Faust?", "Prove that 3 divides 9 + 3n.", "", "x" * 3000]
FEATURES = np.stack([text_features(text) for text in TEXTS])


def residual(seed=0, slope=0.7):
    rng = np.random.default_rng(seed)
    width = len(FEATURE_NAMES)
    scale = rng.random(width) + 0.1
    scale[3] = np.inf  # a column that never varied
    return Residual(0.2, slope, rng.normal(size=width), scale, rng.normal(size=width) / 10)


def shipped_scores():
    return onnxruntime.InferenceSession(MODEL).run(["score"], {"features": FEATURES})[0].astype(float)


@pytest.mark.parametrize("slope", [0.7, -1.0, 0.0])
def test_the_graph_says_what_was_fitted(slope):
    fitted = residual(slope=slope)
    model = attach(MODEL, fitted, "features")
    expected = fitted.apply(shipped_scores(), FEATURES.astype(float))
    assert verify(model, {"features": FEATURES}, expected) < 1e-5
    with pytest.raises(ExportError, match="differs"):
        verify(model, {"features": FEATURES}, expected + 0.01)


def test_inputs_and_outputs_keep_their_names():
    graph = onnx.load_from_string(attach(MODEL, residual(), "features")).graph
    assert [one.name for one in graph.input] == ["features"]
    assert [one.name for one in graph.output] == ["score"]


def test_a_router_is_adapted_once_and_only_on_what_it_has():
    once = attach(MODEL, residual(), "features")
    with pytest.raises(ExportError, match="adapted one already"):
        attach(once, residual(), "features")
    with pytest.raises(ExportError, match="no tensor 'nothing'"):
        attach(MODEL, residual(), "nothing")
