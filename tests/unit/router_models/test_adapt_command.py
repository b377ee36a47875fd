"""`postern adapt` from outside: a router that serves where the labels teach one, and nothing where they don't."""

import json
import random

import pytest
from click.testing import CliRunner

from gateway.app import ROUTERS
from gateway.classify.onnx import OnnxClassifier
from gateway.schema.conversation import Conversation, Turn
from router_models.commands.adapt import adapt
from router_models.represent import deciding_text


def run(*arguments):
    return CliRunner().invoke(adapt, [str(argument) for argument in arguments])


def write(path, count, teach):
    """Labels of a pair whose weak model fails where `teach` says so, by a word the shipped router cares little for."""
    rng, lines = random.Random(3), []
    for number in range(count):
        has_digits = rng.random() < 0.5
        # No text twice: letters tell the towns apart where digits may not.
        town = "".join("abcdefghij"[int(digit)] for digit in str(number))
        tail = f" {number} {number * 3}" if has_digits else f" of the old town {town}"
        prompt = rng.choice(["Tell me the story", "Which is the name", "What is the number"]) + tail + "?"
        weak = float(rng.random() < (0.1 if teach(has_digits) else 0.9))
        lines.append({"prompt": prompt, "weak": weak, "strong": 1.0})
    path.write_text("\n".join(map(json.dumps, lines)))
    return path


@pytest.fixture
def labels(tmp_path):
    return write(tmp_path / "labels.jsonl", 300, lambda has_digits: not has_digits)


def ask(text):
    return Conversation((Turn("user", text),))


def test_labels_that_teach_give_a_router_that_serves(labels, tmp_path):
    out = tmp_path / "mine"
    found = run("--labels", labels, "--out", out)
    assert found.exit_code == 0, found.output
    assert "fitted on   200" in found.stdout
    assert f"written: {out}" in found.stdout
    assert sorted(path.name for path in out.iterdir()) == ["MODEL_CARD.md", "manifest.json", "model.onnx"]
    adapted, shipped = OnnxClassifier.load(out), OnnxClassifier.load(ROUTERS / "default")
    hard, easy = ask("Tell me the story of the old town?"), ask("Which is the name 17 51?")
    assert adapted.judge(hard).score > 0.7 > 0.3 > adapted.judge(easy).score
    assert abs(shipped.judge(hard).score - shipped.judge(easy).score) < 0.3
    manifest = json.loads((out / "manifest.json").read_bytes())
    assert (manifest["name"], manifest["adapted"]["labels"]) == ("mine", 300)
    assert manifest["adapted"]["held_out_apgr"]["adapted"] > manifest["adapted"]["held_out_apgr"]["shipped"] + 0.1
    assert "adapted from `default`" in (out / "MODEL_CARD.md").read_text()


def test_the_same_labels_and_seed_give_the_same_bytes(labels, tmp_path):
    for name in ("a", "b"):
        assert run("--labels", labels, "--out", tmp_path / name / "mine").exit_code == 0
    assert (tmp_path / "a/mine/model.onnx").read_bytes() == (tmp_path / "b/mine/model.onnx").read_bytes()


def test_labels_that_teach_nothing_leave_the_shipped_router(tmp_path):
    coin = random.Random(9)
    path = write(tmp_path / "noise.jsonl", 150, lambda _: coin.random() < 0.5)
    found = run("--labels", path, "--out", tmp_path / "mine", "--json")
    assert found.exit_code == 0
    told = json.loads(found.stdout)
    assert (told["is_adapted"], told["out"], told["labels"]) == (False, None, 150)
    assert not (tmp_path / "mine").exists()
    assert "the shipped router stays" in run("--labels", path, "--out", tmp_path / "mine").stdout


def test_an_adapted_router_can_be_adapted_again(labels, tmp_path):
    run("--labels", labels, "--out", tmp_path / "mine")
    other = write(tmp_path / "other.jsonl", 300, lambda has_digits: has_digits)
    found = run("--labels", other, "--out", tmp_path / "again", "--router", tmp_path / "mine")
    assert found.exit_code == 0, found.output
    again = OnnxClassifier.load(tmp_path / "again")
    assert (
        again.judge(ask("Which is the name 17 51?")).score
        > again.judge(ask("Tell me the story of the old town?")).score
    )


def test_what_is_served_is_what_was_fitted(labels, tmp_path):
    out, before = tmp_path / "mine", (ROUTERS / "default" / "model.onnx").read_bytes()
    assert run("--labels", labels, "--out", out).exit_code == 0
    assert (out / "model.onnx").read_bytes() != before
    assert len((out / "model.onnx").read_bytes()) == pytest.approx(len(before), rel=0.01)
    shipped, adapted = OnnxClassifier.load(ROUTERS / "default"), OnnxClassifier.load(out)
    # What a residual doesn't speak of stays: domain, expected tokens.
    told = [router.judge(ask("Prove that 3 divides 9 + 3n.")) for router in (shipped, adapted)]
    assert (told[0].domain, told[0].output_tokens) == (told[1].domain, told[1].output_tokens)


def test_an_interruption_leaves_the_old_router(labels, tmp_path, monkeypatch):
    run("--labels", labels, "--out", tmp_path / "mine")
    before = {path.name: path.read_bytes() for path in (tmp_path / "mine").iterdir()}

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("os.fdopen", interrupt)
    assert run("--labels", labels, "--out", tmp_path / "mine", "--seed", 8).exit_code == 1
    assert {path.name: path.read_bytes() for path in (tmp_path / "mine").iterdir()} == before


@pytest.mark.parametrize(
    ("count", "more", "told"),
    [
        (40, (), "40 labels; a residual needs 100"),
        (150, ("--router", "nobody"), "nobody"),
        (150, ("--weak", "a", "--strong", "b"), "no row has scores"),
    ],
)
def test_what_cannot_be_done_says_what_to_do(tmp_path, count, more, told):
    path = write(tmp_path / "x.jsonl", count, lambda has_digits: has_digits)
    found = run("--labels", path, "--out", tmp_path / "mine", *more)
    assert (found.exit_code, found.stdout) == (2, "")
    assert told in found.stderr


def test_the_router_that_ships_is_never_written_over(labels):
    found = run("--labels", labels, "--out", ROUTERS / "default")
    assert found.exit_code == 2
    assert "name another folder" in found.stderr


def test_a_conversation_is_read_by_the_text_that_decides():
    router = OnnxClassifier.load(ROUTERS / "default")
    plan = "Prove that every finite group of order p^2 is abelian, then derive its automorphism group."
    talk = Conversation((Turn("user", plan), Turn("assistant", "Shall I?"), Turn("user", "yes")))
    score, text = deciding_text(router, talk)
    assert text == plan
    assert score == router.judge(ask(plan)).score


def test_a_label_given_four_times_teaches_no_more_than_once(tmp_path):
    coin = random.Random(9)
    once = write(tmp_path / "once.jsonl", 150, lambda _: coin.random() < 0.5)
    often = tmp_path / "often.jsonl"
    often.write_text("\n".join([once.read_text()] * 4))
    told = [json.loads(run("--labels", path, "--out", tmp_path / "mine", "--json").stdout) for path in (once, often)]
    assert told[0] == told[1]
    assert "600 labels of 150 prompts" in run("--labels", often, "--out", tmp_path / "mine").stderr


def test_one_prompt_asked_often_is_one_label(tmp_path):
    path = tmp_path / "same.jsonl"
    path.write_text("\n".join(json.dumps({"prompt": "hello", "weak": row % 2, "strong": 1}) for row in range(200)))
    found = run("--labels", path, "--out", tmp_path / "mine")
    assert found.exit_code == 2
    assert "a residual needs 100" in found.stderr
