import hashlib
import json

import numpy as np
import onnx
import pytest

from gateway.app import ROUTERS
from gateway.classify.onnx import OnnxClassifier
from gateway.schema.conversation import Conversation, Turn
from router_models.export import ExportError
from router_models.represent import TENSOR, represent
from router_models.residual import Residual
from router_models.residual_export import attach, verify

MODEL = (ROUTERS / "default" / "model.onnx").read_bytes()
TEXTS = ["Who wrote Faust?", "Prove that 3 divides 9 + 3n.", "", "x" * 3000]
WIDTH = len(represent(OnnxClassifier.load(ROUTERS / "default"), Conversation((Turn("user", ""),))).vector)


def residual(seed=0, slope=0.7):
    rng = np.random.default_rng(seed)
    scale = rng.random(WIDTH) + 0.1
    scale[3] = np.inf  # a column that never varied
    return Residual(0.2, slope, rng.normal(size=WIDTH), scale, rng.normal(size=WIDTH) / 10)


def folder(tmp_path, model):
    manifest = json.loads((ROUTERS / "default" / "manifest.json").read_bytes())
    manifest["sha256"] = hashlib.sha256(model).hexdigest()
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    (tmp_path / "model.onnx").write_bytes(model)
    return tmp_path


@pytest.mark.parametrize("slope", [0.7, -1.0, 0.0])
def test_what_is_served_says_what_was_fitted(tmp_path, slope):
    fitted, shipped = residual(slope=slope), OnnxClassifier.load(ROUTERS / "default")
    asked = [Conversation((Turn("user", text),)) for text in TEXTS]
    vectors = np.stack([represent(shipped, one).vector for one in asked]).astype(float)
    expected = fitted.apply(np.array([shipped.judge(one).score for one in asked]), vectors)
    served = folder(tmp_path, attach(MODEL, fitted, TENSOR))
    assert verify(served, asked, expected) < 1e-5
    with pytest.raises(ExportError, match="differs"):
        verify(served, asked, expected + 0.01)


def test_inputs_and_outputs_keep_their_names():
    before, after = (onnx.load_from_string(one).graph for one in (MODEL, attach(MODEL, residual(), TENSOR)))
    assert [one.name for one in after.input] == [one.name for one in before.input]
    assert [one.name for one in after.output] == [one.name for one in before.output]


def test_a_router_is_adapted_once_and_only_on_what_it_has():
    once = attach(MODEL, residual(), TENSOR)
    with pytest.raises(ExportError, match="adapted one already"):
        attach(once, residual(), TENSOR)
    with pytest.raises(ExportError, match="no tensor 'nothing'"):
        attach(MODEL, residual(), "nothing")
