"""How flips are counted, what the changes leave alone, and that the search finds what fools a router."""

import random

import pytest

from gateway.core.judgement import Judgement
from gateway.schema.conversation import Conversation, Turn
from router_models import gadget
from router_models.perturb import CASES, SPACES, add_typos, around, before, load_probes, padded
from router_models.robustness import change_pairs, flips, report, tell, written_prompts

PROBES = load_probes()
BASE = written_prompts(PROBES)


def by_words(*words):
    """A router that counts some words."""

    def judge(conversation):
        assert isinstance(conversation, Conversation)
        text = conversation.turns[0].text.lower()
        return Judgement(min(1.0, sum(text.count(word) for word in words) / 4))

    return judge


def test_the_sets_are_as_large_as_said_and_hold_no_prompt_twice():
    assert (len(PROBES.paraphrases), len(PROBES.translations)) == (60, 30)
    assert all(set(one) == {"en", "de", "fr", "es", "pt", "zh"} for one in PROBES.translations)
    assert len({*BASE, *(one.paraphrase for one in PROBES.paraphrases)}) == 150


def test_flips_by_hand():
    scores = {"a": 0.2, "b": 0.8, "c": 0.4, "A": 0.6, "B": 0.9, "C": 0.5}
    found = flips("x", scores.__getitem__, [("a", "A"), ("b", "B"), ("c", "C")], 0.6)
    assert (found.pairs, found.flips) == (3, pytest.approx(1 / 3))
    assert (found.up, found.down) == (0.5, 0.0)
    assert (found.mean_shift, found.max_shift) == (pytest.approx(0.2), pytest.approx(0.4))
    down = flips("x", scores.__getitem__, [("b", "a"), ("A", "B")], 0.6)
    assert (down.flips, down.up, down.down) == (0.5, 0.0, 0.5)


def test_a_router_that_never_moves_has_no_flips_and_tells_a_table():
    found = report(lambda _: Judgement(0.5), search_steps=1)
    assert {one.flips for one in found.kinds} == {0.0}
    assert [one.kind for one in found.kinds] == [
        "typos", "case", "spaces", "paraphrase", "translation", "padding", "instructions", "known gadgets",
        "searched gadget",
    ]  # fmt: skip
    assert tell(found).count("| 0.0% | 0.0% | 0.0% | 0.000 | 0.000 |") == 9


def test_a_router_that_obeys_is_caught():
    obeys = report(by_words("strong", "score=1", "hard", "complex"), threshold=0.25, search_steps=0)
    assert obeys.of("instructions").up > 0.3
    assert obeys.of("typos").flips < 0.05
    assert obeys.worst_prefix is None


def test_the_threshold_is_that_of_the_strong_share():
    found = report(
        lambda conversation: Judgement(len(conversation.turns[0].text) / 1000), strong_share=0.2, search_steps=0
    )
    assert found.strong_share == pytest.approx(0.2, abs=0.02)


def test_prompts_of_ones_own_are_changed_instead():
    found = report(by_words("x"), prompts=["one", "two"], threshold=0.5, search_steps=0)
    assert (found.prompts, found.of("case").pairs, found.of("paraphrase").pairs) == (2, 2 * len(CASES), 60)


def test_the_same_seed_gives_the_same_report():
    assert report(by_words("proof", "e"), search_steps=2) == report(by_words("proof", "e"), search_steps=2)


def test_the_search_finds_the_words_that_lift_the_score_and_is_measured_elsewhere():
    asked = []

    def score(text):
        asked.append(text)
        return by_words("theorem", "tensor")(Conversation((Turn("user", text),))).score

    prefix = gadget.search_prefix(score, ["hi", "who wrote it?"], random.Random(1), steps=40)
    assert {"theorem", "tensor"} & set(prefix.split())
    assert len(prefix.split()) == gadget.TOKENS
    assert len(asked) == 2 * (1 + 40 * gadget.TRIES)
    found = report(by_words("theorem", "tensor"), threshold=0.5, search_steps=40)
    assert found.of("searched gadget").up == 1.0
    # Half of the weak-side prompts, at most 24, are what the search saw.
    assert found.of("searched gadget").pairs == len(BASE) - 24


def test_a_router_without_a_weak_side_is_measured_all_the_same():
    found = report(lambda _: Judgement(1.0), threshold=0.5, search_steps=1)
    assert (found.of("searched gadget").flips, found.of("searched gadget").up) == (0.0, 0.0)


@pytest.mark.parametrize("text", ["", "a", "ab", "12 34", "Who wrote Faust?", "é" * 60])
def test_typos_change_letters_only_and_never_fail(text):
    changed = add_typos(text, random.Random(3))
    assert abs(len(changed) - len(text)) <= max(1, len(text) // 25)
    assert (changed == text) == (not any(map(str.isalpha, text[1:-1])))


def test_every_change_keeps_the_prompt_or_its_letters():
    added = PROBES.additions
    for change in [*padded(added.padding), *before(added.gadgets), *around(added.instructions)]:
        assert BASE[3] in change(BASE[3])
        assert len(change(BASE[3])) > len(BASE[3])
    for change in (*CASES, *SPACES):
        assert "".join(change(BASE[3]).lower().split()) == "".join(BASE[3].lower().split())
    assert len({change("x y") for change in around(added.instructions)}) == 2 * len(added.instructions)


def test_every_kind_of_change_covers_every_prompt():
    pairs = change_pairs(BASE, PROBES, random.Random(0))
    for kind in ("typos", "case", "spaces", "padding", "instructions", "known gadgets"):
        assert {first for first, _ in pairs[kind]} == set(BASE)
    assert len(pairs["translation"]) == 150
