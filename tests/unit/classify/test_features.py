# ruff: noqa: E501, RUF001  # prompts in other scripts

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.classify.features import (
    FEATURE_NAMES,
    HEAD_CHARS,
    MAX_INHERITED_TURNS,
    TAIL_CHARS,
    is_follow_up,
    judged_texts,
    text_features,
)
from gateway.schema.conversation import Conversation, Turn


def talk(*turns):
    return Conversation(tuple(Turn(role, text) for role, text in turns))


def feature(text, name):
    return float(text_features(text)[FEATURE_NAMES.index(name)])


any_text = st.text(alphabet=st.characters(codec=None, exclude_categories=()), max_size=300)


@given(any_text)
def test_every_str_has_a_finite_vector_of_the_same_shape(text):
    features = text_features(text)
    assert features.shape == (len(FEATURE_NAMES),)
    assert features.dtype == np.float32
    assert np.isfinite(features).all()


@pytest.mark.parametrize(
    "text", ["", "\ud800", "\x00" * 5000, "x" * 2_000_000, "👩‍👩‍👧" * 3000, "\u0130" * 10, "\n" * 9000]
)
def test_odd_texts_have_finite_vectors(text):
    assert np.isfinite(text_features(text)).all()


def test_feature_names_are_unique():
    assert len(set(FEATURE_NAMES)) == len(FEATURE_NAMES)


def test_the_empty_text_has_one_line_and_nothing_else_counted():
    vector = dict(zip(FEATURE_NAMES, text_features("").tolist(), strict=True))
    assert vector["lines"] == pytest.approx(np.log(2))
    assert [name for name, value in vector.items() if value] == ["lines"]


def test_the_middle_of_a_long_text_is_not_read_but_its_length_is():
    head, tail = "a " * (HEAD_CHARS // 2), "z " * (TAIL_CHARS // 2)
    plain = text_features(head + "b " * 5000 + tail)
    other = text_features(head + "prove 123 c " * 1000 + tail)
    chars = FEATURE_NAMES.index("chars")
    assert np.array_equal(np.delete(plain, chars), np.delete(other, chars))
    assert plain[chars] == pytest.approx(np.log1p(HEAD_CHARS + TAIL_CHARS + 10_000))


def test_the_head_and_the_tail_of_a_long_text_are_read():
    filler = "word " * 3000
    assert feature("prove " + filler, "topic_proof") > 0
    assert feature(filler + "prove", "topic_proof") > 0


def test_a_repeated_word_counts_once_for_its_topic():
    assert feature("prove prove prove", "topic_proof") == feature("prove", "topic_proof") == pytest.approx(np.log(2))


@pytest.mark.parametrize(
    "text",
    [
        "Beweise, dass",
        "Démontrez que",
        "Demuestra que",
        "证明：存在",
        "証明せよ",
        "सिद्ध कीजिए",
        "أثبت أن",
        "докажите",
        "Prove que",
    ],
)
def test_a_proof_is_seen_in_many_languages(text):
    assert feature(text, "topic_proof") > 0


def test_capitals_do_not_change_a_topic():
    assert feature("PROVE É", "topic_proof") == feature("prove é", "topic_proof") > 0


def test_numbers_are_runs_of_digits():
    assert feature("12 a 3b45", "numbers") == pytest.approx(np.log1p(3))


def test_text_without_spaces_has_more_words_than_one():
    assert feature("证明存在无穷多个素数因为每个整数", "words") > np.log1p(5)


@pytest.mark.parametrize(
    "text",
    ["yes, go on", "Yes.", "continue", "and why?", "thanks, go on", "ok", "go ahead", "好的，请继续", "はい、続けて", "ja, weiter", "oui, continue",
     "sí, continúa", "👍", "", "हाँ, जारी रखो", "نعم استمر"],
)  # fmt: skip
def test_nods_are_follow_ups(text):
    assert is_follow_up(text)


@pytest.mark.parametrize(
    "text",
    [
        "yes, prove it",
        "why is the sky blue?",
        "continue " * 9,
        "thanks",
        "Thank you!",
        "hi",
        "你好",
        "What is the capital of France?",
    ],
)
def test_what_carries_a_task_is_no_follow_up(text):
    assert not is_follow_up(text)


def test_the_last_user_turn_is_judged_alone():
    assert judged_texts(talk(("user", "old"), ("assistant", "answer"), ("user", "new task"))) == ("new task",)


def test_turns_after_the_last_user_turn_are_not_judged():
    assert judged_texts(talk(("user", "task"), ("assistant", "calling"), ("tool", "result"))) == ("task",)


def test_a_follow_up_inherits_the_answer_and_the_question_before_it():
    conversation = talk(("user", "older"), ("user", "plan"), ("assistant", "steps"), ("user", "yes, go on"))
    assert judged_texts(conversation) == ("yes, go on", "steps", "plan")


def test_follow_ups_are_followed_back_to_a_task():
    conversation = talk(("user", "plan"), ("assistant", "one"), ("user", "go on"), ("assistant", "two"), ("user", "ok"))
    assert judged_texts(conversation) == ("ok", "two", "go on", "one", "plan")


def test_inheritance_skips_system_and_tool_turns():
    conversation = talk(("user", "plan"), ("system", "rules"), ("tool", "out"), ("assistant", "steps"), ("user", "yes"))
    assert judged_texts(conversation) == ("yes", "steps", "plan")


def test_inheritance_is_bounded():
    conversation = talk(*[("user", "go on"), ("assistant", "more")] * 50, ("user", "go on"))
    assert len(judged_texts(conversation)) == 1 + MAX_INHERITED_TURNS


def test_without_a_user_turn_the_last_text_is_judged():
    assert judged_texts(talk(("system", "rules"), ("assistant", "text"), ("tool", "  "))) == ("text",)


def test_no_text_at_all_is_one_empty_text():
    assert judged_texts(talk()) == judged_texts(talk(("tool", " "))) == ("",)


@given(st.lists(st.tuples(st.sampled_from(["user", "assistant", "system", "tool"]), any_text), max_size=12))
def test_any_conversation_has_a_bounded_number_of_judged_texts(turns):
    assert 1 <= len(judged_texts(talk(*turns))) <= 1 + MAX_INHERITED_TURNS
