"""Streams cut anywhere: only whole events come out, and not one byte is lost."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.backends.events import EventReader
from gateway.core.errors import UpstreamError, UpstreamFailureError, UpstreamInterruptedError
from gateway.schema.sse import DONE, EventCutter, data_of, event_of, events_in
from tests.builders import chunk, usage_chunk

OPENAI = (
    chunk("", role="assistant")
    + chunk("Hello", usage=None)
    + chunk(" world", usage=None)
    + chunk(finish_reason="stop", usage=None)
    + usage_chunk(prompt_tokens=7, completion_tokens=2, total_tokens=9)
    + DONE
)
VLLM = (
    b'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"role":"assistant",'
    b'"content":""},"logprobs":null,"finish_reason":null}],"usage":{"prompt_tokens":5,"completion_tokens":0}}\n\n'
    b'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":"Hi"},'
    b'"logprobs":null,"finish_reason":"stop","stop_reason":null}],"usage":{"prompt_tokens":5,"completion_tokens":1}}\n\n'
    b"data: [DONE]\n\n"
)
CRLF = OPENAI.replace(b"\n", b"\r\n")
MIXED = chunk("a").replace(b"\n\n", b"\n\r\n") + chunk(finish_reason="stop").replace(b"\n\n", b"\r\n\n") + DONE
HEARTBEATS = (
    b": OPENROUTER PROCESSING\n\n"
    + chunk("Hi")
    + b": ping\n\n: ping\n\n"
    + chunk(finish_reason="stop")
    + b": bye\n\n"
    + DONE
)
MULTI_LINE = (
    b'event: message\nid: 1\ndata: {"choices": [\ndata: {"index": 0, "delta": {"content": "Hi"},\n'
    b'data: "finish_reason": null}]}\n\n' + chunk(finish_reason="stop") + DONE
)
UNICODE = "".join(
    f"data: {json.dumps({'choices': [{'delta': {'content': text}}]}, ensure_ascii=False)}\n\n"
    for text in ("naïve é", "証明 ≥ €", "😀🏳️‍🌈 𝄞")  # 2, 3 and 4 bytes a character
).encode() + chunk(finish_reason="stop") + DONE  # fmt: skip
TIGHT = OPENAI.replace(b"data: ", b"data:")

GOLDEN = {
    "openai": OPENAI,
    "vllm": VLLM,
    "crlf": CRLF,
    "mixed line ends": MIXED,
    "heartbeats": HEARTBEATS,
    "multi-line data": MULTI_LINE,
    "unicode": UNICODE,
    "no space after the colon": TIGHT,
}
every_stream = pytest.mark.parametrize("stream", GOLDEN.values(), ids=GOLDEN)


def splits(stream: bytes) -> list[list[bytes]]:
    """Every way to cut a stream in two, and byte by byte."""
    halves = [[stream[:at], stream[at:]] for at in range(len(stream) + 1)]
    return [*halves, [bytes([byte]) for byte in stream]]


def cut(pieces: list[bytes]) -> tuple[list[bytes], int]:
    cutter = EventCutter()
    return [block for piece in pieces if (block := cutter.feed(piece))], cutter.rest_bytes


def is_whole(block: bytes) -> bool:
    return block.endswith((b"\n\n", b"\n\r\n")) and block.decode() != ""  # decodes: no character is cut


def drive(pieces: list[bytes]) -> list[bytes]:
    """Read a stream to its end."""
    reader, blocks = EventReader("m"), []
    for piece in pieces:
        blocks.append(reader.feed(piece))
        if reader.failure is not None:
            raise reader.failure
        if reader.is_done:
            break
    else:
        blocks.append(reader.end())
    return [block for block in blocks if block]


@every_stream
def test_no_byte_is_lost_and_no_event_cut_wherever_a_stream_is_split(stream):
    for pieces in splits(stream):
        blocks, rest_bytes = cut(pieces)
        assert b"".join(blocks) == stream
        assert rest_bytes == 0
        assert all(map(is_whole, blocks))


@every_stream
def test_an_upstreams_stream_reads_the_same_wherever_it_is_split(stream):
    whole = b"".join(drive([stream]))
    assert whole.endswith(DONE)
    for pieces in splits(stream):
        blocks = drive(pieces)
        assert b"".join(blocks) == whole
        assert all(map(is_whole, blocks))


@every_stream
def test_all_but_done_reaches_the_client_byte_by_byte_as_the_upstream_sent_it(stream):
    told = b"".join(drive([stream])).removesuffix(DONE)
    assert stream.startswith(told)
    assert stream[len(told) :].strip().replace(b" ", b"") == b"data:[DONE]"


def test_a_finished_stream_without_done_gets_one_wherever_it_is_split():
    stream = chunk("é") + chunk(finish_reason="stop")
    for pieces in splits(stream):
        assert b"".join(drive(pieces)) == stream + DONE


def test_an_unfinished_stream_without_done_is_an_error_wherever_it_is_split():
    stream = chunk("Hello") + chunk(" wor")
    for pieces in splits(stream):
        with pytest.raises(UpstreamInterruptedError):
            drive(pieces)


def test_a_stream_that_ends_inside_an_event_is_an_error_even_after_the_finish():
    stream = chunk("Hello") + chunk(finish_reason="stop") + b'data: {"usage'
    for pieces in splits(stream):
        with pytest.raises(UpstreamInterruptedError):
            drive(pieces)


@pytest.mark.parametrize("error", [b'{"error":{"message":"boom"}}', b'{"error":"boom"}', b'{"object":"error"}'])
def test_an_error_in_the_stream_is_raised_wherever_it_is_split(error):
    stream = chunk("Hello") + b"data: " + error + b"\n\n" + DONE
    for pieces in splits(stream):
        with pytest.raises(UpstreamError):
            drive(pieces)


def test_what_came_before_an_error_is_given_whatever_it_came_with():
    sound, error = chunk("Hello") + chunk(" wor"), b'data: {"error":{"message":"boom"}}\n\n'
    reader = EventReader("m")
    assert reader.feed(sound + error + chunk("ld") + DONE) == sound
    assert isinstance(reader.failure, UpstreamFailureError)


def test_content_that_speaks_of_errors_is_no_error():
    stream = chunk('"error"', error=None) + chunk('{"error": {"message": "x"}}') + chunk("error", finish_reason="stop")
    assert b"".join(drive([stream + DONE])) == stream + DONE


def test_done_inside_a_text_ends_nothing():
    stream = chunk("data: [DONE]\n\n") + chunk("\ndata: [DONE]") + chunk("more") + chunk(finish_reason="stop")
    for pieces in splits(stream + DONE):
        assert b"".join(drive(pieces)) == stream + DONE


def test_what_follows_done_is_left_out():
    stream = chunk(finish_reason="stop") + DONE
    for late in (chunk("late"), b'data: {"error":{"message":"boom"}}\n\n', b"<html>\n\n"):
        assert b"".join(drive([stream + late])) == stream


def test_a_page_in_place_of_events_is_an_error():
    with pytest.raises(UpstreamFailureError):
        drive([b"<html>\n\n<body>It works!</body>\n\n"])


def test_an_event_without_an_end_is_given_up(monkeypatch):
    monkeypatch.setattr("gateway.backends.events.MAX_EVENT_BYTES", 100)
    with pytest.raises(UpstreamFailureError, match="without an end"):
        drive([b"data: " + b"x" * 60, b"x" * 60])


@given(st.data(), st.sampled_from(sorted(GOLDEN)))
def test_no_chunking_whatsoever_changes_a_stream(data, name):
    stream = GOLDEN[name]
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=40)))
    pieces = [stream[start:end] for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    blocks, rest_bytes = cut(pieces)
    assert b"".join(blocks) == stream
    assert rest_bytes == 0
    assert b"".join(drive(pieces)) == b"".join(drive([stream]))


@given(st.lists(st.sampled_from([b"\n", b"\r\n", b"data: x", b"\n\n", b": c", b"id: 1", "é".encode()]), max_size=30))
def test_the_events_of_any_block_add_up_to_it(parts):
    whole = b"".join(parts)
    block = EventCutter().feed(whole)
    events = list(events_in(block))
    assert b"".join(events) == block
    assert whole.startswith(block)


@every_stream
def test_every_event_of_a_golden_stream_stands_alone(stream):
    events = list(events_in(stream))
    assert b"".join(events) == stream
    for event in events:
        payload = data_of(event)
        assert payload in {b"", b"[DONE]"} or isinstance(json.loads(payload), dict)


def test_data_lines_of_one_event_are_joined_by_newlines():
    assert data_of(b"event: x\ndata: one\ndata:two\ndata:  three\n\n") == b"one\ntwo\n three"
    assert data_of(b": nothing\n\n") == b""


def test_the_cutter_counts_what_it_holds_back_but_not_blank_lines():
    cutter = EventCutter()
    assert cutter.feed(b"data: x\n\n\n") == b"data: x\n\n\n"
    assert cutter.feed(b"\r\n") == b""
    assert cutter.rest_bytes == 0
    assert cutter.feed(b"data") == b""
    assert cutter.rest_bytes == 4


@given(st.dictionaries(st.text(), st.text()))
def test_any_payload_makes_exactly_one_event_and_is_read_back(payload):
    event = event_of(payload)
    assert list(events_in(event)) == [event]
    assert json.loads(data_of(event)) == payload
