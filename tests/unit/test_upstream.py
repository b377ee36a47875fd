"""The scripted upstream itself: what the other tests lean on."""

import asyncio
import base64
import gzip
import json
import time

import httpx2
import pytest

from tests.upstream import (
    Answer,
    Compressed,
    DropConnection,
    Error,
    ErrorInStream,
    Garbage,
    Hang,
    SilentEnd,
    SlowHeaders,
    SplitBytes,
    Upstream,
    WrongContentType,
    asked,
    refused_url,
)

CHAT = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
STREAM = CHAT | {"stream": True}
CALL = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}


@pytest.fixture
async def upstream():
    async with Upstream() as up:
        yield up


@pytest.fixture
async def client(upstream):
    async with httpx2.AsyncClient(base_url=upstream.url, timeout=5, trust_env=False) as http:
        yield http


def events_of(text: str) -> list:
    data = [part.removeprefix("data: ") for part in text.split("\n\n") if part]
    return [part if part == "[DONE]" else json.loads(part) for part in data]


async def until(claim) -> None:
    async with asyncio.timeout(2):
        while not claim():  # noqa: ASYNC110 - the upstream's counters are plain numbers, nothing sets an event
            await asyncio.sleep(0.001)


async def test_answers_whole_and_keeps_the_connection(upstream, client):
    for _ in range(3):
        answer = (await client.post("/chat/completions", json=CHAT)).json()
        assert answer["choices"][0]["message"]["content"] == "Hello from upstream."
        assert answer["usage"] == {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
    assert upstream.connections == 1
    assert upstream.open_now == 0
    assert upstream.cancelled == []
    assert [r.path for r in upstream.requests] == ["/v1/chat/completions"] * 3
    assert upstream.requests[0].json == CHAT


async def test_connection_close_is_honoured(upstream, client):
    for _ in range(2):
        answer = await client.post("/chat/completions", json=CHAT, headers={"connection": "close"})
        assert answer.headers["connection"] == "close"
    assert upstream.connections == 2


async def test_streams_as_openai_does(upstream, client):
    upstream.script(Answer("One two.", cached_tokens=4, extra={"system_fingerprint": "fp"}))
    asking = STREAM | {"stream_options": {"include_usage": True}}
    *chunks, usage, done = events_of((await client.post("/chat/completions", json=asking)).text)
    assert [c["choices"][0]["delta"] for c in chunks] == [
        {"role": "assistant", "content": ""},
        {"content": "One"},
        {"content": " two."},
        {},
    ]
    assert [c["choices"][0]["finish_reason"] for c in chunks] == [None, None, None, "stop"]
    assert chunks[0]["system_fingerprint"] == "fp"
    assert usage["choices"] == []
    assert usage["usage"]["prompt_tokens_details"] == {"cached_tokens": 4}
    assert done == "[DONE]"


@pytest.mark.parametrize(
    ("usage", "told"),
    [
        ("asked", [False] * 5),
        ("never", [False] * 5),
        ("always", [False] * 5 + [True]),
        ("with_choices", [False] * 4 + [True]),
        ("null_in_each", [None] * 5 + [True]),
    ],
)
async def test_usage_comes_in_every_shape(upstream, client, usage, told):
    upstream.script(Answer(usage=usage, done=False))
    chunks = events_of((await client.post("/chat/completions", json=STREAM)).text)
    assert [c["usage"] and True if "usage" in c else False for c in chunks] == told


async def test_tool_calls_stream_in_pieces(upstream, client):
    upstream.script(Answer("", tool_calls=[CALL]))
    *chunks, _ = events_of((await client.post("/chat/completions", json=STREAM)).text)
    pieces = [c["choices"][0]["delta"]["tool_calls"][0] for c in chunks[1:-1]]
    assert "".join(p["function"]["arguments"] for p in pieces) == '{"a": 1}'
    assert chunks[-1]["choices"][0]["finish_reason"] == "tool_calls"
    whole = (await client.post("/chat/completions", json=CHAT)).json()["choices"][0]
    assert whole["message"] == {"role": "assistant", "content": None, "refusal": None, "tool_calls": [CALL]}


async def test_answers_completions_embeddings_and_models(client):
    text = (await client.post("/completions", json={"prompt": "p"})).json()
    assert text["choices"][0]["text"] == "Hello from upstream."
    *chunks, _ = events_of((await client.post("/completions", json={"prompt": "p", "stream": True})).text)
    assert "".join(c["choices"][0]["text"] for c in chunks) == "Hello from upstream."
    data = (await client.post("/embeddings", json={"input": ["a", "b"]})).json()
    assert [d["embedding"][0] for d in data["data"]] == [0, 1]
    assert data["usage"] == {"prompt_tokens": 7, "total_tokens": 7}
    asking = {"input": [1, 2, 3], "encoding_format": "base64"}
    packed = (await client.post("/embeddings", json=asking)).json()
    assert [len(base64.b64decode(d["embedding"])) for d in packed["data"]] == [16]
    assert (await client.get("/models")).json()["data"][0]["id"] == "upstream-model"


async def test_the_script_goes_in_order_and_its_last_repeats(upstream, client):
    upstream.script(Error(429, headers={"retry-after": "3"}), Error(503, b"busy"), Answer("ok"))
    answers = [await client.post("/chat/completions", json=CHAT) for _ in range(4)]
    assert [a.status_code for a in answers] == [429, 503, 200, 200]
    assert answers[0].headers["retry-after"] == "3"
    assert answers[0].json()["error"]["message"] == "upstream says 429"
    assert answers[1].content == b"busy"


async def test_paces_a_stream(upstream, client):
    upstream.script(Answer("a b c", ttft_s=0.05, gap_s=0.05))
    began = time.monotonic()
    await client.post("/chat/completions", json=STREAM)
    assert 0.15 <= time.monotonic() - began < 1


@pytest.mark.parametrize(
    "behaviour", [Hang(), Hang(before="body"), Hang(after_chunks=2), Answer(ttft_s=60), Answer("a b", gap_s=60)]
)
@pytest.mark.parametrize("body", [CHAT, STREAM])
async def test_a_peer_that_leaves_is_recorded(upstream, client, behaviour, body):
    upstream.script(behaviour)
    asking = asyncio.create_task(client.post("/chat/completions", json=body))
    await until(lambda: upstream.open_now == 1)
    left_at = time.monotonic()
    asking.cancel()
    await until(lambda: upstream.open_now == 0)
    assert len(upstream.cancelled) == 1
    assert 0 <= upstream.cancelled[0] - left_at < 1


async def test_leaving_ends_a_hang_without_calling_it_cancelled():
    async with httpx2.AsyncClient(timeout=5, trust_env=False) as http:
        async with Upstream() as up:
            up.script(Hang())
            asking = asyncio.create_task(http.post(up.url + "/chat/completions", json=CHAT))
            await until(lambda: up.open_now == 1)
        with pytest.raises(httpx2.TransportError):
            await asking
    assert up.cancelled == []
    assert up.open_now == 0


@pytest.mark.parametrize(
    ("behaviour", "body"),
    [
        (DropConnection(before_headers=True), CHAT),
        (DropConnection(after_chunks=2), CHAT),
        (DropConnection(after_chunks=2), STREAM),
        (DropConnection(mid_event=True), STREAM),
        (DropConnection(mid_body=True), CHAT),
        (DropConnection(after_chunks=2, reset=True), STREAM),
    ],
)
async def test_a_dropped_connection_is_the_upstreams_doing(upstream, client, behaviour, body):
    upstream.script(behaviour)
    with pytest.raises(httpx2.TransportError):
        await client.post("/chat/completions", json=body)
    await until(lambda: upstream.open_now == 0)
    assert upstream.cancelled == []


async def test_half_an_event_is_written_before_the_drop(upstream):
    upstream.script(DropConnection(mid_event=True))
    reader, writer = await asyncio.open_connection("127.0.0.1", int(upstream.url.split(":")[2].split("/")[0]))
    body = json.dumps(STREAM).encode()
    pieces = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (body[:10], body[10:]))
    writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n" + pieces + b"0\r\n\r\n")
    raw = await reader.read()
    writer.close()
    await writer.wait_closed()
    assert upstream.requests[0].json == STREAM
    assert raw.count(b"data: ") == 2
    assert raw.count(b"}\n\n") == 1


async def test_a_silent_end_has_neither_reason_nor_done(upstream, client):
    upstream.script(SilentEnd(after_chunks=2))
    chunks = events_of((await client.post("/chat/completions", json=STREAM)).text)
    assert [c["choices"][0]["finish_reason"] for c in chunks] == [None, None]


@pytest.mark.parametrize("after", [0, 2])
async def test_an_error_comes_as_an_event(upstream, client, after):
    upstream.script(ErrorInStream(after_chunks=after))
    *before, last = events_of((await client.post("/chat/completions", json=STREAM)).text)
    assert len(before) == after
    assert last == {"error": {"message": "upstream broke", "type": "server_error"}}


async def test_wrong_bodies_come_with_status_200(upstream, client):
    upstream.script(Garbage(), WrongContentType())
    garbage = await client.post("/chat/completions", json=CHAT)
    assert garbage.headers["content-type"] == "application/json"
    with pytest.raises(ValueError):
        garbage.json()
    wrong = await client.post("/chat/completions", json=CHAT)
    assert wrong.headers["content-type"] == "text/html"
    assert wrong.json()["object"] == "chat.completion"


async def test_a_payload_arrives_cut_where_asked(upstream, client):
    payload = b"".join(Answer("naïve 日本").events(asked(stream=True)))
    for size in range(1, 40):
        upstream.script(SplitBytes(payload, [size, 1, 0, 2]))
        async with client.stream("POST", "/chat/completions", json=STREAM) as answer:
            pieces = [piece async for piece in answer.aiter_raw()]
        assert [len(p) for p in pieces] == [size, 1, 2, len(payload) - size - 3]
        assert b"".join(pieces) == payload


@pytest.mark.parametrize("body", [CHAT, STREAM])
@pytest.mark.parametrize("pieces", [1, 7])
async def test_slow_headers_arrive_in_the_end(upstream, client, body, pieces):
    upstream.script(SlowHeaders(0.07, pieces=pieces))
    began = time.monotonic()
    answer = await client.post("/chat/completions", json=body)
    assert time.monotonic() - began >= 0.07
    assert "upstream." in answer.text


@pytest.mark.parametrize("body", [CHAT, STREAM])
async def test_gzip_comes_unasked(upstream, client, body):
    upstream.script(Compressed())
    async with client.stream("POST", "/chat/completions", json=body, headers={"accept-encoding": "identity"}) as answer:
        raw = b"".join([piece async for piece in answer.aiter_raw()])
    assert answer.headers["content-encoding"] == "gzip"
    assert b"upstream." in gzip.decompress(raw)


async def test_a_script_at_fault_fails_its_test():
    up = Upstream()
    async with httpx2.AsyncClient(trust_env=False) as http:
        await up.__aenter__()
        up.script(SilentEnd(after_chunks=99))
        with pytest.raises(httpx2.TransportError):
            await http.post(up.url + "/chat/completions", json=STREAM)
        with pytest.raises(ValueError, match="the answer has"):
            await up.__aexit__(None, None, None)


async def test_nothing_listens_on_the_refused_url():
    async with httpx2.AsyncClient(trust_env=False) as http:
        with pytest.raises(httpx2.ConnectError):
            await http.get(refused_url() + "/models")
