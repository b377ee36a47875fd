# ruff: noqa: E501, RUF001  # prompts in other scripts

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.classify.turns import (
    MAX_INHERITED_TURNS,
    SYSTEM_CHARS,
    context_load,
    is_follow_up,
    judged_texts,
    most_judged,
)
from gateway.schema.conversation import Conversation, Turn

any_text = st.text(alphabet=st.characters(codec=None, exclude_categories=()), max_size=100)


def talk(*turns, **counts):
    return Conversation(tuple(Turn(role, text) for role, text in turns), **counts)


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
        "now make it thread-safe",
        "ok, implement step 2",
        "Yes, prove it.",
        "Translate that to French",
        "the same in Rust",
    ],
)
def test_short_orders_about_what_was_said_are_follow_ups(text):
    assert is_follow_up(text)


@pytest.mark.parametrize(
    "text",
    ["and in Python?", "What about negative numbers?", "how about Rust", "shorter, please", "2", "1.", "und auf Deutsch?",
     "et en français ?"],
)  # fmt: skip
def test_what_takes_up_what_was_said_is_a_follow_up(text):
    assert is_follow_up(text)


@pytest.mark.parametrize(
    "text",
    [
        "12 + 30",
        "Which about-face did he mean?",
        "why is the sky blue?",
        "continue " * 9,
        "go on " * 5,
        "thanks",
        "Thank you!",
        "hi",
        "你好",
        "What is the capital of France?",
        "¿Cuál es la capital de Italia?",
        "Wie hoch ist das Matterhorn?",
        "Make it so that all of the nine words count",
    ],
)
def test_what_carries_a_task_is_no_follow_up(text):
    assert not is_follow_up(text)


def test_the_last_user_turn_is_judged_alone():
    assert judged_texts(talk(("user", "old"), ("assistant", "answer"), ("user", "new task"))) == ("new task",)


def test_a_fresh_question_in_a_long_conversation_is_judged_alone():
    before = [("user", "Prove Fermat's last theorem"), ("assistant", "The margin is too small.")] * 20
    assert judged_texts(talk(*before, ("user", "Who wrote Hamlet?"))) == ("Who wrote Hamlet?",)


def test_turns_after_the_last_user_turn_are_not_judged():
    assert judged_texts(talk(("user", "task"), ("assistant", "calling"), ("tool", "result"))) == ("task",)


def test_a_follow_up_inherits_the_answer_and_the_question_before_it():
    conversation = talk(("user", "older"), ("user", "plan"), ("assistant", "steps"), ("user", "yes, go on"))
    assert judged_texts(conversation) == ("yes, go on", "steps", "plan")


def test_follow_ups_are_followed_back_to_a_task():
    conversation = talk(("user", "plan"), ("assistant", "one"), ("user", "go on"), ("assistant", "two"), ("user", "ok"))
    assert judged_texts(conversation) == ("ok", "two", "go on", "one", "plan")


def test_inheritance_skips_system_and_tool_turns():
    conversation = talk(("user", "plan"), ("system", " "), ("tool", "out"), ("assistant", "steps"), ("user", "yes"))
    assert judged_texts(conversation) == ("yes", "steps", "plan")


def test_inheritance_is_bounded():
    conversation = talk(*[("user", "go on"), ("assistant", "more")] * 50, ("user", "go on"))
    assert len(judged_texts(conversation)) == 1 + MAX_INHERITED_TURNS


@pytest.mark.parametrize("role", ["system", "developer"])
def test_instructions_are_judged_together_with_the_question(role):
    assert judged_texts(talk((role, "Solve it."), ("user", "x = 1"))) == ("x = 1", "Solve it.\nx = 1")


def test_a_blank_system_prompt_does_not_hide_the_instructions_after_it():
    assert judged_texts(talk(("system", " "), ("developer", "Solve it."), ("user", "x")))[1:] == ("Solve it.\nx",)


def test_only_the_start_of_a_long_system_prompt_counts():
    assert judged_texts(talk(("system", "s" * 9000), ("user", "x")))[1] == "s" * SYSTEM_CHARS + "\nx"


def test_without_a_user_turn_the_last_text_is_judged():
    assert judged_texts(talk(("system", "rules"), ("assistant", "text"), ("tool", "  "))) == ("text",)


def test_no_text_at_all_is_one_empty_text():
    assert judged_texts(talk()) == judged_texts(talk(("tool", " "))) == ("",)


@given(
    st.lists(st.tuples(st.sampled_from(["user", "assistant", "system", "developer", "tool"]), any_text), max_size=12)
)
def test_any_conversation_has_a_bounded_number_of_judged_texts(turns):
    assert 1 <= len(judged_texts(talk(*turns))) <= most_judged(talk(*turns)) <= 2 + MAX_INHERITED_TURNS


@given(any_text)
def test_a_bare_prompt_has_no_load(text):
    assert context_load(talk(("user", text))) == context_load(talk()) == 0.0


def loaded(history=0, tools=0, attachments=0):
    turns = (("assistant", "h" * history), ("user", "x")) if history else (("user", "x"),)
    return context_load(talk(*turns, tool_count=tools, attachment_count=attachments))


counts = st.integers(0, 10_000)


@given(counts, counts, counts, st.integers(0, 100), st.integers(0, 100), st.integers(0, 100))
def test_more_of_anything_around_a_prompt_never_weighs_less(history, tools, attachments, more, more_tools, others):
    assert 0 <= loaded(history, tools, attachments) <= loaded(history + more, tools + more_tools, attachments + others)


@pytest.mark.parametrize("more", [{"history": 4000}, {"tools": 1}, {"attachments": 1}])
def test_each_kind_of_context_weighs_something(more):
    assert 0 < loaded(**more) < math.log(2)
