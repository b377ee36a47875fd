"""Log probabilities on the wire: what is read of them, and that nothing else changes when they are taken out."""

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.schema.logprobs import Said, read_said, strip_body, strip_event


def token(logprob, **more):
    return {"token": "a", "logprob": logprob, "bytes": [97], "top_logprobs": [], **more}


def chunk(*logprobs, text="a", finish_reason=None, **more):
    told = {"content": [token(one) for one in logprobs], "refusal": None} if logprobs else None
    choice = {"index": 0, "delta": {"content": text}, "logprobs": told, "finish_reason": finish_reason}
    return {"id": "c", "object": "chat.completion.chunk", "choices": [choice], **more}


def read(answer, limit=16):
    return read_said(answer if isinstance(answer, bytes) else json.dumps(answer).encode(), limit)


def with_logprobs(told):
    return {"choices": [{"index": 0, "delta": {"content": "a"}, "logprobs": told}]}


def test_a_chunk_tells_its_tokens_its_text_and_its_end():
    assert read(chunk(-0.5, -2, finish_reason="stop")) == Said((-0.5, -2.0), 0, has_text=True, finish_reason="stop")


def test_a_body_is_read_like_a_chunk():
    message = {"role": "assistant", "content": "Yes", "refusal": None}
    told = {"content": [token(-0.1), token(-0.2)]}
    body = {"choices": [{"index": 0, "message": message, "logprobs": told, "finish_reason": "length"}]}
    assert read(body) == Said((-0.1, -0.2), 0, has_text=True, finish_reason="length")


def test_no_more_than_asked_is_read():
    assert read(chunk(*[-0.1] * 50), limit=16).logprobs == (-0.1,) * 16


def test_a_refusal_has_log_probabilities_of_its_own():
    told = {"content": None, "refusal": [token(-0.25)]}
    refused = {"choices": [{"index": 0, "delta": {"refusal": "No"}, "logprobs": told}]}
    assert read(refused) == Said((-0.25,), 0, has_text=True)


def test_the_legacy_form_is_read_too():
    told = {"content": None, "tokens": ["a", "b"], "token_logprobs": [None, -1.5], "top_logprobs": None}
    assert read(with_logprobs(told)) == Said((-1.5,), 1, has_text=True)


@pytest.mark.parametrize(
    "delta",
    [{"reasoning_content": "hm"}, {"reasoning": "hm"}, {"tool_calls": [{"index": 0}]}, {"refusal": "no"}],
)
def test_whatever_a_model_writes_is_text(delta):
    assert read({"choices": [{"delta": delta}]}).has_text


@pytest.mark.parametrize("delta", [{}, {"content": ""}, {"content": None}, {"role": "assistant", "tool_calls": []}])
def test_nothing_is_no_text(delta):
    assert not read({"choices": [{"delta": delta}]}).has_text


UNREADABLE = {
    "null": None,
    "a text": "very sure",
    "a list": [],
    "a number": 3,
    "no content": {},
    "content null": {"content": None},
    "content a text": {"content": "sure"},
    "content an object": {"content": {"logprob": -1}},
}


@pytest.mark.parametrize("told", UNREADABLE.values(), ids=UNREADABLE)
def test_what_tells_no_tokens_is_passed_over(told):
    assert read(with_logprobs(told)) == Said(has_text=True)


BAD_TOKENS = {
    "a text": token("-0.5"),
    "null": token(None),
    "true": token(True),
    "certain beyond certainty": token(0.5),
    "missing": {"token": "a"},
    "a bare text": "a",
    "a list": [1],
}


@pytest.mark.parametrize("entry", BAD_TOKENS.values(), ids=BAD_TOKENS)
def test_a_token_without_a_log_probability_is_counted_as_unreadable(entry):
    assert read(with_logprobs({"content": [token(-1), entry, token(-2)]})) == Said((-1.0, -2.0), 1, has_text=True)


def test_numbers_that_json_has_none_for_are_unreadable_and_spoil_no_other():
    payload = json.dumps(chunk(-1.0, float("nan"), float("-inf"), float("inf"), -2.0, text='say "NaN"')).encode()
    assert read(payload) == Said((-1.0, -2.0), 3, has_text=True)


def test_extreme_numbers_are_taken_for_what_they_are():
    payload = msgspec.json.encode(chunk(-9999.0, 0.000001, -3.4028235e38)).replace(b"-9999.0", b"-9999.0")
    assert read(payload).logprobs == (-9999.0, 0.0, -3.4028235e38)
    assert read(payload.replace(b"-9999.0", b"-1e999")).unreadable_count == 1


@pytest.mark.parametrize(
    "payload",
    [b"", b"[DONE]", b"{", b"[]", b"\xff", b'{"choices":null}', b'{"choices":[]}', b'{"choices":7}', b"[" * 9000],
)
def test_what_is_no_chunk_says_nothing(payload):
    assert read(payload) == Said()


def event(answer):
    return b"data: " + json.dumps(answer, separators=(",", ":")).encode() + b"\n\n"


def test_an_event_loses_its_log_probabilities_and_nothing_else():
    said = chunk(-0.5, text='"logprobs":{"content":[] } and NaN', usage={"total_tokens": 3}, vendor={"x": [1, 2]})
    bare = json.loads(json.dumps(said))
    bare["choices"][0]["logprobs"] = None
    assert strip_event(event(said)) == event(bare)
    assert strip_event(event(bare)) == event(bare)


def test_spaces_comments_and_line_ends_stay_as_they_came():
    before = b': ping\r\nid: 7\r\ndata:  {"choices" : [ {"index":0, "delta":{"content":"a"}, "logprobs" : '
    after = b' , "finish_reason":null} ]}\r\n\r\n'
    told = b'{"content": [{"token": "a", "logprob": -0.5}]}'
    assert strip_event(before + told + after) == before + b"null" + after


def test_every_choice_is_stripped_and_the_same_value_elsewhere_is_not():
    told = {"content": [token(-0.5)]}
    choice = {"index": 0, "delta": {}, "logprobs": told}
    said = {"vendor": told, "choices": [choice, {**choice, "index": 1}]}
    bare = {"vendor": told, "choices": [{**choice, "logprobs": None}, {**choice, "index": 1, "logprobs": None}]}
    assert strip_event(event(said)) == event(bare)


@pytest.mark.parametrize("told", [{}, [], "", "text {}", 0, {"content": None}])
def test_odd_values_are_stripped_as_well(told):
    said = {"choices": [{"delta": {"content": "{} [] 0"}, "logprobs": told}]}
    assert strip_event(event(said)) == event({"choices": [{"delta": {"content": "{} [] 0"}, "logprobs": None}]})


def test_a_key_written_in_escapes_or_an_object_on_several_lines_is_written_anew():
    told = b'{"content":[{"logprob":-0.5}]}'
    escaped = (
        b'data: {"choices":[{"delta":{"content":"a"},"\\u006cogprobs":' + told + b'}],"x":"logprobs","logprobs":1}\n\n'
    )
    assert b"-0.5" not in strip_event(escaped)
    in_lines = b'data: {"choices":[{"delta":{"content":"a"},"logprobs":{"content":\ndata: [{"logprob":-0.5}]}}]}\n\n'
    assert strip_event(in_lines) == event({"choices": [{"delta": {"content": "a"}, "logprobs": None}]})


def test_no_numbers_that_are_none_reach_a_client_that_did_not_ask_for_any():
    said = event(chunk(float("nan"), text="NaN is not a number, says Infinity"))
    assert strip_event(said) == event(chunk(text="NaN is not a number, says Infinity"))


@pytest.mark.parametrize(
    "data", [b"data: [DONE]\n\n", b": ping\n\n", b'data: {"logprobs"\n\n', b'data: {"error":"logprobs"}\n\n', b""]
)
def test_what_has_no_choices_passes_as_it_came(data):
    assert strip_event(data) == data


def test_a_body_loses_its_log_probabilities_and_nothing_else():
    told = b'{"content": [{"logprob": -1}]}'
    body = b'{ "id": "x",\n "choices": [ {"logprobs": ' + told + b', "message": {"content": "\xc3\xa9"}}]}'
    assert strip_body(body) == body.replace(told, b"null")
    assert strip_body(b"no JSON") == b"no JSON"


@given(st.text(), st.lists(st.floats(max_value=0, allow_nan=False), max_size=5), st.booleans())
def test_a_stripped_event_is_the_event_without_them_whatever_the_text(text, logprobs, is_compact):
    said = chunk(*logprobs, text=text)
    separators = (",", ":") if is_compact else None
    data = b"data: " + json.dumps(said, separators=separators).encode() + b"\n\n"
    said["choices"][0]["logprobs"] = None
    assert strip_event(data) == b"data: " + json.dumps(said, separators=separators).encode() + b"\n\n"


@given(st.binary())
def test_no_bytes_raise(data):
    read_said(data, 16)
    strip_body(data)
    strip_event(b"data: " + data + b'"logprobs"')
