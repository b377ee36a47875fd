"""Bodies: what the walk reads of them, and that all else travels on as it came."""

from contextlib import suppress

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.schema.conversation import Turn
from gateway.schema.request import Operation, decode_request
from tests.builders import request

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text().filter(lambda name: name not in {"model", "messages"}), JSON, max_size=4))
def test_fields_nobody_knows_travel_on_as_the_bytes_they_came_in(unknown):
    unknown = {f"x_{name}": value for name, value in unknown.items()}
    asked = request(**unknown)
    assert {name: bytes(raw) for name, raw in asked.fields.items() if name.startswith("x_")} == {
        name: msgspec.json.encode(value) for name, value in unknown.items()
    }


@pytest.mark.parametrize(
    ("body", "needs"),
    [
        ({}, []),
        ({"tools": []}, []),
        ({"tools": [{"type": "function"}]}, [("tools", "tools")]),
        ({"functions": [{"name": "f"}]}, [("tools", "functions")]),
        ({"response_format": {"type": "json_object"}}, []),
        ({"response_format": {"type": "json_schema"}}, [("json_schema", "response_format")]),
        ({"n": 1}, []),
        ({"n": 2}, [("n", "n")]),
        ({"logprobs": False}, []),
        ({"logprobs": True}, [("logprobs", "logprobs")]),
        ({"modalities": ["text", "audio"]}, [("audio", "modalities")]),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, [("vision", "messages")]),
        ({"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]}, [("audio", "messages")]),
    ],
)
def test_a_chat_needs_what_its_fields_ask_for(body, needs):
    assert [(need.capability, need.param) for need in request(**body).needs] == needs


def test_a_completion_needs_n_and_logprobs_and_an_embedding_needs_embeddings():
    asked = request(Operation.COMPLETION, n=2, logprobs=0)
    assert [need.capability for need in asked.needs] == ["n", "logprobs"]
    assert [need.capability for need in request(Operation.EMBEDDING).needs] == ["embeddings"]


def test_every_part_that_holds_text_is_text():
    parts = [
        {"type": "input_text", "text": "a"},
        {"type": "output_text", "text": "b"},
        {"type": "refusal", "refusal": "c"},
    ]
    asked = request(messages=[{"role": "assistant", "content": parts}])
    assert asked.conversation.turns[0].text == "a\nb\nc"
    assert asked.conversation.attachment_count == 0


def test_parts_of_a_message_are_joined_and_attachments_counted():
    parts = [{"type": "text", "text": "a"}, {"type": "image_url", "image_url": {}}, {"type": "text", "text": "b"}]
    asked = request(messages=[{"role": "system", "content": None}, {"role": "user", "content": parts}])
    assert asked.conversation.turns == (Turn("system", ""), Turn("user", "a\nb"))
    assert asked.conversation.attachment_count == 1


@pytest.mark.parametrize(
    ("prompts", "texts", "token_counts"),
    [
        ("one", ["one"], ()),
        (["one", "two"], ["one", "two"], ()),
        ([5, 6, 7], [], (3,)),
        ([[5, 6], [7]], [], (2, 1)),
        (["one", [7, 8]], ["one"], (2,)),
        ([[], [7]], [], (0, 1)),
    ],
)
def test_prompts_are_read_as_text_and_counted_as_token_ids(prompts, texts, token_counts):
    for asked in (request(Operation.COMPLETION, prompt=prompts), request(Operation.EMBEDDING, input=prompts)):
        assert [turn.text for turn in asked.conversation.turns] == texts
        assert asked.conversation.token_counts == token_counts
        assert asked.conversation.attachment_count == 0


CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "a" * 4_000}}


@pytest.mark.parametrize(
    ("body", "counted"),
    [
        ({}, []),
        ({"tools": None, "response_format": None}, []),
        ({"tools": [{"type": "function"}]}, [[{"type": "function"}]]),
        ({"functions": [{"name": "f"}]}, [[{"name": "f"}]]),
        ({"response_format": {"type": "json_schema", "json_schema": {}}}, [{"type": "json_schema", "json_schema": {}}]),
        ({"messages": [{"role": "assistant", "tool_calls": [CALL]}, {"role": "tool", "content": "x"}]}, [[CALL]]),
        ({"messages": [{"role": "assistant", "tool_calls": None, "function_call": {"name": "f"}}]}, [{"name": "f"}]),
    ],
)
def test_tools_their_calls_and_schemas_count_by_their_bytes(body, counted):
    assert request(**body).conversation.json_bytes == sum(len(msgspec.json.encode(value)) for value in counted)


TEXT = {"type": "text", "text": "a"}
TOO_MANY = {
    "messages": (Operation.CHAT, {"messages": [{"role": "user"}] * 20_001}, "$.messages"),
    "parts": (Operation.CHAT, {"messages": [{"role": "user", "content": [TEXT] * 2_001}]}, "$.messages[0].content"),
    "tools": (Operation.CHAT, {"tools": [{}] * 2_001}, "$.tools"),
    "functions": (Operation.CHAT, {"functions": [{}] * 2_001}, "$.functions"),
    "modalities": (Operation.CHAT, {"modalities": ["text"] * 101}, "$.modalities"),
    "prompts": (Operation.COMPLETION, {"prompt": [1] * 100_001}, "$.prompt"),
    "inputs": (Operation.EMBEDDING, {"input": [1] * 100_001}, "$.input"),
    "fields": (Operation.CHAT, {f"x{number}": 1 for number in range(1_001)}, "object"),
}


@pytest.mark.parametrize("case", TOO_MANY)
def test_a_list_longer_than_anyone_needs_is_named(case):
    operation, body, named = TOO_MANY[case]
    with pytest.raises(msgspec.ValidationError) as refusal:
        request(operation, **body)
    assert named in str(refusal.value)


@pytest.mark.parametrize(
    ("operation", "body"),
    [
        (Operation.CHAT, {"messages": [{"role": "user"}] * 20_000, "tools": [{}] * 2_000}),
        (Operation.CHAT, {"messages": [{"role": "user", "content": [TEXT] * 2_000}]}),
        (Operation.COMPLETION, {"prompt": [1] * 100_000}),
        (Operation.EMBEDDING, {"input": ["a"] * 100_000}),
    ],
)
def test_a_list_as_long_as_its_bound_is_read(operation, body):
    assert request(operation, **body).model == "auto"


@pytest.mark.parametrize(
    ("body", "tokens"),
    [({}, 0), ({"max_tokens": 7}, 7), ({"max_tokens": 7, "max_completion_tokens": 9}, 9), ({"max_tokens": None}, 0)],
)
def test_the_newer_token_bound_wins(body, tokens):
    assert request(**body).max_tokens == tokens


@pytest.mark.parametrize(
    ("body", "is_streaming", "wants_usage"),
    [
        ({}, False, False),
        ({"stream": True}, True, False),
        ({"stream": True, "stream_options": None}, True, False),
        ({"stream": True, "stream_options": {"include_usage": False}}, True, False),
        ({"stream": True, "stream_options": {"include_usage": True}}, True, True),
    ],
)
def test_usage_is_wanted_only_where_it_was_asked_for(body, is_streaming, wants_usage):
    asked = request(**body)
    assert (asked.is_streaming, asked.wants_usage) == (is_streaming, wants_usage)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b'{"model":"m","messages":[]}',
        b'{"model":"","messages":[{"role":"user"}]}',
        b'{"model":"m","messages":[{"role":"user"}],"max_tokens":-1}',
        b'{"model":"m","messages":[{"role":"user"}],"n":129}',
        b'{"model":"m","messages":[{"role":"user","content":"\xff"}]}',
        b'{"model":"m","messages":[{"role":"user"}],"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    ],
)
def test_what_is_no_request_raises_one_of_three_errors(body):
    with pytest.raises((msgspec.DecodeError, UnicodeDecodeError, RecursionError)):
        decode_request(Operation.CHAT, body)


@given(st.binary(max_size=60), st.sampled_from(Operation))
def test_no_bytes_whatsoever_raise_another_error(body, operation):
    with suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        decode_request(operation, body)
