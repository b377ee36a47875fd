import json
import random

import numpy as np
import onnxruntime
import pytest
from click.testing import CliRunner

from gateway.classify.features import FEATURE_NAMES, FEATURE_VERSION
from gateway.classify.onnx import OnnxClassifier
from gateway.schema.conversation import Conversation, Turn
from router_models import export
from router_models.calibrate import fit_calibration
from router_models.data import Example
from router_models.train import CANDIDATES, gather, main, rank_held_out, train

QUICK = CANDIDATES[:1]


def sample(path, benches=3, rows=40):
    rng = random.Random(1)
    lines = []
    for bench in range(benches):
        for number in range(rows):
            is_hard = number % 2
            prompt = f"Prove that {number} divides {number * bench}" if is_hard else f"Who wrote book {number}?"
            weak, strong = (0.2, 0.9) if is_hard else (0.9, 0.92)
            lines.append({"prompt": prompt, "weak": weak + rng.random() / 20, "strong": strong, "bench": f"b{bench}"})
    path.write_text("\n".join(map(json.dumps, lines)))
    return path


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr("router_models.train.CANDIDATES", QUICK)


@pytest.fixture
def data(tmp_path):
    return sample(tmp_path / "own.jsonl")


def test_a_small_sample_gives_an_artifact_that_serves(quick, data, tmp_path):
    said = []
    out = train(data, tmp_path / "mine", 7, said.append)
    classifier = OnnxClassifier.load(out)
    easy, hard = (
        classifier.judge(Conversation((Turn("user", text),))).score
        for text in ("Who wrote Faust?", "Prove that 3 divides 9")
    )
    assert (classifier.name, easy + 0.2 < hard) == ("mine", True)
    assert any("APGR" in line and "length" in line for line in said)
    assert sorted(path.name for path in out.iterdir()) == ["MODEL_CARD.md", "manifest.json", "model.onnx"]


def test_the_manifest_tells_the_run(quick, data, tmp_path):
    manifest = json.loads((train(data, tmp_path / "mine", 11) / "manifest.json").read_text())
    assert (manifest["seed"], manifest["feature_version"], manifest["features"]) == (
        11,
        FEATURE_VERSION,
        len(FEATURE_NAMES),
    )
    assert {row["source"]: row["rows"] for row in manifest["trained_on"]}["own"] == 120
    assert set(manifest["figures"]["benches"]) == {"b0", "b1", "b2"}


def test_the_same_seed_gives_the_same_bytes(quick, data, tmp_path):
    first, second = (train(data, tmp_path / name / "mine", 7) / "model.onnx" for name in ("a", "b"))
    assert first.read_bytes() == second.read_bytes()


def test_the_scores_of_a_batch_are_those_of_its_rows(quick, data, tmp_path):
    session = onnxruntime.InferenceSession(str(train(data, tmp_path / "mine", 7) / "model.onnx"))
    features = np.random.default_rng(0).random((5, len(FEATURE_NAMES)), dtype=np.float32)
    together = session.run(["score"], {"features": features})[0]
    assert together.shape == (5,)
    alone = [session.run(["score"], {"features": row[np.newaxis]})[0][0] for row in features]
    assert together == pytest.approx(alone, abs=1e-6)


def test_a_held_out_bench_teaches_nothing_about_itself(data, tmp_path):
    pool = [Example(f"who {i}", "a", "own", 0.5, 0.6, 0.3) for i in range(20)]
    pool += [Example(f"prove {i}", "b", "own", 0.0, 1.0, 1.0) for i in range(20)]
    rank = rank_held_out(CANDIDATES[0], gather(pool, []), seed=0)
    # Each bench is ranked by a model that saw the other one only, whose gaps are all equal.
    assert rank[:20] == pytest.approx(np.full(20, 1.0))
    assert rank[20:] == pytest.approx(np.full(20, 0.1))


def test_one_bench_alone_is_refused_with_a_reason(quick, tmp_path):
    result = CliRunner().invoke(main, ["--data", str(sample(tmp_path / "d.jsonl", 1)), "--out", str(tmp_path / "o")])
    assert result.exit_code == 1
    assert "at least two values of `bench`" in result.output


def test_a_missing_file_is_a_message_not_a_traceback(tmp_path):
    result = CliRunner().invoke(main, ["--data", str(tmp_path / "none"), "--out", str(tmp_path / "o")])
    assert result.exit_code == 1
    assert "no such file" in result.output
    assert not (tmp_path / "o").exists()


def test_help_shows_an_example():
    assert "python -m router_models.train --data" in CliRunner().invoke(main, ["--help"]).output


def test_ctrl_c_leaves_the_old_artifact(data, tmp_path):
    out = tmp_path / "mine"
    out.mkdir()
    (out / "model.onnx").write_bytes(b"old")

    def interrupt(_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(data, out, 7, interrupt)
    assert [path.name for path in out.iterdir()] == ["model.onnx"]
    assert (out / "model.onnx").read_bytes() == b"old"


def test_an_export_that_differs_is_refused(quick, data, tmp_path):
    model = (train(data, tmp_path / "mine", 7) / "model.onnx").read_bytes()
    features = np.zeros((2, len(FEATURE_NAMES)), dtype=np.float32)
    with pytest.raises(export.ExportError, match="differ"):
        export.verify(model, features, np.array([0.0, 1.0]))


def test_calibration_rises_everywhere_even_where_the_data_fall():
    rank = np.linspace(0, 1, 200)
    curve = fit_calibration(rank, 1 - rank, np.ones(200), (0.1, 0.9))
    assert (np.diff(curve.apply(np.linspace(-2, 3, 500))) > 0).all()


def test_calibration_finds_a_curve_that_is_there():
    rank = np.linspace(-3, 3, 2000)
    win = 1 / (1 + np.exp(-(0.5 * rank - 1)))
    curve = fit_calibration(rank, win, np.ones(2000), (-2.0, 2.0))
    assert curve.apply(rank) == pytest.approx(win, abs=0.01)


def test_calibration_bends_at_its_knots():
    rank = np.array([0.0] * 50 + [1.0] * 50 + [2.0] * 50)
    win = np.array([0.3] * 50 + [0.35] * 50 + [0.9] * 50)
    curve = fit_calibration(rank, win, np.ones(150), (0.0, 1.0))
    assert curve.apply(np.array([0.0, 1.0, 2.0])) == pytest.approx([0.3, 0.35, 0.9], abs=0.02)
