"""The official Python client against a running gateway: what it can do against OpenAI, it can do here."""

import asyncio
import itertools
import json
import time

import openai
import pytest

from tests.upstream import Answer, DropConnection, Error, ErrorInStream, SilentEnd

pytestmark = pytest.mark.asyncio(loop_scope="module")

SECTIONS = {"cache": {"exact": {"ttl_s": 60}}}
MESSAGES = [{"role": "user", "content": "Say hello."}]
NO_CACHE = {"Cache-Control": "no-store"}
WEAK = {"x-postern-tier": "weak", **NO_CACHE}
STRONG = {"x-postern-tier": "strong", **NO_CACHE}
CALL = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Wien"}'}}
TOOL = {
    "type": "function",
    "function": {"name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}},
}
SCHEMA = {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "object"}, "strict": True}}
PRICED = Answer("one two three", prompt_tokens=1000, completion_tokens=500, cached_tokens=200)
# small: 800 fresh at 1.0, 200 cached at 0.5, 500 out at 2.0, per million.
PRICED_WEAK_USD = 0.0019
# large, which has no price for cached tokens: 1000 at 10.0 and 500 at 20.0.
PRICED_STRONG_USD = 0.02


async def chat(client, **given):
    return await client.chat.completions.create(**({"model": "auto", "messages": MESSAGES} | given))


async def stream(client, **given):
    return [chunk async for chunk in await chat(client, stream=True, **given)]


def text_of(chunks):
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


async def test_a_whole_answer_arrives_as_the_upstream_gave_it(house, client):
    house.weak.script(Answer("Servus, Welt! 👋", extra={"system_fingerprint": "fp", "vendor": {"x": 1}}))
    answer = await chat(client, extra_headers=WEAK)
    assert answer.choices[0].message.content == "Servus, Welt! 👋"
    assert answer.choices[0].finish_reason == "stop"
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (7, 3)
    assert answer.system_fingerprint == "fp"
    assert answer.model_extra == {"vendor": {"x": 1}}


async def test_a_streamed_answer_arrives_chunk_by_chunk(house, client):
    house.weak.script(Answer("one two three four", gap_s=0.05))
    answer = await chat(client, stream=True, extra_headers=WEAK)
    seen = [(chunk, time.monotonic()) async for chunk in answer]
    assert text_of([chunk for chunk, _ in seen]) == "one two three four"
    moments = [moment for chunk, moment in seen if chunk.choices and chunk.choices[0].delta.content]
    gaps_s = [after - before for before, after in itertools.pairwise(moments)]
    assert min(gaps_s) > 0.02, "chunks were held back and came together"


def ask_synchronously(url):
    http = openai.DefaultHttpxClient(trust_env=False)
    with openai.OpenAI(base_url=url, api_key="k", max_retries=0, http_client=http) as client:
        chunks = client.chat.completions.create(model="auto", messages=MESSAGES, stream=True, extra_headers=WEAK)
        return text_of(list(chunks))


async def test_the_synchronous_client_streams_too(house):
    assert await asyncio.to_thread(ask_synchronously, house.gateway.url) == "Hello from upstream."


async def test_raw_responses_carry_the_headers_of_the_contract(house, client):
    house.weak.script(PRICED)
    raw = await client.chat.completions.with_raw_response.create(
        model="auto",
        messages=MESSAGES,
        extra_headers={"x-request-id": "my-id-1", "x-postern-threshold": "1", "Cache-Control": "no-cache"},
    )
    headers = raw.headers
    assert headers["x-request-id"] == "my-id-1"
    assert headers["x-postern-route"] == "auto"
    assert headers["x-postern-model"] == "small"
    assert headers["x-postern-tier"] == "weak"
    assert 0 <= float(headers["x-postern-score"]) < 1
    assert headers["x-postern-threshold"] == "1"
    assert headers["x-postern-reason"] == "score"
    assert headers["x-postern-cache"] == "bypass"
    assert float(headers["x-postern-cost-usd"]) == PRICED_WEAK_USD
    assert headers["x-postern-attempts"] == "1"
    assert "upstream;dur=" in headers["server-timing"]
    assert raw.parse().choices[0].message.content == "one two three"


async def test_a_stream_tells_all_but_its_cost_in_headers(client):
    async with client.chat.completions.with_streaming_response.create(
        model="auto", messages=MESSAGES, stream=True, extra_headers=WEAK
    ) as raw:
        headers = raw.headers
        await raw.read()
    assert headers["content-type"] == "text/event-stream; charset=utf-8"
    assert {"x-request-id", "x-postern-model", "x-postern-tier", "x-postern-reason"} <= set(headers)
    assert {"x-postern-cache", "x-postern-attempts", "server-timing"} <= set(headers)
    assert "x-postern-cost-usd" not in headers


@pytest.mark.parametrize(("headers", "usd"), [(WEAK, PRICED_WEAK_USD), (STRONG, PRICED_STRONG_USD)])
async def test_usage_asked_for_ends_the_stream_with_its_exact_cost(house, client, headers, usd):
    house.weak.script(PRICED)
    house.strong.script(PRICED)
    chunks = await stream(client, stream_options={"include_usage": True}, extra_headers=headers)
    last = chunks[-1]
    assert last.choices == []
    assert (last.usage.prompt_tokens, last.usage.completion_tokens, last.usage.total_tokens) == (1000, 500, 1500)
    assert last.usage.prompt_tokens_details.cached_tokens == 200
    assert last.usage.cost_usd == pytest.approx(usd, rel=1e-12)
    assert [chunk for chunk in chunks[:-1] if chunk.usage] == []


@pytest.mark.parametrize("usage", ["asked", "always", "never", "with_choices", "null_in_each"])
async def test_usage_not_asked_for_is_nowhere_in_the_stream(house, usage):
    house.weak.script(Answer("one two three", usage=usage))
    body = {"model": "auto", "messages": MESSAGES, "stream": True}
    answer = await house.post(json=body, headers=WEAK)
    events = [line.removeprefix("data: ") for line in answer.text.splitlines() if line]
    assert events[-1] == "[DONE]"
    chunks = [json.loads(one) for one in events[:-1]]
    assert [chunk for chunk in chunks if "usage" in chunk or not chunk["choices"]] == []
    assert "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks) == "one two three"
    assert chunks[-1]["choices"][0]["finish_reason"] == "stop"


@pytest.mark.parametrize("usage", ["with_choices", "null_in_each", "always"])
async def test_usage_asked_for_comes_with_its_cost_wherever_the_upstream_puts_it(house, client, usage):
    house.weak.script(Answer("one two", prompt_tokens=10, usage=usage))
    chunks = await stream(client, stream_options={"include_usage": True}, extra_headers=WEAK)
    assert [chunk.usage.cost_usd for chunk in chunks if chunk.usage] == [pytest.approx(14e-6, rel=1e-12)]
    assert text_of(chunks) == "one two"


async def test_a_streams_cost_is_counted_though_nobody_asked_for_usage(house, client):
    for usage in ("asked", "with_choices"):
        house.weak.script(Answer("one two three", prompt_tokens=1000, completion_tokens=500, usage=usage))
        before = await house.samples()
        await stream(client, extra_headers=WEAK)
        after = await house.samples()
        name = 'postern_request_cost_usd_total{model="small",route="auto"}'
        assert after[name] - before.get(name, 0) == pytest.approx(0.002, abs=1e-12)
        name = 'postern_saved_usd_total{route="auto"}'
        assert after[name] - before.get(name, 0) == pytest.approx(0.018, abs=1e-12)


async def test_tool_calls_come_whole(house, client):
    house.weak.script(Answer("", tool_calls=[CALL]))
    answer = await chat(client, tools=[TOOL], tool_choice="auto", extra_headers=WEAK)
    assert answer.choices[0].finish_reason == "tool_calls"
    assert answer.choices[0].message.tool_calls[0].to_dict() == CALL
    assert house.weak.requests[0].json["tools"] == [TOOL]


async def test_tool_calls_come_in_pieces_through_a_stream(house, client):
    house.weak.script(Answer("", tool_calls=[CALL]))
    chunks = await stream(client, tools=[TOOL], extra_headers=WEAK)
    pieces = [one for chunk in chunks if chunk.choices for one in chunk.choices[0].delta.tool_calls or ()]
    assert len(pieces) == 3
    assert "".join(piece.function.arguments for piece in pieces) == CALL["function"]["arguments"]
    assert pieces[0].id == "call_1"
    assert chunks[-1].choices[0].finish_reason == "tool_calls"


NEEDS = {
    "json_schema": {"response_format": SCHEMA},
    "n": {"n": 2},
    "logprobs": {"logprobs": True, "top_logprobs": 3},
    "image": {
        "messages": [
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "What is this?"},
                    {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA", "detail": "low"}},
                ],
            }
        ]
    },
}


@pytest.mark.parametrize("need", NEEDS)
@pytest.mark.parametrize("tier", ["weak", None])
async def test_what_the_weak_model_lacks_goes_to_the_model_that_has_it(house, client, need, tier):
    headers = NO_CACHE | ({"x-postern-tier": tier} if tier else {"x-postern-threshold": "1"})
    raw = await client.chat.completions.with_raw_response.create(
        **({"model": "auto", "messages": MESSAGES} | NEEDS[need]), extra_headers=headers
    )
    assert raw.headers["x-postern-model"] == "large"
    assert raw.headers["x-postern-reason"] == "capability"
    assert house.weak.requests == []
    sent = house.strong.requests[0].json
    assert sent == {"messages": MESSAGES} | NEEDS[need] | {"model": "large"}


async def test_a_need_that_nobody_has_is_an_unsupported_parameter(client):
    with pytest.raises(openai.BadRequestError) as caught:
        await chat(client, modalities=["text", "audio"], audio={"voice": "alloy", "format": "wav"})
    assert (caught.value.code, caught.value.param) == ("unsupported_parameter", "modalities")


FULL_BODY = {
    "messages": [{"role": "system", "content": "Be brief."}, *MESSAGES],
    "temperature": 0.3,
    "top_p": 1,
    "seed": 7,
    "stop": ["\n", "END"],
    "logit_bias": {"50256": -100},
    "user": "someone",
    "metadata": {"a": "b"},
    "max_completion_tokens": 12,
    "presence_penalty": -0.5,
    "vendor_field": {"deep": [1, 2.5, None, True, "é"]},
    "top_k": 40,
}


@pytest.mark.parametrize("is_streaming", [False, True])
async def test_every_other_field_travels_on_untouched(house, client, is_streaming):
    known = {key: value for key, value in FULL_BODY.items() if key not in {"vendor_field", "top_k"}}
    unknown = {key: value for key, value in FULL_BODY.items() if key in {"vendor_field", "top_k"}}
    answer = await chat(client, **known, extra_body=unknown, stream=is_streaming, extra_headers=WEAK)
    if is_streaming:
        assert text_of([chunk async for chunk in answer]) == "Hello from upstream."
    sent = house.weak.requests[0].json
    streamed = {"stream": True, "stream_options": {"include_usage": True}} if is_streaming else {"stream": False}
    assert sent == FULL_BODY | {"model": "small"} | streamed


async def test_fields_travel_as_the_bytes_they_came_in(house):
    body = (
        b'{"model":"auto", "messages" : [{"role":"user","content":"\\u00e9\\ud83d\\ude00"}], '
        b'"big":123456789012345678901234567890,"float":1.0,"huge":1e400, "esc":"\\u0041\\/" }'
    )
    assert (await house.post(content=body, headers=WEAK)).status_code == 200
    sent = house.weak.requests[0].body
    for part in (b'"\\u00e9\\ud83d\\ude00"', b":123456789012345678901234567890", b":1.0", b":1e400", b'"\\u0041\\/"'):
        assert part in sent


async def test_other_stream_options_stay_when_usage_is_asked_of_the_upstream(house, client):
    await stream(client, stream_options={"include_obfuscation": False}, extra_headers=WEAK)
    assert house.weak.requests[0].json["stream_options"] == {"include_obfuscation": False, "include_usage": True}


async def test_clients_secrets_and_headers_of_ours_stay_here(house, client):
    await chat(client, extra_headers=WEAK | {"x-postern-session": "s1", "cookie": "a=b"})
    headers = house.weak.requests[0].headers
    assert "authorization" not in headers
    assert "cookie" not in headers
    assert [name for name in headers if name.startswith("x-postern")] == []


async def test_completions_work_whole_and_streamed(house, client):
    house.weak.script(Answer("one two", prompt_tokens=10))
    given = {"model": "auto", "prompt": "Once upon", "max_tokens": 5, "extra_headers": WEAK}
    whole = await client.completions.create(**given)
    assert whole.choices[0].text == "one two"
    chunks = [
        chunk
        async for chunk in await client.completions.create(**given, stream=True, stream_options={"include_usage": True})
    ]
    assert "".join(chunk.choices[0].text for chunk in chunks if chunk.choices) == "one two"
    assert chunks[-1].usage.cost_usd == pytest.approx(14e-6, rel=1e-12)
    assert [one.path for one in house.weak.requests] == ["/v1/completions"] * 2
    assert house.weak.requests[0].json == {"model": "small", "prompt": "Once upon", "max_tokens": 5}


@pytest.mark.parametrize("encoding", ["float", "base64"])
async def test_embeddings_come_from_the_model_that_makes_them(house, client, encoding):
    raw = await client.embeddings.with_raw_response.create(
        model="auto", input=["a", "b"], encoding_format=encoding, extra_headers=NO_CACHE
    )
    answer = json.loads(raw.text)
    assert raw.headers["x-postern-model"] == "large"
    assert len(answer["data"]) == 2
    assert isinstance(answer["data"][0]["embedding"], str if encoding == "base64" else list)
    assert float(raw.headers["x-postern-cost-usd"]) == 70e-6
    assert house.strong.requests[0].json == {"model": "large", "input": ["a", "b"], "encoding_format": encoding}


async def test_the_clients_own_base64_embeddings_are_decoded(client):
    answer = await client.embeddings.create(model="auto", input=["a", "b"])
    assert [one.embedding for one in answer.data] == [[0.0, 0.5, -0.25, 0.125], [1.0, 0.5, -0.25, 0.125]]


async def test_inputs_to_embed_are_not_added_up_against_the_window(house, client):
    inputs = ["word " * 600] * 200
    assert len((await client.embeddings.create(model="auto", input=inputs)).data) == 200


async def test_token_ids_count_as_tokens(house, client):
    assert len((await client.embeddings.create(model="auto", input=[[1, 2], [3]])).data) == 2
    raw = await client.completions.with_raw_response.create(
        model="auto", prompt=[list(range(600)), list(range(600))], extra_headers=WEAK
    )
    assert raw.headers["x-postern-model"] == "small"
    raw = await client.completions.with_raw_response.create(model="auto", prompt=list(range(1200)), extra_headers=WEAK)
    assert (raw.headers["x-postern-model"], raw.headers["x-postern-reason"]) == ("large", "context")


async def test_models_are_listed_and_found(client):
    assert sorted([model.id async for model in client.models.list()]) == ["auto", "large", "small"]
    model = await client.models.retrieve("small")
    assert (model.id, model.object, model.owned_by) == ("small", "model", "postern")
    with pytest.raises(openai.NotFoundError) as caught:
        await client.models.retrieve("nobody/knows")
    assert caught.value.code == "model_not_found"


async def test_a_model_named_directly_is_pinned(house, client):
    raw = await client.chat.completions.with_raw_response.create(
        model="large", messages=MESSAGES, extra_headers={"x-postern-tier": "weak", **NO_CACHE}
    )
    assert (raw.headers["x-postern-model"], raw.headers["x-postern-reason"]) == ("large", "pinned")
    assert "x-postern-score" not in raw.headers
    assert house.weak.requests == []


@pytest.mark.parametrize(("tier", "model"), [("weak", "small"), ("strong", "large"), ("STRONG", "large")])
async def test_the_tier_header_forces_an_end_of_the_ladder(client, tier, model):
    raw = await client.chat.completions.with_raw_response.create(
        model="auto", messages=MESSAGES, extra_headers={"x-postern-tier": tier, **NO_CACHE}
    )
    assert (raw.headers["x-postern-model"], raw.headers["x-postern-reason"]) == (model, "forced")


@pytest.mark.parametrize(("threshold", "model"), [("0", "large"), ("1", "small"), ("0.0", "large"), ("1.0", "small")])
async def test_the_threshold_header_moves_the_border(client, threshold, model):
    raw = await client.chat.completions.with_raw_response.create(
        model="auto", messages=MESSAGES, extra_headers={"x-postern-threshold": threshold, **NO_CACHE}
    )
    assert (raw.headers["x-postern-model"], raw.headers["x-postern-reason"]) == (model, "score")
    assert float(raw.headers["x-postern-threshold"]) == float(threshold)


async def test_the_window_of_the_weak_model_is_minded(client):
    raw = await client.chat.completions.with_raw_response.create(
        model="auto", messages=[{"role": "user", "content": "word " * 2000}], extra_headers=WEAK
    )
    assert (raw.headers["x-postern-model"], raw.headers["x-postern-reason"]) == ("large", "context")


UPSTREAM_ERRORS = [
    (Error(400), openai.BadRequestError, 400, "upstream_rejected"),
    (Error(422), openai.UnprocessableEntityError, 422, "upstream_rejected"),
    (Error(429, headers={"retry-after": "7"}), openai.RateLimitError, 429, "upstream_rate_limited"),
    (Error(500), openai.InternalServerError, 502, "upstream_error"),
    (Error(503), openai.InternalServerError, 502, "upstream_error"),
    (Error(401), openai.InternalServerError, 502, "upstream_error"),
    (DropConnection(before_headers=True), openai.InternalServerError, 502, "upstream_error"),
]


@pytest.mark.parametrize(("behaviour", "kind", "status", "code"), UPSTREAM_ERRORS)
@pytest.mark.parametrize("is_streaming", [False, True])
async def test_upstream_faults_become_the_clients_exceptions(
    house, client, behaviour, kind, status, code, is_streaming
):
    house.weak.script(behaviour)
    with pytest.raises(kind) as caught:
        await chat(client, model="small", stream=is_streaming, extra_headers=NO_CACHE)
    assert (caught.value.status_code, caught.value.code) == (status, code)
    assert caught.value.message
    if status == 429:
        assert caught.value.response.headers["retry-after"] == "7"


async def test_half_a_body_is_an_upstream_error(house, client):
    house.weak.script(DropConnection(mid_body=True))
    with pytest.raises(openai.InternalServerError) as caught:
        await chat(client, model="small", extra_headers=NO_CACHE)
    assert (caught.value.status_code, caught.value.code) == (502, "upstream_error")


async def test_an_unknown_model_is_not_found(client):
    with pytest.raises(openai.NotFoundError) as caught:
        await chat(client, model="gpt-99")
    assert (caught.value.code, caught.value.param) == ("model_not_found", "model")


async def test_a_failing_weak_model_falls_back_and_says_so(house, client):
    house.weak.script(Error(503))
    raw = await client.chat.completions.with_raw_response.create(model="auto", messages=MESSAGES, extra_headers=WEAK)
    assert raw.headers["x-postern-model"] == "large"
    assert raw.headers["x-postern-reason"] == "fallback"
    assert raw.headers["x-postern-attempts"] == "2"
    assert float(raw.headers["x-postern-cost-usd"]) == 130e-6


async def test_the_clients_retries_reach_an_upstream_that_comes_back(house):
    house.weak.script(Error(503), Error(503), Answer("back"))
    async with house.client(max_retries=2) as client:
        raw = await client.chat.completions.with_raw_response.create(
            model="small", messages=MESSAGES, extra_headers=NO_CACHE
        )
    assert json.loads(raw.text)["choices"][0]["message"]["content"] == "back"
    assert raw.retries_taken == 2
    assert raw.headers["x-postern-attempts"] == "1"
    assert len(house.weak.requests) == 3


DEATHS = {
    "drop": DropConnection(after_chunks=3),
    "reset": DropConnection(after_chunks=3, reset=True),
    "inside an event": DropConnection(after_chunks=3, mid_event=True),
    "silent end": SilentEnd(3),
    "error event": ErrorInStream(3),
}


@pytest.mark.parametrize("death", DEATHS)
async def test_a_death_in_the_middle_raises_and_is_never_a_short_answer(house, client, death):
    house.weak.script(DEATHS[death])
    heard = []
    with pytest.raises(openai.APIError) as caught:  # noqa: PT012 - what was heard before it raised counts
        async for chunk in await chat(client, stream=True, extra_headers=WEAK):
            heard.append(chunk)  # noqa: PERF401 - likewise
    assert caught.value.code in {"upstream_interrupted", "upstream_error"}
    assert len(text_of(heard).split()) <= 2
    assert house.strong.requests == [], "a second answer was begun after the first byte"


async def test_a_hit_replays_a_stream_as_a_stream_with_usage_if_asked(house, client):
    house.weak.script(Answer("one two three", prompt_tokens=10), Error(500))
    given = {"seed": 1, "extra_headers": {"x-postern-tier": "weak"}}
    for asked in (True, False):
        house.weak.script(Answer("one two three", prompt_tokens=10), Error(500))
        options = {"stream_options": {"include_usage": True}} if asked else {}
        first = await stream(client, **given, **options)
        raw = await client.chat.completions.with_raw_response.create(
            model="auto", messages=MESSAGES, stream=True, **given, **options
        )
        assert raw.headers["x-postern-cache"] == "hit"
        assert raw.headers["x-postern-reason"] == "cache"
        assert raw.headers["x-postern-attempts"] == "0"
        second = [chunk async for chunk in raw.parse()]
        assert text_of(second) == text_of(first) == "one two three"
        assert len(second) == len(first)
        assert [chunk.usage.cost_usd for chunk in second if chunk.usage] == ([0.0] if asked else [])
        assert [bool(chunk.usage) for chunk in second] == [False] * (len(second) - asked) + [True] * asked


async def test_a_whole_answer_is_hit_whole_and_costs_nothing(house, client):
    house.weak.script(Answer("kept"), Error(500))
    given = {"model": "auto", "messages": MESSAGES, "seed": 2, "extra_headers": {"x-postern-tier": "weak"}}
    first = await client.chat.completions.with_raw_response.create(**given)
    second = await client.chat.completions.with_raw_response.create(**given)
    assert (first.headers["x-postern-cache"], second.headers["x-postern-cache"]) == ("miss", "hit")
    assert first.text == second.text
    assert (float(first.headers["x-postern-cost-usd"]), float(second.headers["x-postern-cost-usd"])) == (9e-6, 0.0)
