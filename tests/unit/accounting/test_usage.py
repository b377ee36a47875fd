"""Token counts out of streams and bodies: read, hidden or priced; never trusted blindly."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.accounting.usage import MAX_TOKENS, UsageTap, usage_of_body, usage_of_spent
from gateway.core.context import Usage
from gateway.core.reply import Spent
from gateway.schema.sse import DONE, data_of, event_of, events_in
from tests.builders import body, chunk, usage_chunk

COUNTS = {"prompt_tokens": 10, "completion_tokens": 3, "total_tokens": 13}
COST_USD = 0.125
LIES = [
    {"prompt_tokens": -1, "completion_tokens": 3},
    {"prompt_tokens": 10, "completion_tokens": -3},
    {"prompt_tokens": MAX_TOKENS + 1, "completion_tokens": 3},
    {"prompt_tokens": 10, "completion_tokens": 10**30},
    {"prompt_tokens": "10", "completion_tokens": 3},
    {"prompt_tokens": 10.5, "completion_tokens": 3},
    {"prompt_tokens": None, "completion_tokens": 3},
    {"prompt_tokens": [], "completion_tokens": {}},
    {},
    [],
    "ten",
    True,
]


def tap(*, is_wanted: bool) -> UsageTap:
    return UsageTap(is_wanted=is_wanted, cost_of=lambda _: COST_USD)


def payloads(stream: bytes) -> list[dict]:
    return [json.loads(data) for event in events_in(stream) if (data := data_of(event)) not in {b"", b"[DONE]"}]


def test_usage_in_its_own_chunk_is_read_and_hidden_from_who_did_not_ask():
    one, stream = tap(is_wanted=False), chunk("Hi") + chunk(finish_reason="stop")
    assert one.pass_on(stream + usage_chunk(**COUNTS) + DONE) == stream + DONE
    assert one.usage == Usage(10, 3)


def test_usage_in_its_own_chunk_gets_its_cost_for_who_asked():
    one, stream = tap(is_wanted=True), chunk("Hi") + chunk(finish_reason="stop")
    told = one.pass_on(stream + usage_chunk(**COUNTS) + DONE)
    assert told.startswith(stream)
    assert told.endswith(DONE)
    assert payloads(told)[-1]["usage"] == {**COUNTS, "cost_usd": COST_USD}
    assert one.usage == Usage(10, 3)


def test_usage_in_a_chunk_with_choices_is_read_and_the_choices_stay():
    last = chunk("!", finish_reason="stop", usage=COUNTS)
    hidden, told = tap(is_wanted=False), tap(is_wanted=True)
    assert hidden.pass_on(last) == chunk("!", finish_reason="stop")
    assert payloads(told.pass_on(last)) == payloads(
        chunk("!", finish_reason="stop", usage={**COUNTS, "cost_usd": COST_USD})
    )
    assert hidden.usage == told.usage == Usage(10, 3)


def test_a_null_usage_in_each_chunk_passes_to_who_asked_and_is_hidden_from_who_did_not():
    stream = chunk("Hi", usage=None) + chunk(finish_reason="stop", usage=None)
    assert tap(is_wanted=True).pass_on(stream) == stream
    assert tap(is_wanted=False).pass_on(stream) == chunk("Hi") + chunk(finish_reason="stop")


def test_running_counts_leave_the_last_one_standing():
    one = tap(is_wanted=False)
    one.pass_on(chunk("a", usage={"prompt_tokens": 5, "completion_tokens": 1}))
    one.pass_on(chunk("b", usage={"prompt_tokens": 5, "completion_tokens": 2}))
    one.pass_on(chunk(finish_reason="stop", usage=None))
    assert one.usage == Usage(5, 2)


@pytest.mark.parametrize("is_wanted", [True, False])
@pytest.mark.parametrize(
    "text",
    ["usage", '"usage"', '{"usage":{"prompt_tokens":1}}', "data: [DONE]\n\n", 'data: {"usage": null}\n\n', "[DONE]"],
)
def test_a_text_that_looks_like_usage_or_done_is_not_touched(text, is_wanted):
    one = tap(is_wanted=is_wanted)
    nested = chunk(text, finish_reason="stop", service={"usage": {"prompt_tokens": 1, "completion_tokens": 1}})
    stream = chunk(text) + nested + DONE
    assert one.pass_on(stream) == stream
    assert one.usage is None


@pytest.mark.parametrize("is_wanted", [True, False])
def test_comments_and_what_is_no_json_pass_as_they_came(is_wanted):
    stream = b': "usage" \n\ndata: {"usage": \n\nevent: "usage"\n\ndata: ["usage"]\n\n'
    assert tap(is_wanted=is_wanted).pass_on(stream) == stream


@pytest.mark.parametrize("lie", LIES, ids=str)
def test_a_lie_is_not_counted_and_not_shown_to_who_did_not_ask(lie):
    one = tap(is_wanted=False)
    told = one.pass_on(chunk("Hi") + chunk(finish_reason="stop", usage=lie) + event_of({"choices": [], "usage": lie}))
    assert all("usage" not in payload for payload in payloads(told))
    assert one.usage is None
    assert one.usage_or_estimate(40) == Usage(40, 2, is_estimated=True)


@pytest.mark.parametrize("lie", LIES, ids=str)
def test_a_lie_told_to_who_asked_has_no_cost(lie):
    one, stream = tap(is_wanted=True), event_of({"choices": [], "usage": lie})
    assert one.pass_on(stream) == stream
    assert one.usage is None


@pytest.mark.parametrize(("cached", "believed"), [(4, 4), (11, 10), (-4, 0), (None, 0), (0, 0)])
def test_cached_tokens_are_at_most_the_prompts(cached, believed):
    one = tap(is_wanted=False)
    one.pass_on(usage_chunk(**COUNTS, prompt_tokens_details={"cached_tokens": cached}))
    assert one.usage == Usage(10, 3, believed)


def test_a_usage_spread_over_several_data_lines_stays_one_event():
    event = b'data: {"choices":\ndata: [{"finish_reason": "stop",\ndata: "index": 0}], "usage":\ndata: null}\n\n'
    told = tap(is_wanted=False).pass_on(event)
    assert list(events_in(told)) == [told]
    assert json.loads(data_of(told)) == {"choices": [{"finish_reason": "stop", "index": 0}]}


def test_an_estimate_counts_events_not_texts_that_speak_of_data():
    one = tap(is_wanted=False)
    one.pass_on(chunk("data: data: data:") + b": data:\n\n" + chunk("x"))
    assert one.usage_or_estimate(7) == Usage(7, 2, is_estimated=True)


@given(st.lists(st.sampled_from([chunk("é"), b": c\n\n", b"id: 1\ndata: x\n\n", b"\n", b"data: 1\r\n\r\n"])))
def test_a_stream_without_usage_passes_byte_by_byte(events):
    stream = b"".join(events)
    assert tap(is_wanted=False).pass_on(stream + chunk('"usage"')) == stream + chunk('"usage"')


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n"])
@pytest.mark.parametrize("is_wanted", [True, False])
@pytest.mark.parametrize("told", [[0], [3], [1, 3], [0, 1, 2, 3]])
def test_a_stream_in_one_block_passes_as_it_does_event_by_event(told, is_wanted, line_end):
    usages = [usage_chunk(**COUNTS), chunk("Hi", usage=COUNTS), chunk('"usage"'), usage_chunk(**COUNTS)]
    events = [event if place in told else chunk("a") for place, event in enumerate(usages)] + [DONE]
    events = [event.replace(b"\n", line_end) for event in events]
    whole, cut = tap(is_wanted=is_wanted), tap(is_wanted=is_wanted)
    assert whole.pass_on(b"".join(events)) == b"".join(cut.pass_on(event) for event in events)
    assert whole.usage == cut.usage == Usage(10, 3)


def test_a_body_tells_its_usage():
    told = {"prompt_tokens": 20, "completion_tokens": 4, "prompt_tokens_details": {"cached_tokens": 8}}
    assert usage_of_body(body(usage=told), 99) == Usage(20, 4, 8)
    assert usage_of_body(b'{"data":[],"usage":{"prompt_tokens":6,"total_tokens":6}}', 99) == Usage(6, 0)
    estimate = {"prompt_tokens": 6, "completion_tokens": 2, "is_estimated": True}
    assert usage_of_body(body(usage=estimate), 99) == Usage(6, 2, is_estimated=True)


@pytest.mark.parametrize("lie", [*LIES, None], ids=str)
def test_a_body_without_usage_to_trust_is_estimated_by_its_text(lie):
    assert usage_of_body(body(usage=lie), 99) == Usage(99, 2, is_estimated=True)  # Hello


CALLS = [{"id": "c", "function": {"name": "f", "arguments": "{}"}}]


@pytest.mark.parametrize(
    ("answer", "tokens"),
    [
        ({"choices": [{"text": "a" * 8}, {"text": "a" * 4}]}, 3),
        ({"choices": [{"message": {"content": "\n" * 8, "role": "assistant"}, "logprobs": {"x": "y" * 999}}]}, 2),
        ({"choices": [{"message": {"content": "証明", "reasoning_content": "abcd", "refusal": None}}]}, 3),
        ({"choices": [{"message": {"content": None, "tool_calls": CALLS}}]}, -(-len(json.dumps(CALLS)) // 4)),
        ({"choices": [{"message": None}]}, 0),
        ({"choices": []}, 0),
        ({"choices": None}, 0),
        ({"data": [{"embedding": [0.5] * 1000}]}, 0),
    ],
)
def test_an_estimate_counts_what_was_generated_and_nothing_around_it(answer, tokens):
    assert usage_of_body(json.dumps(answer, ensure_ascii=False).encode(), 7) == Usage(7, tokens, is_estimated=True)


def test_choices_in_no_known_shape_are_estimated_by_their_length():
    answer = b'{"choices":[{"message":"' + b"a" * 100 + b'"}]}'
    assert usage_of_body(answer, 7) == Usage(7, len(answer) // 4, is_estimated=True)


def test_the_end_of_a_stream_is_no_token():
    one = tap(is_wanted=False)
    one.pass_on(chunk("a") + chunk("b"))
    one.pass_on(chunk(finish_reason="stop") + DONE)
    assert one.usage_or_estimate(7) == Usage(7, 3, is_estimated=True)


@pytest.mark.parametrize(
    ("spent", "usage"),
    [
        (Spent("m", body(), is_streaming=False), Usage(10, 5)),
        (Spent("m", b'{"choices":[]}', is_streaming=False), Usage(7, 0, is_estimated=True)),
        (Spent("m", chunk("a") + chunk("b"), is_streaming=True, token_count=5), Usage(7, 5, is_estimated=True)),
        (Spent("m", chunk("a") + chunk("b"), is_streaming=True), Usage(7, 2, is_estimated=True)),
        (Spent("m", b"", is_streaming=True), Usage(7, 0, is_estimated=True)),
        (
            Spent(
                "m", chunk("a") + usage_chunk(prompt_tokens=9, completion_tokens=4), is_streaming=True, token_count=1
            ),
            Usage(9, 4),
        ),
    ],
)
def test_what_was_given_up_is_counted_as_it_was_told_or_by_what_came(spent, usage):
    assert usage_of_spent(spent, 7) == usage
