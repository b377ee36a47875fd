"""What the router that ships must get right, whatever its figures."""

# ruff: noqa: RUF001  # prompts in other scripts

import json
import statistics
import time
from pathlib import Path

import pytest

from gateway.classify.onnx import SIGNALS, OnnxClassifier
from gateway.schema.conversation import Conversation, Turn

FOLDER = Path(__file__).parents[3] / "router_models" / "artifacts" / "default"

EASY = [
    "hi", "thanks", "ok", "", "What is the capital of France?", "Translate 'good morning' to Spanish", "你好",
    "Guten Morgen", "¿Cuál es la capital de Italia?", "Who wrote Hamlet?",
]  # fmt: skip
HARD = [
    "Prove that there are infinitely many primes of the form 4k+3",
    "Implement a lock-free MPMC queue in C++ and prove its linearizability",
    "Prove that the product of two uniformly continuous bounded functions is uniformly continuous.",
    "Beweise, dass es unendlich viele Primzahlen gibt.",
    "证明存在无穷多个素数。",
    "素数が無限に存在することを証明せよ",
]
MARGIN = 0.03


@pytest.fixture(scope="module")
def classifier():
    return OnnxClassifier.load(FOLDER)


@pytest.fixture(scope="module")
def judge(classifier):
    return lambda text: classifier.judge(Conversation((Turn("user", text),)))


@pytest.fixture(scope="module")
def score(classifier):
    def of(*turns):
        return classifier.judge(Conversation(tuple(Turn(role, text) for role, text in turns))).score

    return of


@pytest.mark.parametrize("easy", EASY)
def test_everyday_prompts_score_clearly_under_proofs(score, easy):
    assert score(("user", easy)) + MARGIN < min(score(("user", hard)) for hard in HARD)


@pytest.mark.parametrize("hard", HARD)
def test_proofs_are_beyond_a_weak_model_more_than_everyday_prompts(judge, hard):
    assert judge(hard).weak_chance < min(judge(easy).weak_chance for easy in EASY)


@pytest.mark.parametrize("text", [*EASY, *HARD])
def test_a_judgement_is_sane(judge, text):
    told = judge(text)
    assert 0 < told.weak_chance <= told.strong_chance < 1
    assert 0 < told.output_tokens < 5000
    assert len(told.signals) == len(SIGNALS)


@pytest.mark.parametrize(
    ("text", "domain"),
    [
        ("Implement a lock-free MPMC queue in C++ and prove its linearizability", "code"),
        ("Prove that there are infinitely many primes of the form 4k+3", "math"),
        ("Translate 'good morning' to Spanish", "translation"),
        ("hi", "chat"),
    ],
)
def test_plain_domains_are_told(judge, text, domain):
    assert judge(text).domain == domain


@pytest.mark.parametrize("nod", ["yes", "yes, go on", "continue", "and why?", "好的，请继续", "ja, weiter"])
def test_a_nod_after_a_hard_request_is_as_hard_as_the_request(score, nod):
    plan = ("user", HARD[1])
    assert score(plan, ("assistant", "Shall I?"), ("user", nod)) >= score(plan) - 1e-6


def test_a_nod_to_the_assistants_hard_plan_is_as_hard_as_the_plan(score):
    plan = "I will implement a lock-free MPMC queue in C++ and prove its linearizability. Shall I go on?"
    assert score(("user", "hi"), ("assistant", plan), ("user", "yes, go on")) > score(("user", "hi")) + MARGIN


def test_a_nod_after_small_talk_stays_easy(score):
    assert score(("user", "hi"), ("assistant", "Hello!"), ("user", "ok")) < 0.3


def test_thanks_with_a_new_simple_question_is_not_as_hard_as_what_came_before(score):
    assert score(("user", HARD[0]), ("assistant", "Done."), ("user", "What is the capital of France?")) < 0.3


def test_scores_stay_between_0_and_1_for_extreme_texts(score):
    for text in ("prove " * 5000, "\x00" * 4000, "9" * 100_000, "{}" * 3000, "\ud800", "👍" * 500):
        assert 0.0 <= score(("user", text)) <= 1.0


def test_a_score_does_not_depend_on_what_was_scored_before(score):
    first = score(("user", HARD[0]))
    score(("user", "x" * 5000))
    assert score(("user", HARD[0])) == first


def test_a_200_token_prompt_is_scored_within_a_millisecond(score):
    # The measured figure is about 100 µs; the bound is for busy test machines.
    prompt = ("user", ("Explain how the protocol handles a partition, and compare it with 2 others. " * 11)[:800])
    durations_s = []
    for _ in range(200):
        started = time.perf_counter()
        score(prompt)
        durations_s.append(time.perf_counter() - started)
    assert statistics.median(durations_s) < 1e-3


def test_the_artifact_is_small_and_its_manifest_says_what_it_must():
    manifest = json.loads((FOLDER / "manifest.json").read_text())
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 8_000_000
    assert {"name", "sha256", "feature_version", "features", "score", "trained_on", "seed", "libraries", "date",
            "figures"} <= set(manifest)  # fmt: skip
    assert [row["source"] for row in manifest["trained_on"] if row["written"]] == ["written"]


def test_the_artifact_beats_prompt_length_and_chance_on_benches_it_had_not_seen():
    gain = json.loads((FOLDER / "manifest.json").read_text())["figures"]["pooled"]["gain"]
    assert gain["apgr_low"] > gain["apgr_by_length"]
    assert gain["apgr_low"] > 0.5


def test_the_card_names_every_source_and_licence():
    manifest = json.loads((FOLDER / "manifest.json").read_text())
    card = (FOLDER / "MODEL_CARD.md").read_text()
    assert all(row["source"] in card and row["licence"] in card for row in manifest["trained_on"])
    assert manifest["sha256"] in card
