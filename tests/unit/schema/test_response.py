"""Answers and errors as upstreams tell them, in all their spellings."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.schema.response import WireError, WireUsage, decode_answer, decode_error, decode_usage


@pytest.mark.parametrize(
    ("payload", "is_error"),
    [
        (b'{"choices":[]}', False),
        (b'{"error":null}', False),
        (b'{"error":{"message":"x"}}', True),
        (b'{"error":"x"}', True),
        (b'{"object":"error","message":"x"}', True),
    ],
)
def test_an_error_is_known_in_the_clothes_of_an_answer(payload, is_error):
    assert decode_answer(payload).is_error is is_error


@pytest.mark.parametrize(
    "payload",
    [b'{"error":{"message":"no","param":"n","code":"c"}}', b'{"message":"no","param":"n","code":"c"}'],
    ids=["openai", "vllm before 0.10"],
)
def test_both_shapes_of_an_error_body_are_read(payload):
    assert decode_error(payload) == WireError("no", None, "n", "c")


@given(st.binary(max_size=40) | st.sampled_from([b'{"error":5}', b'{"detail":"x"}', b'{"error":"text"}', b"[" * 9999]))
def test_any_error_body_gives_an_error(payload):
    assert isinstance(decode_error(payload), WireError)


@pytest.mark.parametrize("usage", [b'"7"', b"[]", b'{"prompt_tokens":"7"}', b'{"prompt_tokens":7.5}', b"true"])
def test_counts_that_are_none_leave_the_answer_standing(usage):
    answer = decode_answer(b'{"choices":[{"finish_reason":"stop"}],"usage":' + usage + b"}")
    assert answer.choices is not None
    assert decode_usage(answer.usage) is None


def test_counts_are_read_where_there_are_some():
    answer = decode_answer(b'{"usage":{"prompt_tokens":7,"completion_tokens":2,"prompt_tokens_details":null}}')
    assert decode_usage(answer.usage) == WireUsage(7, 2)
    assert decode_usage(decode_answer(b"{}").usage) is None
    assert decode_usage(decode_answer(b'{"usage":null}').usage) is None
