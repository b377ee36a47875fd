"""The exported graph, computed by NumPy: onnxruntime is its oracle, and runs whatever it does not know."""

import hashlib
import subprocess
import sys

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import numpy_helper

from gateway.classify.features import TextMeasures
from gateway.classify.feed import OUTPUTS, feed_of
from gateway.classify.graph import Graph, OtherGraphError
from gateway.classify.onnx import OnnxClassifier
from gateway.schema.conversation import Conversation, Turn
from tests.routers import SHIPPED, copy_router, version_of

MODEL = (SHIPPED / "model.onnx").read_bytes()
ROWS, FIGURES, MEASURES = 23_960, 23, 34
ROW_ENTRIES = [row.to_bytes(8, sys.byteorder) for row in range(ROWS)]


@pytest.fixture(scope="module")
def oracle():
    return onnxruntime.InferenceSession(MODEL, providers=["CPUExecutionProvider"])


@pytest.fixture(scope="module")
def graph():
    return Graph.read(MODEL)


SPREADS = st.sampled_from([0.0, 1.0, 100.0, 1e30])


@settings(deadline=None, max_examples=200)
@given(st.lists(st.integers(0, ROWS - 1), max_size=300), st.integers(0, 2**32 - 1), SPREADS, st.data())
def test_it_judges_as_onnxruntime_does(oracle, graph, words, seed, spread, data):
    features = (np.random.default_rng(seed).standard_normal(MEASURES) * spread).astype(np.float32)
    in_stem = data.draw(st.just(len(words)) | st.integers(0, len(words)))
    by_row = TextMeasures(features, [ROW_ENTRIES[word] for word in words], in_stem, [])
    ours = graph.judge(TextMeasures(features, [graph.entries[word] for word in words], in_stem, []))
    theirs = oracle.run(OUTPUTS, feed_of(by_row))[0]
    assert (1, len(ours)) == theirs.shape == (1, FIGURES)
    np.testing.assert_allclose(ours, theirs[0], rtol=1e-5, atol=2e-6)


def test_more_words_than_there_are_ones_ready_for(oracle, graph):
    words, features = range(3000), np.zeros(MEASURES, dtype=np.float32)
    ours = graph.judge(TextMeasures(features, [graph.entries[word] for word in words], 2000, []))
    theirs = oracle.run(OUTPUTS, feed_of(TextMeasures(features, [ROW_ENTRIES[word] for word in words], 2000, [])))[0]
    np.testing.assert_allclose(ours, theirs[0], rtol=1e-5, atol=2e-6)


def test_it_tells_what_the_file_says_beside_the_graph(oracle, graph):
    assert graph.metadata == oracle.get_modelmeta().custom_metadata_map


def test_the_router_that_ships_is_judged_with_without_onnxruntime():
    script = (
        "import sys; from pathlib import Path; from gateway.classify.onnx import OnnxClassifier;"
        f"OnnxClassifier.load(Path({str(SHIPPED)!r})); sys.exit('onnxruntime' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_a_graph_of_another_make_runs_in_onnxruntime(tmp_path):
    folder = copy_router(tmp_path / "other")
    model, told = version_of(b"")
    other = model.replace(b"clipped", b"bounded")
    assert other != model
    with pytest.raises(OtherGraphError):
        Graph.read(other)
    (folder / "model.onnx").write_bytes(other)
    digest, wanted = hashlib.sha256(model).hexdigest(), hashlib.sha256(other).hexdigest()
    (folder / "manifest.json").write_bytes(told.replace(digest.encode(), wanted.encode()))
    asked = Conversation((Turn("user", "Prove that there are infinitely many primes."),))
    judged, shipped = OnnxClassifier.load(folder).judge(asked), OnnxClassifier.load(SHIPPED).judge(asked)
    assert judged.score == pytest.approx(shipped.score, abs=1e-5)


def _name_a_domain(model):
    model.graph.node[0].domain = "com.example"


def _point_to_another_file(model):
    model.graph.initializer[0].data_location = onnx.TensorProto.EXTERNAL


def _name_another_opset(model):
    model.opset_import[0].version = 11


def _drop_the_output(model):
    model.graph.ClearField("output")


def _drop_the_inputs(model):
    model.graph.ClearField("input")


def _tell_a_tensor_twice(model):
    model.graph.initializer.add().CopyFrom(model.graph.initializer[0])


def _give_the_axis_another_type(model):
    model.graph.node[5].attribute[0].type = onnx.AttributeProto.FLOAT


def _define_an_operator(model):
    model.functions.add().name = "Gather"


def _feed_a_tensor(model):
    model.graph.input.add().name = "low"


def _let_domains_read_the_stem(model):
    heads = next(tensor for tensor in model.graph.initializer if tensor.name == "heads")
    numbers = numpy_helper.to_array(heads).copy()
    numbers[MEASURES + FIGURES - 1, FIGURES - 1] = 1.0
    heads.CopyFrom(numpy_helper.from_array(numbers, "heads"))


@pytest.mark.parametrize(
    "change",
    [
        _let_domains_read_the_stem,
        _name_a_domain,
        _point_to_another_file,
        _name_another_opset,
        _drop_the_output,
        _drop_the_inputs,
        _tell_a_tensor_twice,
        _give_the_axis_another_type,
        _define_an_operator,
        _feed_a_tensor,
    ],
)
def test_a_graph_that_differs_anywhere_is_none_of_it(change):
    model = onnx.load_from_string(MODEL)
    change(model)
    with pytest.raises(OtherGraphError):
        Graph.read(model.SerializeToString())


def test_a_graph_beside_the_graph_is_none_of_it():
    with pytest.raises(OtherGraphError):
        Graph.read(b"\x3a\x02\x12\x00" + MODEL)  # protobuf makes one of the two


@settings(deadline=None, max_examples=300)
@given(st.data())
def test_a_damaged_file_is_none_of_it_whatever_the_damage(data):
    # The beginning and the end: nodes, names and shapes lie there, numbers between them.
    kept = bytearray(MODEL[:3000] + MODEL[-3000:]) if data.draw(st.booleans()) else bytearray(MODEL[:6000])
    for _ in range(data.draw(st.integers(0, 4))):
        kept[data.draw(st.integers(0, len(kept) - 1))] = data.draw(st.integers(0, 255))
    with pytest.raises(OtherGraphError):
        Graph.read(bytes(kept[: data.draw(st.integers(0, len(kept)))]))


@pytest.mark.parametrize(
    "junk", [b"", b"\x3a", b"\x3a\x05abc", b"\xff" * 20, b"\x0b", b"\x3a\x02\x0a\x00", b"\x38\x01"]
)
def test_junk_is_none_of_it(junk):
    with pytest.raises(OtherGraphError):
        Graph.read(junk)
