import hashlib
import json
import math
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from gateway.classify.features import measure_text
from gateway.classify.onnx import ClassifierLoadError, OnnxClassifier
from gateway.classify.turns import context_load, judged_texts
from gateway.schema.conversation import Conversation, Turn

DEFAULT = Path(__file__).parents[3] / "router_models" / "artifacts" / "default"
SHIPPED = OnnxClassifier.load(DEFAULT)


@pytest.fixture
def folder(tmp_path):
    return Path(shutil.copytree(DEFAULT, tmp_path / "copy"))


def edit(folder, **fields):
    path = folder / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def replace(folder, model):
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    edit(folder, sha256=hashlib.sha256(model.SerializeToString()).hexdigest())


@pytest.fixture
def classifier():
    return SHIPPED


def ask(text, *before, **counts):
    return Conversation((*(Turn(role, said) for role, said in before), Turn("user", text)), **counts)


def small_model(figures, words="alpha beta"):
    """Build a graph of the artifact's form that says `figures` whatever it is fed, with a table of two words."""
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [
            helper.make_node("Gather", ["table", "words"], ["rows"]),
            helper.make_node("ReduceSum", ["rows"], ["of_words"], keepdims=0),
            helper.make_node("ReduceSum", ["weights"], ["of_weights"], keepdims=0),
            helper.make_node("ReduceSum", ["features"], ["of_features"], keepdims=0),
            helper.make_node("Sum", ["of_words", "of_weights", "of_features"], ["all"]),
            helper.make_node("Mul", ["all", "zero"], ["none"]),
            helper.make_node("Add", ["none", "figures"], ["judgement"]),
        ],
        "small",
        [
            value("features", TensorProto.FLOAT, [1, None]),
            value("words", TensorProto.INT64, [None]),
            value("weights", TensorProto.FLOAT, [2, None]),
        ],
        [value("judgement", TensorProto.FLOAT, [1, None])],
        [
            helper.make_tensor("table", TensorProto.FLOAT, [2], [1.0, 1.0]),
            helper.make_tensor("zero", TensorProto.FLOAT, [1], [0.0]),
            helper.make_tensor("figures", TensorProto.FLOAT, [1, len(figures)], figures),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    if words is not None:
        helper.set_model_props(model, {"vocabulary": "\n".join(words.split())})
    return model


def test_a_sound_folder_loads_with_its_name_and_a_version_of_its_digest(folder):
    classifier = OnnxClassifier.load(folder)
    digest = hashlib.sha256((folder / "model.onnx").read_bytes()).hexdigest()
    assert classifier.name == "default"
    assert classifier.version.startswith(digest[:12])


def test_of_a_model_only_what_serves_is_loaded(folder):
    model = (folder / "model.onnx").read_bytes()
    served = json.loads((folder / "manifest.json").read_text())["serving_bytes"]
    assert served < len(model) / 3
    before = OnnxClassifier.load(folder).judge(ask("Prove it."))
    behind = model[:served] + b"no protobuf at all"
    (folder / "model.onnx").write_bytes(behind)
    edit(folder, sha256=hashlib.sha256(behind).hexdigest())
    assert OnnxClassifier.load(folder).judge(ask("Prove it.")) == before


def test_what_the_manifest_alone_changes_is_another_version(folder):
    before = OnnxClassifier.load(folder).version
    assert OnnxClassifier.load(folder).version == before
    edit(folder, date="another day")
    assert OnnxClassifier.load(folder).version == before
    edit(folder, domain_floor=0.9)
    assert OnnxClassifier.load(folder).version != before


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
    replace(folder, helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8))
    with pytest.raises(ClassifierLoadError, match=r"expected .*features.*judgement"):
        OnnxClassifier.load(folder)


def log_odds(chance):
    return math.log(chance / (1 - chance))


def test_a_conversation_is_judged_as_its_hardest_text_and_by_what_stands_around(classifier):
    hard = "Prove that every bounded monotone sequence converges."
    together = ask("yes", ("user", hard), ("assistant", "Sure."))
    alone = [classifier.judge(ask(text)) for text in (hard, "Sure.", "yes")]
    hardest = max(alone, key=lambda one: one.score)
    found = classifier.judge(together)
    assert hardest == alone[0]
    assert log_odds(found.score) == pytest.approx(log_odds(hardest.score) + context_load(together))
    assert log_odds(found.weak_chance) == pytest.approx(log_odds(hardest.weak_chance) - context_load(together))
    assert (found.domain, found.output_tokens, found.signals) == (
        hardest.domain,
        hardest.output_tokens,
        hardest.signals,
    )


@pytest.mark.parametrize("manifest", [b'{"name":"\xff\xfe"}', b"[" * 100_000, b"{"], ids=["not UTF-8", "deep", "cut"])
def test_a_corrupt_manifest_is_told_whatever_is_wrong_with_it(tmp_path, manifest):
    (tmp_path / "manifest.json").write_bytes(manifest)
    with pytest.raises(ClassifierLoadError):
        OnnxClassifier.load(tmp_path)


def test_a_name_that_no_folder_can_have_is_told():
    with pytest.raises(ClassifierLoadError):
        OnnxClassifier.load(Path("a/\0b"))


def test_a_model_without_a_vocabulary_is_refused(folder):
    replace(folder, small_model([0.5] * 22, words=None))
    with pytest.raises(ClassifierLoadError, match="holds no vocabulary; retrain"):
        OnnxClassifier.load(folder)


def test_a_vocabulary_longer_than_the_table_is_refused(folder):
    replace(folder, small_model([0.5] * 22, words="alpha beta gamma"))
    with pytest.raises(ClassifierLoadError, match="can't be run"):
        OnnxClassifier.load(folder)


def test_a_word_beyond_the_table_is_found_behind_a_word_that_comes_twice(folder):
    replace(folder, small_model([0.5] * 22, words="alpha beta alpha"))
    with pytest.raises(ClassifierLoadError, match="can't be run"):
        OnnxClassifier.load(folder)


@pytest.mark.parametrize("kind", ["Unsqueeze", "Cast"])
def test_a_model_whose_judgement_is_no_row_of_numbers_is_refused(folder, kind):
    model = small_model([0.5] * 5)
    model.graph.node[-1].output[0] = "row"
    if kind == "Cast":
        model.graph.node.append(helper.make_node(kind, ["row"], ["judgement"], to=TensorProto.STRING))
        model.graph.output[0].type.tensor_type.elem_type = TensorProto.STRING
    else:
        model.graph.initializer.append(helper.make_tensor("axes", TensorProto.INT64, [1], [2]))
        model.graph.node.append(helper.make_node(kind, ["row", "axes"], ["judgement"]))
        model.graph.output[0].type.tensor_type.shape.dim.add()
    replace(folder, model)
    edit(folder, domains=[])
    with pytest.raises(ClassifierLoadError, match="can't be run"):
        OnnxClassifier.load(folder)


def test_a_model_that_gives_no_figures_is_refused(folder):
    replace(folder, small_model([0.5, 0.5, math.nan, 0.5, 6.0]))
    edit(folder, domains=[])
    with pytest.raises(ClassifierLoadError, match="gives figures that are none; retrain"):
        OnnxClassifier.load(folder)


def test_a_model_with_other_domains_than_its_manifest_is_refused(folder):
    edit(folder, domains=["math"])
    with pytest.raises(ClassifierLoadError, match="expected 6 figures"):
        OnnxClassifier.load(folder)


def told(folder, figures, *, load=None, **fields):
    replace(folder, small_model(figures))
    edit(folder, domains=["math", "law"][: len(figures) - 5], **fields)
    return OnnxClassifier.load(folder).judge(load or ask("alpha"))


def test_figures_are_told_as_they_are(folder):
    found = told(folder, [0.25, 0.5, 0.75, 0.8, math.log(100), 0.375, 0.625], domain_floor=0.625)
    assert (found.score, found.weak_chance, found.strong_chance) == (0.25, 0.5, 0.75)
    assert (found.output_tokens, found.domain) == (100, "law")


@pytest.mark.parametrize(("floor", "domain"), [(0.5, "law"), (0.51, None)])
def test_a_domain_under_the_floor_is_not_told(folder, floor, domain):
    assert told(folder, [0.25, 0.5, 0.75, 0.8, 1, 0.5, 0.5], domain_floor=floor).domain == ("math" if domain else None)


def test_a_model_without_domains_tells_none(folder):
    assert told(folder, [0.25, 0.5, 0.75, 0.8, 1.0]).domain is None


def test_a_model_without_words_is_served(folder):
    replace(folder, small_model([0.25, 0.5, 0.75, 0.8, 1.0], words=""))
    edit(folder, domains=[])
    assert OnnxClassifier.load(folder).judge(ask("alpha")).score == 0.25


def test_the_strong_chance_is_never_under_the_weak_one(folder):
    found = told(folder, [0.25, 0.75, 0.5, 0.8, 1.0])
    assert (found.weak_chance, found.strong_chance) == (0.75, 0.75)


@pytest.mark.parametrize(("logarithm", "tokens"), [(1e30, 16_384), (-1e30, 0), (float("inf"), 16_384)])
def test_expected_tokens_are_bounded(folder, logarithm, tokens):
    assert told(folder, [0.25, 0.5, 0.75, 0.8, logarithm]).output_tokens == tokens


@pytest.mark.parametrize("chance", [0.0, 1.0])
def test_certain_chances_stay_certain_under_load(folder, chance):
    found = told(folder, [chance, chance, chance, chance, 1.0], load=ask("alpha", tool_count=9))
    assert (found.score, found.weak_chance) == (chance, chance)


def test_tools_make_a_request_harder(folder):
    found = told(folder, [0.5, 0.5, 0.75, 0.8, 1.0], load=ask("alpha", tool_count=9))
    assert found.score > 0.5 > found.weak_chance
    assert found.strong_chance == 0.75


UNKNOWN = ["", "12345", "证明存在无穷多个素数。", "докажите", "qqqzx", "\x00\x00", "\ud800", "👍"]


@pytest.mark.parametrize("text", UNKNOWN)
def test_a_text_without_a_known_word_is_judged(classifier, text):
    found = classifier.judge(ask(text))
    assert 0 < found.score < 1
    assert found.signals[-1] == 0


@given(st.text(alphabet=st.characters(codec=None, exclude_categories=()), max_size=300), st.integers(0, 1000))
def test_any_text_is_judged_within_bounds(text, tools):
    found = SHIPPED.judge(ask(text, tool_count=tools))
    assert 0 <= found.score <= 1
    assert 0 <= found.weak_chance <= found.strong_chance <= 1
    assert 0 <= found.output_tokens <= 16_384
    assert all(map(math.isfinite, found.signals))


TEXTS = ["hi", "Prove that there are infinitely many primes.", "", "证明", "Which?\nA. one\nB. two"]


def test_judging_among_others_and_in_threads_changes_nothing(classifier):
    alone = [OnnxClassifier.load(DEFAULT).judge(ask(text)) for text in TEXTS]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(classifier.judge, [ask(text) for text in TEXTS] * 50)) == alone * 50


def test_judgements_do_not_depend_on_the_hash_seed():
    code = (
        "import sys; from pathlib import Path; from gateway.classify.onnx import OnnxClassifier;"
        "from gateway.schema.conversation import Conversation, Turn;"
        "judge = OnnxClassifier.load(Path(sys.argv[1])).judge;"
        "print([judge(Conversation((Turn('user', text),))) for text in sys.argv[2:]])"
    )
    command = [sys.executable, "-c", code, str(DEFAULT), *TEXTS]
    found = {
        subprocess.run(
            command, env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True, text=True, check=True,
        ).stdout
        for seed in ("0", "1", "2")
    }  # fmt: skip
    assert len(found) == 1


PLAN = "Prove that every bounded monotone sequence converges."
FOLLOW_UP = ask("yes", ("user", PLAN), ("assistant", "Shall I go on?"))


@pytest.fixture
def measured(monkeypatch):
    """The texts that were measured."""
    texts = []

    def measure(text, vocabulary):
        texts.append(text)
        return measure_text(text, vocabulary)

    monkeypatch.setattr("gateway.classify.onnx.measure_text", measure)
    return texts


def test_earlier_turns_are_measured_once_and_the_question_each_time(folder, measured):
    classifier = OnnxClassifier.load(folder)
    first = classifier.judge(FOLLOW_UP, "tenant")
    assert measured == ["yes", "Shall I go on?", PLAN]
    measured.clear()
    assert list(classifier.unread(FOLLOW_UP, "tenant")) == ["yes"]
    assert (
        list(classifier.unread(FOLLOW_UP, "other"))
        == list(classifier.unread(FOLLOW_UP))
        == list(judged_texts(FOLLOW_UP))
    )
    assert classifier.judge(FOLLOW_UP, "tenant") == first
    assert measured == ["yes"]
    assert OnnxClassifier.load(folder).judge(FOLLOW_UP) == first


def test_no_tenant_can_tell_what_another_has_sent(folder, measured):
    classifier = OnnxClassifier.load(folder)
    classifier.judge(FOLLOW_UP, "one")
    measured.clear()
    classifier.judge(FOLLOW_UP, "other")
    assert measured == ["yes", "Shall I go on?", PLAN]


def test_without_a_tenant_nothing_is_remembered(folder, measured):
    classifier = OnnxClassifier.load(folder)
    for _ in range(2):
        measured.clear()
        classifier.judge(FOLLOW_UP)
        assert len(measured) == 3
