"""Every way in which an upstream can fail: tried elsewhere before the first byte, told honestly after it."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest
import pytest_asyncio

from tests.faults.wire import Metrics, Response, ask, call, scrape
from tests.running import RunningGateway
from tests.upstream import (
    Answer,
    Behaviour,
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

pytestmark = pytest.mark.asyncio(loop_scope="module")

TEXT = "Hello from upstream."
OTHER = Answer("From the other replica.")
STRONG = Answer("From the large model.")
TIMEOUTS = {"first_byte_s": 0.3, "between_chunks_s": 0.4, "total_s": 1.5, "connect_s": 0.3}
SLOW_START = {"first_byte_s": 5.0, "between_chunks_s": 0.2, "total_s": 10.0}


@dataclass
class Bench:
    """`small` has two replicas, `a` and `b`; `large` is its fallback, with a larger window."""

    gateway: RunningGateway
    a: Upstream
    b: Upstream
    large: Upstream
    prompts: int = 0

    async def ask(self, model: str = "auto", **fields: Any) -> Response:
        self.prompts += 1
        return await call(self.gateway.url, ask(f"prompt {self.prompts}", model, **fields))

    async def metrics(self) -> Metrics:
        return await scrape(self.gateway.admin_url)

    async def counted(self, model: str, outcome: str) -> float:
        return (await self.metrics()).sum("postern_upstream_attempts_total", model=model, outcome=outcome)

    @property
    def asked(self) -> int:
        return sum(len(one.requests) for one in (self.a, self.b, self.large))

    def forget(self) -> None:
        for one in (self.a, self.b, self.large):
            one.requests.clear()


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Bench]:
    async with Upstream() as a, Upstream() as b, Upstream() as large:
        model = {"backend": "openai", "timeouts": TIMEOUTS}
        models = {
            "small": model | {"urls": [a.url, b.url], "context_tokens": 1000},
            "one": model | {"urls": [a.url]},
            "slow": {"backend": "openai", "timeouts": SLOW_START, "urls": [a.url]},
            "down": model | {"urls": [refused_url(), b.url]},
            "dead": model | {"urls": [refused_url()]},
            "large": model | {"urls": [large.url], "context_tokens": 100_000},
        }
        pinned = {
            name: {"models": [name, "large"], "policy": {"kind": "pinned", "model": name}, "fallback": ["large"]}
            for name in ("small", "dead")
        }
        bounded = pinned["small"] | {"max_attempts": 2}
        config = {
            "models": models,
            "routes": {"auto": pinned["small"], "doomed": pinned["dead"], "brave": bounded},
            "cache": {"exact": {}},
        }
        async with RunningGateway(config, tmp_path_factory.mktemp("gateway")) as gateway:
            yield Bench(gateway, a, b, large)


@pytest_asyncio.fixture(loop_scope="module")
async def bench(running: Bench) -> Bench:
    running.a.script(Answer())
    running.b.script(OTHER)
    running.large.script(STRONG)
    await asyncio.sleep(0)
    running.forget()
    return running


HANGING: dict[str, tuple[Behaviour, str]] = {
    "no headers": (Hang("headers"), "upstream_timeout"),
    "slow headers": (SlowHeaders(2.0, pieces=20), "upstream_timeout"),
    "no body": (Hang("body"), "upstream_timeout"),
}
FAILING: dict[str, tuple[Behaviour, str]] = {
    "status 500": (Error(500), "upstream_error"),
    "status 503": (Error(503), "upstream_error"),
    "status 429": (Error(429), "upstream_rate_limited"),
    "status 401": (Error(401), "upstream_error"),
    "status 403": (Error(403), "upstream_error"),
    "status 404": (Error(404), "upstream_error"),
    "status 302": (Error(302), "upstream_error"),
    "no answer": (DropConnection(before_headers=True), "upstream_error"),
    "reset": (DropConnection(before_headers=True, reset=True), "upstream_error"),
    "error first": (ErrorInStream(), "upstream_error"),
    "garbage": (Garbage(b"<html>It works!</html>\n\n"), "upstream_error"),
}
PING = b": ping\n\n"
ERROR_AFTER_PING = SplitBytes(PING + b'data: {"error":{"message":"broke"}}\n\n', [len(PING)], pause_s=0.05)
FAILING_STREAMS = FAILING | HANGING | {"error after a ping": (ERROR_AFTER_PING, "upstream_error")}
EITHER = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])


@pytest.mark.parametrize(
    ("lie", "stream"), [*((lie, False) for lie in FAILING), *((lie, True) for lie in FAILING_STREAMS)]
)
async def test_what_fails_before_its_first_byte_is_asked_of_the_other_replica(
    bench: Bench, lie: str, stream: bool
) -> None:
    behaviour, outcome = FAILING_STREAMS[lie]
    bench.a.script(behaviour)
    bench.b.script(behaviour)
    before = await bench.counted("small", outcome)
    answer = await bench.ask(stream=stream)
    # Both replicas fail, so whichever was asked first, the other was asked too, and then the fallback.
    assert (answer.status, answer.text) == (200, STRONG.text)
    assert answer.headers["x-postern-attempts"] == "3"
    assert (answer.headers["x-postern-model"], answer.headers["x-postern-reason"]) == ("large", "fallback")
    assert (len(bench.a.requests), len(bench.b.requests), len(bench.large.requests)) == (1, 1, 1)
    assert await bench.counted("small", outcome) == before + 2


@pytest.mark.parametrize("lie", HANGING)
async def test_a_whole_answer_that_never_comes_takes_its_total_time_once(bench: Bench, lie: str) -> None:
    """It has no first byte before its last, so a hung server can't be told from a slow one until the time is over."""
    behaviour, _ = HANGING[lie]
    bench.a.script(behaviour)
    bench.b.script(behaviour)
    began_s = asyncio.get_running_loop().time()
    answer = await bench.ask(stream=False)
    assert asyncio.get_running_loop().time() - began_s < 2 * TIMEOUTS["total_s"]
    assert (answer.status, answer.code, bench.asked) == (504, "upstream_timeout", 1)


async def test_a_first_token_later_than_a_pause_may_last_is_waited_for(bench: Bench) -> None:
    bench.a.script(Answer(ttft_s=0.6))
    answer = await bench.ask("slow", stream=True)
    assert (answer.status, answer.text) == (200, TEXT)


@EITHER
async def test_a_refused_connection_costs_one_attempt(bench: Bench, stream: bool) -> None:
    answers = [await bench.ask("down", stream=stream) for _ in range(3)]
    assert [answer.text for answer in answers] == [OTHER.text] * 3
    # A replica that failed is asked last for a while, so at most one of the three met it.
    assert sum(int(answer.headers["x-postern-attempts"]) for answer in answers) <= 4


@EITHER
async def test_a_model_without_a_server_falls_back(bench: Bench, stream: bool) -> None:
    before = await bench.counted("dead", "upstream_unavailable")
    answer = await bench.ask("doomed", stream=stream)
    assert (answer.text, answer.headers["x-postern-attempts"]) == (STRONG.text, "2")
    assert answer.headers["x-postern-reason"] == "fallback"
    assert await bench.counted("dead", "upstream_unavailable") == before + 1


async def test_attempts_are_bounded_and_the_fallback_keeps_one(bench: Bench) -> None:
    for one in (bench.a, bench.b, bench.large):
        one.script(Error(500))
    answer = await bench.ask("brave")
    assert (answer.status, answer.headers["x-postern-attempts"], bench.asked) == (502, "2", 2)
    assert len(bench.large.requests) == 1


async def test_retry_after_is_passed_on_when_all_are_over_their_limits(bench: Bench) -> None:
    for one in (bench.a, bench.b, bench.large):
        one.script(Error(429, headers={"retry-after": "17"}))
    answer = await bench.ask()
    assert (answer.status, answer.code, answer.headers["retry-after"]) == (429, "upstream_rate_limited", "17")


@pytest.mark.parametrize("status", [401, 403, 404])
async def test_a_fault_in_our_key_or_configuration_is_not_told_as_the_clients(bench: Bench, status: int) -> None:
    bench.a.script(Error(status, {"error": {"message": "Incorrect API key sk-secret", "code": "invalid_api_key"}}))
    answer = await bench.ask("one")
    assert (answer.status, answer.code) == (502, "upstream_error")
    assert b"sk-secret" not in answer.body


@EITHER
@pytest.mark.parametrize("status", [400, 413, 415, 422])
async def test_a_fault_of_the_request_is_told_at_once(bench: Bench, status: int, stream: bool) -> None:
    for one in (bench.a, bench.b):
        one.script(Error(status, {"error": {"message": "temperature is too hot", "param": "temperature"}}))
    answer = await bench.ask(stream=stream)
    assert (answer.status, answer.code, bench.asked) == (status, "upstream_rejected", 1)
    assert answer.json["error"]["message"] == "temperature is too hot"
    assert answer.json["error"]["param"] == "temperature"


@EITHER
async def test_a_window_too_small_leads_to_the_larger_model_not_to_a_loop(bench: Bench, stream: bool) -> None:
    """litellm#38844."""
    error = {
        "error": {"message": "This model's maximum context length is 10 tokens", "code": "context_length_exceeded"}
    }
    for one in (bench.a, bench.b):
        one.script(Error(400, error))
    answer = await bench.ask(stream=stream)
    assert (answer.status, answer.text) == (200, STRONG.text)
    assert len(bench.a.requests) + len(bench.b.requests) == 1


AFTER_THE_FIRST_BYTE: dict[str, tuple[Behaviour, str]] = {
    "dies": (DropConnection(after_chunks=3), "upstream_interrupted"),
    "is reset": (DropConnection(after_chunks=3, reset=True), "upstream_interrupted"),
    "dies in an event": (DropConnection(after_chunks=3, mid_event=True), "upstream_interrupted"),
    "ends in silence": (SilentEnd(after_chunks=3), "upstream_interrupted"),
    "reports an error": (ErrorInStream(after_chunks=3), "upstream_error"),
    "falls silent": (Hang(after_chunks=3), "upstream_timeout"),
    "takes too long": (Answer("One two" + " word" * 100, gap_s=0.05), "upstream_timeout"),
}


@pytest.mark.parametrize("lie", AFTER_THE_FIRST_BYTE)
async def test_what_fails_after_its_first_byte_ends_in_an_error_and_is_never_retried(bench: Bench, lie: str) -> None:
    """litellm#6957: a second answer must not be glued to half a first one."""
    behaviour, code = AFTER_THE_FIRST_BYTE[lie]
    bench.a.script(behaviour)
    bench.b.script(behaviour)
    body = ask(f"lie: {lie}", "auto", stream=True)
    answer = await call(bench.gateway.url, body)
    assert answer.status == 200
    *chunks, last = answer.events
    assert last["error"]["code"] == code
    assert all("error" not in one for one in chunks)
    assert b"[DONE]" not in answer.body
    assert answer.text.startswith("One two")
    assert answer.text.count("One") == 1
    assert bench.asked == 1
    # Nothing of it was kept: the same request goes to an upstream again.
    bench.a.script(Answer())
    bench.b.script(Answer())
    again = await call(bench.gateway.url, body)
    assert (again.headers["x-postern-cache"], again.text) == ("miss", TEXT)


async def test_a_body_shorter_than_it_says_is_no_answer(bench: Bench) -> None:
    bench.a.script(DropConnection(mid_body=True))
    bench.b.script(DropConnection(mid_body=True))
    answer = await bench.ask()
    assert (answer.text, answer.headers["x-postern-reason"]) == (STRONG.text, "fallback")


def done(text: str = TEXT) -> bytes:
    """A whole stream as bytes."""
    return b"".join(Answer(text).events(asked(stream=True)))


WHOLE: dict[str, Behaviour] = {
    "split at every byte": SplitBytes(done(), [1] * len(done())),
    "in one piece": SplitBytes(done(), []),
    "with CRLF": SplitBytes(done().replace(b"\n", b"\r\n"), [7] * 100),
    "without [DONE]": Answer(done=False),
    "in gzip": Compressed(),
    "as text/html": WrongContentType(),
    "with comments": SplitBytes(b": ping\n\n" + done().replace(b"data: {", b": ping\n\ndata: {"), [11] * 100),
}


@pytest.mark.parametrize("way", WHOLE)
async def test_a_whole_stream_is_passed_on_whole_however_it_comes(bench: Bench, way: str) -> None:
    bench.a.script(WHOLE[way])
    answer = await bench.ask("one", stream=True)
    assert answer.text == TEXT
    assert answer.body.rstrip().endswith(b"data: [DONE]")
    assert answer.body.count(b"[DONE]") == 1
    assert "content-encoding" not in answer.headers


@pytest.mark.parametrize("behaviour", [Compressed(), WrongContentType()], ids=["gzip", "text/html"])
async def test_a_whole_body_is_passed_on_under_its_own_type(bench: Bench, behaviour: Behaviour) -> None:
    bench.a.script(behaviour)
    answer = await bench.ask("one")
    assert (answer.text, answer.headers["content-type"]) == (Answer().text, "application/json")


@EITHER
async def test_connections_are_used_again(bench: Bench, stream: bool) -> None:
    before = bench.a.connections
    for _ in range(50):
        assert (await bench.ask("one", stream=stream)).status == 200
    assert bench.a.connections - before <= 2


async def test_nothing_failed_that_was_ours(bench: Bench) -> None:
    """Runs last: whatever the upstreams did, the gateway itself never broke."""
    assert not [row for row in bench.gateway.log if row["event"] in {"internal_error", "unreadable"}]
    assert (await bench.metrics()).sum("postern_in_flight") == 0
