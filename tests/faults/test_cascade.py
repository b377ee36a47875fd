"""The cascade through a running gateway: what goes on, what is never seen, and what is paid for."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import Any

import openai
import pytest
import pytest_asyncio

from tests.faults.wire import Metrics, Response, Wire, ask, call, eventually, get, post, scrape
from tests.running import RunningGateway, two_models
from tests.upstream import (
    Answer,
    Behaviour,
    Error,
    Hang,
    Received,
    SplitBytes,
    Upstream,
    asked,
    event,
    send_beginning,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")

TOKENS, WAIT_S, AT_ONCE_S = 4, 0.6, 0.25
WEAK = "Weak words are plain and many and go on"
STRONG = Answer("The strong model knows.", prompt_tokens=9, completion_tokens=5)
SURE = Answer(WEAK, logprobs=[-0.1])
UNSURE = Answer(WEAK, logprobs=[-0.1, -0.1, -5.0, -0.1])
LATE_DOUBT = Answer(WEAK, logprobs=[-0.1] * TOKENS + [-5.0])
EITHER = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])


@dataclass
class Bench:
    """`auto` and its like judge the weak model's answers; the threshold sends every request to it first."""

    gateway: RunningGateway
    weak: Upstream
    strong: Upstream
    prompts: int = 0

    def body(self, model: str = "auto", **fields: Any) -> bytes:
        self.prompts += 1
        return ask(f"prompt {self.prompts}", model, **fields)

    async def call(self, body: bytes, **headers: str) -> Response:
        return await call(self.gateway.url, body, **headers)

    async def ask(self, model: str = "auto", **fields: Any) -> Response:
        return await self.call(self.body(model, **fields))

    async def metrics(self) -> Metrics:
        return await scrape(self.gateway.admin_url)

    async def sum(self, name: str, **labels: str) -> float:
        return (await self.metrics()).sum(name, **labels)

    async def fail_open(self) -> float:
        return await self.sum("postern_fail_open_total", stage="cascade")


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Bench]:
    async with Upstream() as weak, Upstream() as strong:
        config = two_models(weak.url, strong.url, cache={"exact": {}})
        config["models"]["small"] |= {"capabilities": ["tools", "json_schema", "logprobs", "n"], "local": True}
        config["models"]["house"] = config["models"]["large"] | {"local": True}
        for model in config["models"].values():
            model["timeouts"] = {"first_byte_s": 1, "between_chunks_s": 1.5, "total_s": 3}
        cascade = {"tokens": TOKENS, "quantile": 0, "min_confidence": 0.3, "wait_s": WAIT_S}
        policy = {"kind": "cascade", "threshold": 1.0, "cascade": cascade}
        config["routes"] = {
            "auto": {"models": ["small", "large"], "policy": policy},
            "backed": {"models": ["small", "large"], "policy": policy, "fallback": ["large", "small"]},
            "never": {"models": ["small", "large"], "policy": policy | {"cascade": cascade | {"escalate_share": 0}}},
            "always": {"models": ["small", "large"], "policy": policy | {"cascade": cascade | {"escalate_share": 1}}},
            "private": {
                "models": ["small", "large", "house"],
                "policy": policy | {"kind": ["private", "cascade"]},
                "fallback": ["large"],
            },
            "alone": {"models": ["small", "large"], "policy": policy | {"kind": ["private", "cascade"]}},
            "banded": {"models": ["small", "large"], "policy": policy | {"cascade": cascade | {"band": 0}}},
        }
        async with RunningGateway(config, tmp_path_factory.mktemp("gateway")) as gateway:
            yield Bench(gateway, weak, strong)


@pytest_asyncio.fixture(loop_scope="module")
async def bench(running: Bench) -> Bench:
    await eventually(lambda: running.weak.open_now == running.strong.open_now == 0)
    running.weak.script(SURE)
    running.strong.script(STRONG)
    for one in (running.weak, running.strong):
        one.requests.clear()
        one.cancelled.clear()
    return running


def unasked(answer: Answer) -> bytes:
    """What an upstream streams that was asked for no log probabilities."""
    return b"".join(answer.events(asked(stream=True)))


async def test_a_sure_stream_goes_on_as_if_nobody_had_asked(bench: Bench) -> None:
    answer = await bench.ask(stream=True)
    assert answer.body == unasked(SURE)
    assert (answer.headers["x-postern-model"], answer.headers["x-postern-reason"]) == ("small", "score")
    assert answer.headers["x-postern-attempts"] == "1"
    assert bench.weak.requests[0].json["logprobs"] is True
    assert bench.strong.requests == []


async def test_a_sure_body_goes_on_as_if_nobody_had_asked(bench: Bench) -> None:
    answer = await bench.ask()
    assert answer.body == SURE.body(asked())
    assert answer.headers["x-postern-model"] == "small"
    assert bench.strong.requests == []


@EITHER
async def test_an_unsure_answer_is_never_seen_and_the_stronger_model_answers(bench: Bench, stream: bool) -> None:
    bench.weak.script(replace(UNSURE, gap_s=0.05))
    answer = await bench.ask(stream=stream)
    assert answer.body == (unasked(STRONG) if stream else STRONG.body(asked()))
    told = answer.headers
    assert (told["x-postern-model"], told["x-postern-tier"]) == ("large", "strong")
    assert (told["x-postern-reason"], told["x-postern-attempts"]) == ("escalated", "2")
    assert "logprobs" not in bench.strong.requests[0].json
    if stream:
        await eventually(lambda: len(bench.weak.cancelled) == 1)


async def test_a_doubt_after_the_beginning_stops_nobody(bench: Bench) -> None:
    bench.weak.script(LATE_DOUBT)
    answer = await bench.ask(stream=True)
    assert answer.body == unasked(LATE_DOUBT)


async def test_the_beginning_is_held_back_and_the_rest_is_not(bench: Bench) -> None:
    bench.weak.script(replace(SURE, gap_s=0.12))
    async with await Wire.connect(bench.gateway.url) as wire:
        await wire.send(post(bench.body(stream=True)))
        await wire.head()
        begun_s = time.monotonic()
        assert b"and" not in await wire.until(b"plain"), "four words are held and come together"
        await wire.until(b"and")
        assert time.monotonic() - begun_s < 0.4, "the others come as they are made"
        assert (await wire.rest()).endswith(b"data: [DONE]\n\n")


@EITHER
async def test_both_calls_are_paid_for(bench: Bench, stream: bool) -> None:
    bench.weak.script(replace(UNSURE, gap_s=0.05 if stream else 0))
    before = await bench.metrics()
    fields = {"stream_options": {"include_usage": True}} if stream else {}
    answer = await bench.ask(stream=stream, **fields)
    after = await bench.metrics()
    weak_usd, strong_usd = (
        after.sum("postern_request_cost_usd_total", model=model)
        - before.sum("postern_request_cost_usd_total", model=model)
        for model in ("small", "large")
    )
    assert strong_usd == pytest.approx((9 * 10 + 5 * 20) / 1e6)
    # Not streamed, the weak server told 7 + 9 tokens; of the stream, 4 tokens came, and the prompt is estimated.
    if not stream:
        assert weak_usd == pytest.approx((7 * 1 + 9 * 2) / 1e6)
        assert float(answer.headers["x-postern-cost-usd"]) == pytest.approx(weak_usd + strong_usd, abs=1e-9)
    else:
        assert 4 * 2 / 1e6 < weak_usd < (4 * 2 + 50) / 1e6
        told = next(one["usage"] for one in answer.events if one != "[DONE]" and one.get("usage"))
        assert told["cost_usd"] == pytest.approx(weak_usd + strong_usd)
        assert told["prompt_tokens"] == 9, "usage is the answer's own, only the cost is of both"
    counted = after.sum("gen_ai_client_token_usage_count", gen_ai_response_model="small") - before.sum(
        "gen_ai_client_token_usage_count", gen_ai_response_model="small"
    )
    assert counted == 2, "input and output of the call that was given up"
    baseline = after.sum("postern_baseline_cost_usd_total") - before.sum("postern_baseline_cost_usd_total")
    assert baseline == pytest.approx(strong_usd)


async def test_confidence_is_measured_and_logged(bench: Bench) -> None:
    before = await bench.metrics()
    await bench.ask()
    bench.weak.script(UNSURE)
    await bench.ask()
    after = await bench.metrics()

    def seen(bound: str) -> float:
        labels = {"route": "auto", "le": bound}
        return after.sum("postern_cascade_confidence_bucket", **labels) - before.sum(
            "postern_cascade_confidence_bucket", **labels
        )

    assert (seen("0.05"), seen("0.9"), seen("0.95")) == (1, 1, 2)
    row = await bench.gateway.wait_for("request", reason="escalated", model="large", confidence=0.0067)
    assert row["given_up"] == "small"


async def test_what_the_client_asked_for_stays(bench: Bench) -> None:
    fields = {"logprobs": True, "top_logprobs": 2, "stream": True}
    answer = await bench.ask(**fields)
    assert answer.body == b"".join(SURE.events(asked(**fields)))
    assert b'"logprob":-0.1' in answer.body
    assert bench.weak.requests[0].json["top_logprobs"] == 2
    bench.weak.script(UNSURE)
    bench.strong.script(replace(STRONG, logprobs=[-0.2]))
    answer = await bench.ask(**fields)
    assert b'"logprob":-0.2' in answer.body, "the stronger model is asked for them as well"


UNJUDGED: dict[str, dict[str, Any]] = {
    "tools": {"tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}]},
    "a schema": {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {}}}},
    "json": {"response_format": {"type": "json_object"}},
    "a grammar": {"guided_regex": "[a-z]+"},
    "several choices": {"n": 2},
}


@pytest.mark.parametrize("wish", UNJUDGED)
async def test_what_tells_nothing_is_not_judged(bench: Bench, wish: str) -> None:
    bench.weak.script(UNSURE)
    answer = await bench.ask(**UNJUDGED[wish])
    assert answer.headers["x-postern-model"] == "small"
    assert "logprobs" not in bench.weak.requests[0].json


async def test_a_plain_text_format_is_judged(bench: Bench) -> None:
    bench.weak.script(UNSURE)
    assert (await bench.ask(response_format={"type": "text"})).headers["x-postern-reason"] == "escalated"


async def test_a_forced_tier_a_model_by_its_name_and_a_score_out_of_the_band_are_not_questioned(bench: Bench) -> None:
    bench.weak.script(UNSURE)
    forced = await bench.call(bench.body(), x_postern_tier="weak")
    assert (forced.headers["x-postern-reason"], forced.headers["x-postern-model"]) == ("forced", "small")
    assert (await bench.ask("small")).headers["x-postern-model"] == "small"
    assert (await bench.ask("banded")).headers["x-postern-model"] == "small"
    assert all("logprobs" not in request.json for request in bench.weak.requests)


async def test_a_share_of_escalations_is_held(bench: Bench) -> None:
    """Its ends can be told from one request; what lies between is told of the tracker."""
    assert (await bench.ask("always")).headers["x-postern-reason"] == "escalated"
    bench.weak.script(UNSURE)
    assert (await bench.ask("never")).headers["x-postern-reason"] == "score"


async def test_completions_are_not_judged(bench: Bench) -> None:
    body = json.dumps({"model": "auto", "prompt": "once upon"}).encode()
    async with await Wire.connect(bench.gateway.url) as wire:
        await wire.send(post(body, path="/v1/completions"))
        answer = await wire.response()
    assert answer.headers["x-postern-model"] == "small"
    assert "logprobs" not in bench.weak.requests[0].json


async def test_personal_data_are_never_escalated_to_a_model_that_is_not_local(bench: Bench) -> None:
    bench.weak.script(UNSURE)
    secret = {"messages": [{"role": "user", "content": "Pay it from DE89 3704 0044 0532 0130 00, please."}]}
    plain = await bench.ask("private")
    assert (plain.headers["x-postern-model"], plain.headers["x-postern-reason"]) == ("large", "escalated")
    kept = await bench.ask("private", **secret)
    assert (kept.headers["x-postern-model"], kept.headers["x-postern-reason"]) == ("house", "escalated")
    assert (await bench.ask("alone")).headers["x-postern-model"] == "large"
    assert (await bench.ask("alone", **secret)).headers["x-postern-model"] == "small", "there is nobody to ask"
    bench.strong.script(Error(503))
    assert (await bench.ask("private", temperature=0.5, **secret)).status == 502, "nor as a fallback"
    assert bench.strong.requests[-1].json["model"] == "house"


MALFORMED: dict[str, Any] = {
    "null": [None],
    "texts": ["-0.1"],
    "NaN": [float("nan")],
    "Infinity": [float("-inf")],
    "objects": [{}],
    "beyond certain": [3.5],
    "ignored": (),
}


@pytest.mark.parametrize("lie", MALFORMED)
async def test_what_can_not_be_judged_goes_on_and_is_counted(bench: Bench, lie: str) -> None:
    before = await bench.fail_open()
    answers = replace(SURE, logprobs=MALFORMED[lie], gap_s=0.05)
    bench.weak.script(answers)
    started_s = time.monotonic()
    async with await Wire.connect(bench.gateway.url) as wire:
        await wire.send(post(bench.body(stream=True)))
        await wire.head()
        assert time.monotonic() - started_s < WAIT_S / 2, "nobody waits for what won't come"
        assert await wire.rest() == unasked(answers)
    assert await bench.fail_open() == before + 1
    assert bench.strong.requests == []


@pytest.mark.parametrize("lie", ["null", "texts", "objects", "beyond certain", "ignored"])
async def test_a_body_that_can_not_be_judged_goes_on_and_is_counted(bench: Bench, lie: str) -> None:
    before = await bench.fail_open()
    answers = replace(SURE, logprobs=MALFORMED[lie])
    bench.weak.script(answers)
    assert (await bench.ask()).body == answers.body(asked())
    assert await bench.fail_open() == before + 1


async def test_a_token_outside_the_likeliest_is_a_doubt(bench: Bench) -> None:
    bench.weak.script(replace(SURE, logprobs=[-0.1, -9999.0]))
    assert (await bench.ask(stream=True)).headers["x-postern-reason"] == "escalated"


def missing_content() -> bytes:
    """A stream whose log probabilities lack their list."""
    choice = {"index": 0, "delta": {"content": "Yes"}, "logprobs": {"refusal": None}, "finish_reason": None}
    end = {"index": 0, "delta": {}, "logprobs": {}, "finish_reason": "stop"}
    return event({"choices": [choice]}) + event({"choices": [end]}) + b"data: [DONE]\n\n"


async def test_log_probabilities_without_content_are_stripped_too(bench: Bench) -> None:
    bench.weak.script(SplitBytes(missing_content(), [30] * 50))
    answer = await bench.ask(stream=True)
    assert answer.text == "Yes"
    assert [one["choices"][0]["logprobs"] for one in answer.events[:-1]] == [None, None]


NOT_ALLOWED = {"error": {"message": "You are not allowed to request logprobs from this model", "param": None}}


@pytest.mark.parametrize("refusal", [Error(400), Error(403, NOT_ALLOWED)], ids=["400", "403"])
async def test_a_server_that_refuses_log_probabilities_is_asked_without_them(bench: Bench, refusal: Error) -> None:
    before = await bench.fail_open()
    bench.weak.script(refusal, SURE)
    answer = await bench.ask(stream=True)
    assert (answer.text, answer.headers["x-postern-attempts"]) == (WEAK, "2")
    assert "logprobs" not in bench.weak.requests[1].json
    assert await bench.fail_open() == before + 1


async def test_a_fault_of_the_client_is_still_told(bench: Bench) -> None:
    bench.weak.script(Error(422))
    answer = await bench.ask()
    assert (answer.status, answer.code) == (422, "upstream_rejected")
    assert len(bench.weak.requests) == 2
    answer = await bench.ask(logprobs=True)
    assert (answer.status, len(bench.weak.requests)) == (422, 3)


async def test_a_client_whose_wish_for_log_probabilities_is_refused_gets_them_elsewhere(bench: Bench) -> None:
    bench.weak.script(Error(403, NOT_ALLOWED))
    answer = await bench.ask("backed", logprobs=True)
    assert (answer.text, answer.headers["x-postern-reason"]) == (STRONG.text, "fallback")
    bench.weak.script(Error(403))
    answer = await bench.ask("backed")
    assert (answer.headers["x-postern-reason"], answer.headers["x-postern-attempts"]) == ("fallback", "2")


SHORT = Answer("Yes.", logprobs=[-0.1], usage="always")


@pytest.mark.parametrize(("logprob", "model"), [(-0.1, "small"), (-3.0, "large")])
@EITHER
async def test_an_answer_shorter_than_the_beginning_is_judged_by_all_of_it(
    bench: Bench, logprob: float, model: str, stream: bool
) -> None:
    bench.weak.script(replace(SHORT, logprobs=[logprob]))
    answer = await bench.ask(stream=stream)
    assert (answer.text, answer.headers["x-postern-model"]) == ("Yes." if model == "small" else STRONG.text, model)


@EITHER
async def test_an_empty_answer_is_given_up(bench: Bench, stream: bool) -> None:
    bench.weak.script(Answer("", logprobs=[-0.1]))
    assert (await bench.ask(stream=stream)).headers["x-postern-reason"] == "escalated"


async def test_an_answer_that_a_filter_stopped_is_not_asked_for_elsewhere(bench: Bench) -> None:
    bench.weak.script(Answer("", finish_reason="content_filter"))
    assert (await bench.ask(stream=True)).headers["x-postern-model"] == "small"
    assert bench.strong.requests == []


@dataclass(frozen=True)
class Stall:
    """Say the first words, then nothing for a while, then the rest."""

    answer: Answer
    events: int
    pause_s: float

    async def __call__(self, request: Received, writer: asyncio.StreamWriter) -> None:
        await send_beginning(request, writer, self.events, self.answer)
        await asyncio.sleep(self.pause_s)
        for data in self.answer.events(request)[self.events :]:
            writer.write(b"%x\r\n%b\r\n" % (len(data), data))
        writer.write(b"0\r\n\r\n")
        await writer.drain()


@pytest.mark.parametrize(
    ("answer", "model"), [(SURE, "small"), (replace(SURE, logprobs=[-0.1, -5.0]), "large")], ids=["sure", "unsure"]
)
async def test_a_model_that_stalls_is_judged_by_what_it_said_in_time(bench: Bench, answer: Answer, model: str) -> None:
    bench.weak.script(Stall(answer, 3, 1.0))
    started_s = time.monotonic()
    async with await Wire.connect(bench.gateway.url) as wire:
        await wire.send(post(bench.body(stream=True)))
        _, headers = await wire.head()
        assert WAIT_S <= time.monotonic() - started_s < WAIT_S + AT_ONCE_S
        assert headers["x-postern-model"] == model
        assert await wire.rest() == unasked(answer if model == "small" else STRONG)


async def test_one_that_stalls_before_its_first_token_goes_on_unjudged(bench: Bench) -> None:
    before = await bench.fail_open()
    bench.weak.script(Stall(UNSURE, 1, 1.0))
    assert (await bench.ask(stream=True)).body == unasked(UNSURE)
    assert await bench.fail_open() == before + 1


@pytest.mark.parametrize("cached", [True, False], ids=["flight", "direct"])
async def test_a_client_that_leaves_while_tokens_are_held_stops_the_weak_model_and_pays(
    bench: Bench, cached: bool
) -> None:
    bench.weak.script(Stall(SURE, 3, 9.0))
    before = await bench.metrics()
    async with await Wire.connect(bench.gateway.url) as wire:
        headers = {} if cached else {"cache_control": "no-store"}
        await wire.send(post(bench.body(stream=True), **headers))
        await eventually(lambda: bench.weak.open_now == 1)
        await asyncio.sleep(0.1)
        left_s = wire.leave()
        await eventually(lambda: len(bench.weak.cancelled) == 1)
    assert bench.weak.cancelled[0] - left_s < AT_ONCE_S
    assert bench.strong.requests == []

    async def is_settled() -> bool:
        return await bench.sum("postern_cancelled_total", phase="upstream") > before.sum(
            "postern_cancelled_total", phase="upstream"
        )

    await eventually(is_settled)
    assert await bench.sum("postern_in_flight") == 0
    after = await bench.metrics()
    assert after.sum("postern_request_cost_usd_total") > before.sum("postern_request_cost_usd_total")


@pytest.mark.parametrize("cached", [True, False], ids=["flight", "direct"])
async def test_a_client_that_leaves_while_the_stronger_model_is_asked_stops_it_and_pays_for_the_weak_one(
    bench: Bench, cached: bool
) -> None:
    bench.weak.script(UNSURE)
    bench.strong.script(Hang())
    cost = await bench.sum("postern_request_cost_usd_total", model="small")
    async with await Wire.connect(bench.gateway.url) as wire:
        headers = {} if cached else {"cache_control": "no-store"}
        await wire.send(post(bench.body(stream=True), **headers))
        await eventually(lambda: bench.strong.open_now == 1)
        left_s = wire.leave()
        await eventually(lambda: len(bench.strong.cancelled) == 1)
    assert bench.strong.cancelled[0] - left_s < AT_ONCE_S

    async def is_paid() -> bool:
        return await bench.sum("postern_request_cost_usd_total", model="small") > cost

    await eventually(is_paid)


BEGINNING = b"".join(UNSURE.events(asked(stream=True, logprobs=True))[:3])


@dataclass(frozen=True)
class Lost:
    """Say the first words and hang up."""

    async def __call__(self, request: Received, writer: asyncio.StreamWriter) -> None:
        await send_beginning(request, writer, 3, UNSURE)
        writer.close()


BREAKS: dict[str, Behaviour] = {
    "an error in the stream": SplitBytes(BEGINNING + event({"error": {"message": "broke"}}), []),
    "a connection lost": Lost(),
    "an end too early": SplitBytes(BEGINNING, []),
}


@pytest.mark.parametrize("fault", BREAKS)
async def test_what_breaks_off_while_it_is_held_is_as_if_it_had_never_begun(bench: Bench, fault: str) -> None:
    bench.weak.script(BREAKS[fault])
    answer = await bench.ask("backed", stream=True)
    assert answer.body == unasked(STRONG)
    assert (answer.headers["x-postern-reason"], answer.headers["x-postern-attempts"]) == ("fallback", "2")
    # Without a fallback the error is told as itself: a status, as nothing has been sent.
    assert (await bench.ask(stream=True)).status == 502


async def test_a_weak_model_that_can_not_be_asked_gives_way_to_the_fallback(bench: Bench) -> None:
    bench.weak.script(Error(503))
    answer = await bench.ask("backed")
    assert (answer.text, answer.headers["x-postern-reason"]) == (STRONG.text, "fallback")
    assert (await bench.ask()).status == 502


@EITHER
async def test_when_the_stronger_model_fails_the_weak_one_is_asked_anew_only_as_a_fallback(
    bench: Bench, stream: bool
) -> None:
    bench.weak.script(UNSURE)
    bench.strong.script(Error(503))
    cost = await bench.sum("postern_request_cost_usd_total", model="small")
    failed = await bench.ask(stream=stream)
    assert (failed.status, failed.headers["x-postern-attempts"]) == (502, "2")
    assert await bench.sum("postern_request_cost_usd_total", model="small") > cost, "the weak call was made"
    answer = await bench.ask("backed", stream=stream)
    assert answer.body == (unasked(UNSURE) if stream else UNSURE.body(asked()))
    assert (answer.headers["x-postern-reason"], answer.headers["x-postern-attempts"]) == ("fallback", "3")
    assert "logprobs" not in bench.weak.requests[-1].json


async def test_all_calls_share_one_deadline(bench: Bench) -> None:
    bench.weak.script(replace(UNSURE, ttft_s=2.0))
    bench.strong.script(Hang())
    started_s = time.monotonic()
    answer = await bench.ask()
    assert (answer.code, len(bench.strong.requests)) == ("upstream_timeout", 1)
    assert 2.9 < time.monotonic() - started_s < 3.5


async def test_a_judged_answer_is_stored_and_serves_again(bench: Bench) -> None:
    body = bench.body()
    first, again = await bench.call(body), await bench.call(body)
    assert (first.headers["x-postern-cache"], again.headers["x-postern-cache"]) == ("miss", "hit")
    assert first.body == again.body
    assert b'"logprob"' not in again.body


@EITHER
async def test_an_escalated_answer_is_stored_as_the_strong_models(bench: Bench, stream: bool) -> None:
    bench.weak.script(UNSURE)
    body = bench.body(stream=stream)
    await bench.call(body)
    for headers in ({}, {"x_postern_tier": "strong"}):
        again = await bench.call(body, **headers)
        assert (again.headers["x-postern-cache"], again.headers["x-postern-model"]) == ("hit", "large")
    assert len(bench.weak.requests) == len(bench.strong.requests) == 1


async def test_an_answer_that_nobody_judged_does_not_serve_where_it_would_be(bench: Bench) -> None:
    bench.weak.script(UNSURE)
    body = bench.body()
    assert (await bench.call(body, x_postern_tier="weak")).headers["x-postern-model"] == "small"
    assert (await bench.call(body, x_postern_tier="weak")).headers["x-postern-cache"] == "hit"
    judged = await bench.call(body)
    assert (judged.headers["x-postern-cache"], judged.headers["x-postern-reason"]) == ("miss", "escalated")


@pytest.mark.parametrize(("weak", "text"), [(SURE, WEAK), (UNSURE, STRONG.text)], ids=["sure", "unsure"])
@EITHER
async def test_identical_requests_share_a_cascade_and_its_bill(
    bench: Bench, weak: Answer, text: str, stream: bool
) -> None:
    bench.weak.script(replace(weak, gap_s=0.05))
    before = await bench.metrics()
    body = bench.body(stream=stream)
    answers = await asyncio.gather(*(bench.call(body) for _ in range(4)))
    assert [answer.text for answer in answers] == [text] * 4
    assert len({answer.body for answer in answers}) == 1
    assert len(bench.weak.requests) == 1
    assert len(bench.strong.requests) == (weak is UNSURE)
    after = await bench.metrics()
    labels = {"gen_ai_response_model": "small", "gen_ai_token_type": "output"}
    counted = after.sum("postern_cascade_confidence_count") - before.sum("postern_cascade_confidence_count")
    assert counted == 1
    if weak is UNSURE:
        charged = after.sum("gen_ai_client_token_usage_count", **labels) - before.sum(
            "gen_ai_client_token_usage_count", **labels
        )
        assert charged == 1


async def test_a_forced_request_does_not_ride_on_a_cascade(bench: Bench) -> None:
    bench.weak.script(replace(UNSURE, gap_s=0.05))
    body = bench.body(stream=True)
    judged, forced = await asyncio.gather(bench.call(body), bench.call(body, x_postern_tier="weak"))
    assert (judged.headers["x-postern-model"], forced.headers["x-postern-model"]) == ("large", "small")
    assert forced.body == unasked(UNSURE)


async def test_explaining_names_the_model_that_would_be_asked(bench: Bench) -> None:
    async with await Wire.connect(bench.gateway.url) as wire:
        await wire.send(post(bench.body(), path="/v1/route"))
        told = (await wire.response()).json
    assert (told["model"], told["escalation"]) == ("small", "large")


@pytest.mark.parametrize("weak", [SURE, UNSURE], ids=["sure", "unsure"])
async def test_the_official_client_reads_the_result(bench: Bench, weak: Answer) -> None:
    bench.weak.script(weak)
    text = WEAK if weak is SURE else STRONG.text
    http = openai.DefaultAsyncHttpxClient(trust_env=False)
    async with openai.AsyncOpenAI(base_url=bench.gateway.url, api_key="x", max_retries=0, http_client=http) as client:
        bench.prompts += 1
        messages = [{"role": "user", "content": f"prompt {bench.prompts}"}]
        whole = await client.chat.completions.create(model="auto", messages=messages)
        assert (whole.choices[0].message.content, whole.choices[0].logprobs) == (text, None)
        stream = await client.chat.completions.create(model="auto", messages=messages, stream=True)
        chunks = [chunk async for chunk in stream]
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == text
    assert all(chunk.choices[0].logprobs is None for chunk in chunks)


async def test_nothing_failed_that_was_ours(bench: Bench) -> None:
    """Runs last: whatever the upstreams did, the gateway itself never broke."""
    assert not [row for row in bench.gateway.log if row["event"] in {"internal_error", "unreadable"}]
    assert await bench.sum("postern_in_flight") == 0
    assert (await get(bench.gateway.url, "/health/live")).status == 200
