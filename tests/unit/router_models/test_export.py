"""The graph says what NumPy says, on any text; a model read back is the same; a tampered one is refused."""

import json

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from gateway.classify.onnx import FIGURES, SIGNALS, VOCABULARY, OnnxClassifier
from gateway.core.judgement import DOMAINS
from gateway.schema.conversation import Conversation, Turn
from router_models.export import TOLERANCE, ExportError, from_model, run_texts, serving_bytes, to_model, verify

TEXTS = [
    "Who wrote Faust?", "Prove that 3 divides 9 + 3n.", "", " \n\t", "証明してください。", "Напишите функцию",
    "A. one\nB. two\nC. three\nD. four", "Pick one:\n(A) what\n(B) how\n(C) write\n(D) a", "\x00\ud800",
    "اكتب دالة", "the " * 250_000, "9" * 5000, "\\frac{a}{b} $x$ " * 40, "def f():\n    return {}\n" * 30,
]  # fmt: skip


@pytest.fixture(scope="module")
def model(trained):
    return (trained.folder / "model.onnx").read_bytes()


@pytest.fixture(scope="module")
def opened(model):
    return from_model(model)


def changed(model, name, change):
    graph = onnx.load_from_string(model)
    for constant in graph.graph.initializer:
        if constant.name == name:
            constant.CopyFrom(numpy_helper.from_array(change(numpy_helper.to_array(constant).copy()), name))
    return graph.SerializeToString()


def test_the_graph_says_what_the_heads_say_on_any_text(model, opened):
    space, heads = opened
    assert verify(model, space, heads, TEXTS) <= TOLERANCE
    judged = run_texts(model, TEXTS)
    assert judged.shape == (len(TEXTS), FIGURES + len(DOMAINS))
    assert np.isfinite(judged).all()
    assert judged[:, FIGURES:].sum(axis=1) == pytest.approx(np.ones(len(TEXTS)), abs=1e-5)


def test_a_model_read_back_gives_the_same_judgements_and_can_be_read_again(model, opened):
    space, heads = opened
    again = to_model(space, heads).SerializeToString(deterministic=True)
    assert run_texts(again, TEXTS) == pytest.approx(run_texts(model, TEXTS), abs=1e-5)
    twice, _ = from_model(again)
    assert twice.words == space.words
    assert np.array_equal(twice.table, space.table)


def test_the_first_part_of_a_file_serves_alone_and_holds_nothing_for_training(model):
    served = model[: serving_bytes(model)]
    assert np.array_equal(run_texts(served, TEXTS), run_texts(model, TEXTS))
    assert not onnx.load_from_string(served).training_info
    assert len(onnx.load_from_string(model).training_info) == 1
    with pytest.raises(ExportError, match=r"scale|of_words|vectors"):
        from_model(served)


def test_manifests_tell_how_much_of_the_file_serves(trained, model):
    manifest = json.loads((trained.folder / "manifest.json").read_text())
    assert (manifest["serving_bytes"], manifest["bytes"]) == (serving_bytes(model), len(model))


def test_the_gateway_says_what_the_graph_says(trained, model):
    router, judged = OnnxClassifier.load(trained.folder), run_texts(model, TEXTS[:2])
    for text, row in zip(TEXTS[:2], judged, strict=True):
        told = router.judge(Conversation((Turn("user", text),)))
        assert told.score == pytest.approx(row[0], abs=1e-6)
        assert told.output_tokens == round(np.exp(row[4]))
        assert len(told.signals) == len(SIGNALS)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("offset", lambda value: value + np.float32(0.01)),
        ("heads", lambda value: value * np.float32(1.01)),
        ("table", lambda value: value[::-1]),
        ("of_chances", lambda value: -value),
        ("high", lambda value: value - np.float32(1)),
        ("low", lambda value: value * np.float32("nan")),
    ],
)
def test_a_tampered_model_is_refused(model, opened, name, change):
    with pytest.raises(ExportError, match="differ from the fitted ones"):
        verify(changed(model, name, change), *opened, TEXTS[:9])


def test_what_is_no_router_of_ours_is_refused(model):
    for part in ("heads", "of_chances", "of_words", "scale", "vectors"):
        graph = onnx.load_from_string(model)
        for place in (graph.graph, graph.training_info[0].initialization):
            kept = [constant for constant in place.initializer if constant.name != part]
            del place.initializer[:]
            place.initializer.extend(kept)
        with pytest.raises(ExportError, match=part):
            from_model(graph.SerializeToString())
    graph = onnx.load_from_string(model)
    del graph.metadata_props[:]
    with pytest.raises(ExportError, match=VOCABULARY):
        from_model(graph.SerializeToString())
