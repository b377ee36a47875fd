"""What a trace of a whole gateway holds, as a collector gets it, and its context, as upstreams get it."""

import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest
import pytest_asyncio

from tests.collector import WEAK, Client, Collector, Seen, config_of
from tests.faults.wire import Response, Wire, ask, call, eventually, post, scrape
from tests.running import RunningGateway
from tests.upstream import Answer, DropConnection, Error, ErrorInStream, Upstream

pytestmark = pytest.mark.asyncio(loop_scope="module")

ROOT = "POST /v1/chat/completions"
SECRETS = ("PROMPT-e7f1", "ANSWER-b0c4", "pk-KEY-93ad", "STATE-5d21", "USER-77aa", "MODEL-a411", "SESSION-16fe")


@dataclass
class Bench:
    """A gateway that traces, before a weak model with a replica that is not there, and a strong one."""

    gateway: RunningGateway
    collector: Collector
    weak: Upstream
    strong: Upstream
    prompts: int = 0

    async def ask(
        self, trace: "Client", model: str = "auto", headers: dict[str, str] = WEAK, **fields: Any
    ) -> Response:
        self.prompts += 1
        prompt = fields.pop("prompt", f"prompt {self.prompts}")
        return await call(self.gateway.url, ask(prompt, model, **fields), **headers, **trace.headers)


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def opened(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Bench]:
    async with Collector() as collector, Upstream() as weak, Upstream() as strong:
        folder = tmp_path_factory.mktemp("tracing")
        async with RunningGateway(config_of(collector, weak, strong), folder) as gateway:
            yield Bench(gateway, collector, weak, strong)


@pytest.fixture
def bench(opened: Bench) -> Bench:
    for upstream in (opened.weak, opened.strong):
        upstream.script(Answer())
        upstream.requests.clear()
    return opened


def is_within(inner: Seen, outer: Seen) -> bool:
    return outer.began_ns <= inner.began_ns <= inner.ended_ns <= outer.ended_ns


async def test_an_answer_is_a_trace_of_its_stages_below_the_clients_span(bench: Bench) -> None:
    client = Client()
    before_ns = time.time_ns()
    answer = await bench.ask(client, headers={"x-postern-threshold": "1"}, max_tokens=7)
    assert answer.status == 200
    spans = await bench.collector.trace(client.trace_id)
    root, upstream, attempt = spans[ROOT], spans["upstream"], spans["chat small-v1"]
    assert root.kind == "SERVER"
    assert root.parent_id == client.span_id
    assert root.flags & 0x300 == 0x300
    stages = ["auth", "receive", "limits", "cache", "classify", "choose", "upstream", "relay"]
    assert [span.name for span in bench.collector.of(client.trace_id)] == [ROOT, *stages, "chat small-v1"]
    assert all(spans[name].parent_id == root.span_id for name in stages)
    assert attempt.parent_id == upstream.span_id
    assert all(is_within(span, root) for span in spans.values())
    assert is_within(attempt, upstream)
    ends = [spans[name].ended_ns for name in stages]
    assert ends == sorted(ends)
    assert before_ns < root.began_ns < root.ended_ns < time.time_ns()
    assert not any(span.is_error for span in spans.values())
    assert {span.span_id for span in spans.values()} != {""}
    assert len({span.span_id for span in spans.values()}) == len(spans)


async def test_the_decision_is_on_the_requests_span_and_the_tokens_on_the_calls(bench: Bench) -> None:
    client = Client()
    bench.weak.script(Answer(cached_tokens=3))
    answer = await bench.ask(client, headers={"x-postern-threshold": "1", "x-request-id": "mine-1"})
    spans = await bench.collector.trace(client.trace_id)
    root, attempt = spans[ROOT].attributes, spans["chat small-v1"].attributes
    assert root == {
        "http.request.method": "POST",
        "http.route": "/v1/chat/completions",
        "url.path": "/v1/chat/completions",
        "url.scheme": "http",
        "http.response.status_code": 200,
        "postern.request_id": "mine-1",
        "postern.caller": "anonymous",
        "postern.streaming": False,
        "postern.route": "auto",
        "postern.model": "small",
        "postern.tier": "weak",
        "postern.reason": "score",
        "postern.cache": "miss",
        "postern.score": pytest.approx(float(answer.headers["x-postern-score"]), abs=1e-4),
        "postern.threshold": 1.0,
        "postern.attempts": 1,
        "postern.cost_usd": pytest.approx(float(answer.headers["x-postern-cost-usd"])),
        "postern.baseline_usd": root["postern.baseline_usd"],
    }
    assert attempt == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "small-v1",
        "gen_ai.request.stream": False,
        "gen_ai.response.model": "small-v1",
        "gen_ai.response.finish_reasons": ["stop"],
        "gen_ai.usage.input_tokens": 7,
        "gen_ai.usage.output_tokens": 3,
        "gen_ai.usage.cache_read.input_tokens": 3,
        "server.address": "127.0.0.1",
        "server.port": int(bench.weak.url.split(":")[2].split("/")[0]),
        "postern.model": "small",
    }
    assert spans["classify"].attributes["postern.router"] == "default"
    resource = spans[ROOT].resource
    assert resource["service.name"] == "postern"
    assert resource["service.instance.id"].endswith(f":{bench.gateway.process.pid}")
    sent = bench.collector.requests[-1]
    assert (sent.method, sent.path) == ("POST", "/v1/traces")
    assert (sent.headers["content-type"], sent.headers["x-key"]) == ("application/x-protobuf", "hush")


async def test_an_upstream_continues_the_trace_below_the_call(bench: Bench) -> None:
    client = Client(state="vendor=abc, other@x=1")
    await bench.ask(client)
    attempt = (await bench.collector.trace(client.trace_id))["chat small-v1"]
    sent = bench.weak.requests[-1].headers
    assert sent["traceparent"] == f"00-{client.trace_id}-{attempt.span_id}-01"
    assert sent["tracestate"] == "vendor=abc,other@x=1"
    assert "baggage" not in sent


async def test_the_log_names_the_trace(bench: Bench) -> None:
    client = Client()
    await bench.ask(client)
    assert await bench.gateway.wait_for("request", trace_id=client.trace_id)


async def test_a_stream_tells_when_its_first_token_came_and_how_it_ended(bench: Bench) -> None:
    client = Client()
    bench.weak.script(Answer("one two three", ttft_s=0.1, gap_s=0.1))
    await bench.ask(client, stream=True)
    spans = await bench.collector.trace(client.trace_id)
    root, attempt = spans[ROOT], spans["chat small-v1"]
    assert root.began_ns + 0.09e9 < root.events["first_token"] < root.ended_ns - 0.15e9
    assert root.attributes["postern.streaming"] is True
    assert 0.09 < attempt.attributes["gen_ai.response.time_to_first_chunk"] < 1
    assert attempt.attributes["gen_ai.response.finish_reasons"] == ["stop"]
    assert attempt.attributes["gen_ai.usage.output_tokens"] == 3
    assert attempt.ended_ns - attempt.began_ns > 0.25e9
    assert is_within(attempt, root)
    assert spans["relay"].ended_ns - spans["relay"].began_ns > 0.15e9


async def test_a_cached_answer_has_no_call(bench: Bench) -> None:
    first, second = Client(), Client()
    for client in (first, second):
        answer = await bench.ask(client, headers={"x-postern-threshold": "1"}, prompt="cached")
    assert answer.headers["x-postern-cache"] == "hit"
    spans = await bench.collector.trace(second.trace_id)
    assert spans[ROOT].attributes["postern.cache"] == "hit"
    assert spans[ROOT].attributes["postern.reason"] == "cache"
    assert {"upstream", "classify"}.isdisjoint(spans)
    assert not bench.collector.attempts(second.trace_id)


async def test_each_attempt_is_a_span_and_the_one_that_failed_says_why(bench: Bench) -> None:
    seen: list[list[Seen]] = []
    while not any(len(attempts) == 2 for attempts in seen):
        assert len(seen) < 4, "replicas take turns"
        client = Client()
        assert (await bench.ask(client, "pair-route")).status == 200
        await bench.collector.trace(client.trace_id)
        seen.append(bench.collector.attempts(client.trace_id))
    failed, served = seen[-1]
    assert failed.is_error
    assert failed.attributes["error.type"] == "upstream_unavailable"
    assert (failed.attributes["server.port"], "gen_ai.response.model" in failed.attributes) == (1, False)
    assert not served.is_error
    assert "error.type" not in served.attributes
    assert failed.ended_ns <= served.began_ns
    assert failed.span_id != served.span_id
    assert bench.strong.requests[-1].headers["traceparent"].split("-")[2] == served.span_id


async def test_a_fallback_is_an_attempt_at_another_model(bench: Bench) -> None:
    bench.weak.script(Error(500))
    client = Client()
    assert (await bench.ask(client)).headers["x-postern-reason"] == "fallback"
    root = (await bench.collector.trace(client.trace_id))[ROOT]
    attempts = bench.collector.attempts(client.trace_id)
    assert [span.attributes["postern.model"] for span in attempts] == ["small", "large"]
    assert [span.is_error for span in attempts] == [True, False]
    assert (root.attributes["postern.reason"], root.is_error) == ("fallback", False)


async def test_what_a_cascade_gave_up_is_a_call_with_its_tokens(bench: Bench) -> None:
    bench.weak.script(Answer("weak words that are plain", logprobs=[-5.0]))
    client = Client()
    assert (await bench.ask(client, "unsure", {"cache-control": "no-store"})).headers["x-postern-reason"] == "escalated"
    root = (await bench.collector.trace(client.trace_id))[ROOT]
    weak, strong = bench.collector.attempts(client.trace_id)
    assert weak.attributes["postern.given_up"] is True
    assert weak.attributes["gen_ai.usage.output_tokens"] == 5
    assert "postern.given_up" not in strong.attributes
    assert strong.attributes["gen_ai.usage.output_tokens"] == 3
    assert root.attributes["postern.confidence"] < 0.5
    assert root.attributes["postern.attempts"] == 2


async def test_every_model_failing_is_an_error(bench: Bench) -> None:
    bench.weak.script(Error(500))
    bench.strong.script(Error(500))
    client = Client()
    answer = await bench.ask(client)
    root = (spans := await bench.collector.trace(client.trace_id))[ROOT]
    assert root.is_error
    assert root.attributes["http.response.status_code"] == answer.status == 502
    assert root.attributes["error.type"] == answer.code
    assert is_within(spans["chat large"], spans["upstream"])


@pytest.mark.parametrize("behaviour", [ErrorInStream(3), DropConnection(after_chunks=3)], ids=["error", "hangs up"])
async def test_an_answer_that_breaks_off_is_the_calls_error(bench: Bench, behaviour: Any) -> None:
    bench.weak.script(behaviour)
    client = Client()
    await bench.ask(client, stream=True)
    root = (spans := await bench.collector.trace(client.trace_id))[ROOT]
    assert root.is_error
    assert root.attributes["http.response.status_code"] == 200
    attempt = spans["chat small-v1"]
    assert attempt.is_error
    assert attempt.attributes["error.type"] == root.attributes["error.type"] != "cancelled"


async def test_a_client_that_leaves_ends_its_spans_as_cancelled(bench: Bench) -> None:
    bench.weak.script(Answer("a b c d e f g h", gap_s=0.5))
    client = Client()
    headers = {**WEAK, **client.headers}
    async with await Wire.connect(bench.gateway.url) as wire:
        await wire.send(post(ask("leaving", "auto", stream=True), **headers))
        await wire.until(b"a") if (await wire.head())[0] == 200 else None
    spans = await bench.collector.trace(client.trace_id)
    assert spans[ROOT].attributes["error.type"] == "cancelled"
    assert spans["chat small-v1"].attributes["error.type"] == "cancelled"
    assert not any(span.is_error for span in spans.values())
    assert spans[ROOT].ended_ns - spans[ROOT].began_ns < 2e9


async def test_a_refused_request_is_a_trace_of_what_it_came_to(bench: Bench) -> None:
    client = Client()
    assert (await bench.ask(client, "no-such-model")).status == 404
    root = (spans := await bench.collector.trace(client.trace_id))[ROOT]
    assert set(spans) == {ROOT, "auth"}
    assert root.attributes["error.type"] == "model_not_found"
    assert root.attributes["http.response.status_code"] == 404
    assert not root.is_error


async def test_what_the_client_does_not_record_is_not_recorded_and_goes_on_as_it_came(bench: Bench) -> None:
    unsampled, after = Client(flags="00", state="v=1"), Client()
    await bench.ask(unsampled)
    assert bench.weak.requests[-1].headers["traceparent"] == unsampled.headers["traceparent"]
    assert bench.weak.requests[-1].headers["tracestate"] == "v=1"
    await bench.ask(after)
    await bench.collector.trace(after.trace_id)
    assert not bench.collector.of(unsampled.trace_id)


@pytest.mark.parametrize("given", ["garbage", f"00-{'0' * 32}-{'1' * 16}-01", f"ff-{'1' * 32}-{'1' * 16}-01"])
async def test_garbage_for_a_trace_begins_one_of_the_gateways_own(bench: Bench, given: str) -> None:
    headers = {**WEAK, "traceparent": given, "tracestate": "v=1"}
    answer = await call(bench.gateway.url, ask("garbage", "auto"), **headers)
    row = await bench.gateway.wait_for("request", request_id=answer.headers["x-request-id"])
    root = (await bench.collector.trace(row["trace_id"]))[ROOT]
    assert (root.parent_id, root.flags & 0x200) == ("", 0)
    sent = bench.weak.requests[-1].headers
    assert sent["traceparent"].split("-")[1] == row["trace_id"]
    assert "tracestate" not in sent


async def test_no_word_of_client_or_model_is_in_a_trace(bench: Bench) -> None:
    prompt, answer, key, state, user, model, session = SECRETS
    refusal = {"error": {"message": answer, "type": answer, "code": answer}}
    bench.weak.script(Answer(answer, model=answer, finish_reason=answer), Error(400, refusal))
    client = Client(state=f"v={state}")
    headers = {**WEAK, "authorization": f"Bearer {key}", "x-postern-session": session}
    tools = [{"type": "function", "function": {"name": prompt, "parameters": {}}}]
    for asked in ("auto", "auto", model):
        await bench.ask(client, asked, headers, prompt=prompt, user=user, tools=tools)
    await bench.collector.trace(client.trace_id, 3)
    ended = [span.attributes.get("gen_ai.response.finish_reasons") for span in bench.collector.of(client.trace_id)]
    assert ["other"] in ended
    exported = b"".join(request.body for request in bench.collector.requests)
    assert [word for word in SECRETS if word.encode() in exported] == []


async def test_spans_are_counted(bench: Bench) -> None:
    client = Client()
    await bench.ask(client)
    await bench.collector.trace(client.trace_id)

    async def is_counted() -> bool:
        metrics = await scrape(bench.gateway.admin_url)
        return metrics.sum("postern_spans_total", outcome="exported") == len(bench.collector.spans)

    await eventually(is_counted)
