"""Estimates of token counts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.tokens import estimate_longest_tokens, estimate_prompt_tokens, estimate_tokens
from gateway.schema.conversation import Conversation, Turn


@pytest.mark.parametrize(
    ("text", "tokens"), [("", 0), ("a", 1), ("abcd", 1), ("abcde", 2), ("証明", 2), ("abcd証", 2), ("é" * 5, 5)]
)
def test_four_ascii_characters_are_a_token_and_every_other_one_is_one(text, tokens):
    assert estimate_tokens(text) == tokens


@given(st.text(), st.text())
def test_a_longer_text_is_never_estimated_shorter(text, more):
    assert estimate_tokens(text) <= estimate_tokens(text + more) <= estimate_tokens(text) + estimate_tokens(more)


def test_a_conversation_is_its_turns_attachments_json_and_token_ids():
    turns = (Turn("user", "abcd"), Turn("assistant", "abcdefgh"))
    assert estimate_prompt_tokens(Conversation(turns)) == 1 + 4 + 2 + 4
    assert estimate_prompt_tokens(Conversation((), attachment_count=1, token_counts=(7, 8))) == 815
    assert estimate_prompt_tokens(Conversation((), tool_count=2, json_bytes=4_001)) == 1001
    assert estimate_prompt_tokens(Conversation(())) == 0


def test_the_longest_prompt_is_a_text_or_a_list_of_token_ids():
    turns = (Turn("user", "abcd"), Turn("user", "abcdefgh"))
    assert estimate_longest_tokens(Conversation(turns)) == 2 + 4
    assert estimate_longest_tokens(Conversation(turns, token_counts=(3, 9))) == 9
    assert estimate_longest_tokens(Conversation(())) == 0
