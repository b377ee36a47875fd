import hashlib
import json
import shutil
from pathlib import Path

import pytest
from onnx import TensorProto, helper

from gateway.classify.onnx import ClassifierLoadError, OnnxClassifier
from gateway.schema.conversation import Conversation, Turn

DEFAULT = Path(__file__).parents[3] / "router_models" / "artifacts" / "default"


@pytest.fixture
def folder(tmp_path):
    return Path(shutil.copytree(DEFAULT, tmp_path / "copy"))


def edit(folder, **fields):
    path = folder / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def test_a_sound_folder_loads_with_its_name_and_a_version_of_its_digest(folder):
    classifier = OnnxClassifier.load(folder)
    digest = hashlib.sha256((folder / "model.onnx").read_bytes()).hexdigest()
    assert classifier.name == "default"
    assert classifier.version.startswith(digest[:12])


def test_a_changed_model_is_refused(folder):
    (folder / "model.onnx").write_bytes((folder / "model.onnx").read_bytes() + b"\0")
    with pytest.raises(ClassifierLoadError, match=r"model\.onnx: sha256 is .* retrain"):
        OnnxClassifier.load(folder)


@pytest.mark.parametrize("name", ["model.onnx", "manifest.json"])
def test_a_missing_file_is_named(folder, name):
    (folder / name).unlink()
    with pytest.raises(ClassifierLoadError, match=f"{name}: No such file or directory; retrain"):
        OnnxClassifier.load(folder)


@pytest.mark.parametrize("field", ["feature_version", "features"])
def test_other_features_are_refused(folder, field):
    edit(folder, **{field: 999})
    with pytest.raises(ClassifierLoadError, match=r"manifest\.json: trained on features .*999.* retrain"):
        OnnxClassifier.load(folder)


def test_a_manifest_that_is_no_manifest_is_refused(folder):
    (folder / "manifest.json").write_text('{"name": 1}')
    with pytest.raises(ClassifierLoadError, match=r"manifest\.json: .*name.* retrain"):
        OnnxClassifier.load(folder)


def test_a_file_that_is_no_model_is_refused(folder):
    (folder / "model.onnx").write_bytes(b"garbage")
    edit(folder, sha256=hashlib.sha256(b"garbage").hexdigest())
    with pytest.raises(ClassifierLoadError, match="onnxruntime refuses the model"):
        OnnxClassifier.load(folder)


def test_a_model_with_other_inputs_is_refused(folder):
    graph = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["score"])],
        "other",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None])],
        [helper.make_tensor_value_info("score", TensorProto.FLOAT, [None])],
    )
    other = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()
    (folder / "model.onnx").write_bytes(other)
    edit(folder, sha256=hashlib.sha256(other).hexdigest())
    with pytest.raises(ClassifierLoadError, match="expected features -> score"):
        OnnxClassifier.load(folder)


def test_a_conversation_scores_as_its_hardest_judged_text():
    classifier = OnnxClassifier.load(DEFAULT)

    def score(*turns):
        return classifier.judge(Conversation(tuple(Turn(role, text) for role, text in turns))).score

    hard = "Prove that every bounded monotone sequence converges."
    together = score(("user", hard), ("assistant", "Sure."), ("user", "yes"))
    assert together == pytest.approx(max(score(("user", text)) for text in (hard, "Sure.", "yes")), abs=1e-6)


@pytest.mark.parametrize("manifest", [b'{"name":"\xff\xfe"}', b"[" * 100_000, b"{"], ids=["not UTF-8", "deep", "cut"])
def test_a_corrupt_manifest_is_told_whatever_is_wrong_with_it(tmp_path, manifest):
    (tmp_path / "manifest.json").write_bytes(manifest)
    with pytest.raises(ClassifierLoadError):
        OnnxClassifier.load(tmp_path)


def test_a_name_that_no_folder_can_have_is_told():
    with pytest.raises(ClassifierLoadError):
        OnnxClassifier.load(Path("a/\0b"))
