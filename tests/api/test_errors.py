"""Every error that a client can see, provoked once: status, OpenAI's shape, when to come back, how it is counted."""

import asyncio
import json
import re
import shutil
import signal
import tempfile
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
import litestar
import pytest
from litestar.exceptions import ClientException

from gateway.api.cold import make_app
from gateway.api.courtesies import with_courtesies
from gateway.api.live import Live
from gateway.app import Factory
from gateway.auth.keys import hash_key
from gateway.core import errors
from gateway.core.errors import PosternError
from gateway.settings.simulated import simulated_settings
from gateway.telemetry.metrics import Metrics, render
from tests.api.conftest import House
from tests.running import RunningGateway, two_models
from tests.serving import served
from tests.tiny_model import SLOW, tiny_folder
from tests.upstream import Answer, DropConnection, Error, Hang, refused_url

pytestmark = pytest.mark.asyncio(loop_scope="module")

BOUNDED = "key-bounded"
SECTIONS = {
    "server": {"body_timeout_s": 0.3},
    "keys": {"clients": {"bounded": {"sha256": hash_key(BOUNDED), "threshold_min": 0.2, "threshold_max": 0.4}}},
    "limits": {"max_body_bytes": 1_000_000},
}
CHAT = {"model": "small", "messages": [{"role": "user", "content": "Say hello."}]}
LONG = {"stream": True, "temperature": 0, "min_tokens": 900, "max_tokens": 900}
TOO_LONG = Error(400, {"error": {"message": "maximum context length is 8 tokens", "code": "context_length_exceeded"}})
TOO_LONG_CHAT = CHAT | {"messages": [{"role": "user", "content": "word " * 10_000}]}
TOO_FREE = {"Authorization": f"Bearer {BOUNDED}", "x-postern-threshold": "0.5"}


@dataclass
class Told:
    """What a client was told, and how often /metrics says so."""

    status: int
    headers: Any
    error: dict[str, Any]
    count: float


@dataclass(frozen=True)
class Row:
    """How to provoke an error, and what it must look like. `count` 0: no request for a model, so none is counted."""

    kind: type[PosternError]
    status: int
    type: str
    code: str
    provoke: Callable[[House], Awaitable[Told]]
    param: str | None = None
    retry_after: str | None = None
    count: float = 1


def told(response: httpx2.Response, count: float) -> Told:
    body = response.json()
    assert set(body) == {"error"}
    assert response.headers["content-type"] == "application/json"
    return Told(response.status_code, response.headers, body["error"], count)


async def counted(house: House) -> dict[str, float]:
    """How often each status is counted in postern_requests_total."""
    statuses: dict[str, float] = {}
    for name, value in (await house.samples()).items():
        if name.startswith("postern_requests_total{") and (status := re.search('status="(.*?)"', name)):
            statuses[status[1]] = statuses.get(status[1], 0) + value
    return statuses


async def measure(house: House, asking: Awaitable[httpx2.Response]) -> Told:
    before = await counted(house)
    response = await asking
    after = await counted(house)
    code = response.json()["error"]["code"]
    return told(response, after.get(code, 0) - before.get(code, 0))


async def until(claim) -> None:
    async with asyncio.timeout(5):
        while not claim():  # noqa: ASYNC110 - the upstream's counters are plain numbers, nothing sets an event
            await asyncio.sleep(0.005)


@asynccontextmanager
async def another(house: House, small=None, **sections):
    """Another gateway over the same upstreams, with other settings."""
    config = two_models(house.weak.url, house.strong.url, **sections)
    config["models"]["small"] |= small or {}
    with tempfile.TemporaryDirectory() as folder:
        async with RunningGateway(config, Path(folder)) as gateway:
            yield House(gateway, house.weak, house.strong, house.http)


def posting(path="/v1/chat/completions", script=None, **arguments):
    async def provoke(house: House) -> Told:
        house.weak.script(script or Answer())
        return await measure(house, house.post(path, **arguments))

    return provoke


def asking(method, path):
    async def provoke(house: House) -> Told:
        return await measure(house, house.http.request(method, house.gateway.root + path))

    return provoke


async def send_half_a_body(house: House) -> Told:
    async def half():
        yield b'{"model":'
        await asyncio.sleep(0.8)

    return await measure(house, house.post(content=half()))


async def break_off_in_the_middle(house: House) -> Told:
    house.weak.script(DropConnection(after_chunks=3))
    before = await counted(house)
    response = await house.post(json=CHAT | {"stream": True})
    events = [part.removeprefix("data: ") for part in response.text.split("\n\n") if part]
    assert response.status_code == 200, "the stream had begun"
    assert "[DONE]" not in events
    after = await counted(house)
    count = after["upstream_interrupted"] - before.get("upstream_interrupted", 0)
    return Told(502, response.headers, json.loads(events[-1])["error"], count)


async def call_a_server_that_is_away(house: House) -> Told:
    async with another(house, small={"urls": [refused_url()]}) as other:
        return await measure(other, other.post(json=CHAT))


async def ask_what_no_local_model_can_do(house: House) -> Told:
    routes = {"auto": {"models": ["small", "large"], "policy": {"kind": "private"}}}
    asked = {"model": "auto", "n": 2, "messages": [{"role": "user", "content": "Write to jane.doe@example.org."}]}
    async with another(house, small={"local": True}, routes=routes) as other:
        return await measure(other, other.post(json=asked))


async def mark_while_redis_is_away(house: House) -> Told:
    async with another(house, redis={"url": f"redis://{urlsplit(refused_url()).netloc}/0"}) as other:
        return await measure(other, other.post("/v1/feedback", json={"request_id": "req-1", "good": True}))


async def wait_too_long(house: House) -> Told:
    house.weak.script(Hang())
    async with another(house, small={"timeouts": {"total_s": 0.2}}) as other:
        return await measure(other, other.post(json=CHAT))


async def lack_a_key(house: House) -> Told:
    async with another(house, keys={"required": True} | SECTIONS["keys"]) as other:
        return await measure(other, other.post(json=CHAT))


async def come_when_all_places_are_taken(house: House) -> Told:
    house.weak.script(Hang())
    async with another(house, limits={"max_in_flight": 1}) as other:
        first = asyncio.create_task(other.post(json=CHAT))
        try:
            await until(lambda: house.weak.open_now == 1)
            answer = await measure(other, other.post(json=CHAT))
            assert (await other.samples())['postern_shed_total{reason="overloaded"}'] == 1
            return answer
        finally:
            first.cancel()
            await asyncio.wait({first})


def in_process(folder: Path, **onnx: int) -> dict[str, Any]:
    """The small model, run by the gateway itself."""
    settings = {"path": str(folder), "threads": 1, **onnx}
    return {"backend": "onnx", "urls": [], "capabilities": [], "onnx": settings}


async def come_when_a_models_queue_is_full(house: House) -> Told:
    full = in_process(tiny_folder(work=SLOW), max_batch=1, max_waiting=0)
    async with AsyncExitStack() as stack:
        other = await stack.enter_async_context(another(house, full))
        url = other.gateway.root + "/v1/chat/completions"
        held = await stack.enter_async_context(other.http.stream("POST", url, json=CHAT | LONG))
        blocks = held.aiter_bytes()  # kept: it ends the response with itself
        assert await anext(blocks)
        return await measure(other, other.post(json=CHAT))


async def ask_a_model_that_cannot_be_run(house: House) -> Told:
    with tempfile.TemporaryDirectory() as folder:
        broken = Path(shutil.copytree(tiny_folder(), Path(folder) / "model"))
        (broken / "model.onnx").write_bytes(b"no model")
        async with another(house, in_process(broken)) as other:
            return await measure(other, other.post(json=CHAT))


async def come_while_it_drains(house: House) -> Told:
    """Send a request whose head had come before the gateway was told to stop."""
    async with another(house) as other:
        await other.get("/health/live")  # it binds its sockets and says so before it handles signals
        has_begun = asyncio.Event()

        async def body():
            yield b'{"model": "small", '
            has_begun.set()
            await other.gateway.wait_for("stopping")
            yield b'"messages": [{"role": "user", "content": "hi"}]}'

        request = asyncio.create_task(other.post(content=body()))
        await has_begun.wait()
        await asyncio.sleep(0.2)  # until the gateway has read the head, which nothing tells
        other.gateway.signal(signal.SIGTERM)
        response = await request
        # Its admin port closes as it drains: the log stands for the metric.
        await other.gateway.wait_for("request", status="draining")
        return told(response, 1)


async def hit_a_fault_of_ours(_: House) -> Told:
    """Break a part of a gateway in this process: no request is known to do it."""
    metrics, settings = Metrics(), simulated_settings()
    pipeline = Factory(metrics).build(settings)

    class Broken:
        def resolve(self, *_):
            raise ZeroDivisionError("a detail of ours")

    pipeline.parts = replace(pipeline.parts, routes=Broken())
    async with served(Live(pipeline, settings)) as url, httpx2.AsyncClient(trust_env=False) as http:
        response = await http.post(url + "/v1/chat/completions", json=CHAT)
    await pipeline.close()
    assert "detail of ours" not in response.text
    counts = [line for line in render(metrics.registry)[0].decode().splitlines() if "status=" in line]
    assert ['status="internal_error"' in line for line in counts] == [True]
    return told(response, 1)


async def ask_what_the_framework_refuses(_: House) -> Told:
    """Let the framework refuse a request in this process: with our handlers no request is known that makes it."""

    @litestar.get("/picky")
    async def be_picky() -> None:
        raise ClientException("details of the framework")

    transport = httpx2.ASGITransport(with_courtesies(make_app([be_picky])))
    async with httpx2.AsyncClient(transport=transport, base_url="http://postern") as http:
        response = await http.get("/picky")
    assert "framework" not in response.text
    return told(response, 0)


INVALID = "invalid_request_error"
ROWS = [
    Row(errors.InvalidRequestError, 400, INVALID, "invalid_request", ask_what_the_framework_refuses, count=0),
    Row(errors.InvalidJsonError, 400, INVALID, "invalid_json", posting(content=b"{")),
    Row(
        errors.InvalidValueError,
        400,
        INVALID,
        "invalid_value",
        posting(json=CHAT | {"stream": "yes"}),
        param="stream",
    ),
    Row(
        errors.UnsupportedParameterError,
        400,
        INVALID,
        "unsupported_parameter",
        posting(json=CHAT | {"n": 2}),
        param="n",
    ),
    Row(errors.PersonalDataError, 400, INVALID, "personal_data", ask_what_no_local_model_can_do),
    Row(
        errors.ContextLengthError,
        400,
        INVALID,
        "context_length_exceeded",
        posting(json=TOO_LONG_CHAT),
        param="messages",
    ),
    Row(errors.UpstreamRejectionError, 422, INVALID, "upstream_rejected", posting(json=CHAT, script=Error(422))),
    Row(errors.BodyTimeoutError, 408, INVALID, "request_timeout", send_half_a_body),
    Row(errors.BodyTooLargeError, 413, INVALID, "request_too_large", posting(content=b" " * 1_000_001)),
    Row(errors.AuthenticationError, 401, "authentication_error", "invalid_api_key", lack_a_key),
    Row(
        errors.ForbiddenError,
        403,
        "permission_error",
        "threshold_forbidden",
        posting(json=CHAT, headers=TOO_FREE),
        param="x-postern-threshold",
    ),
    Row(errors.NotFoundError, 404, INVALID, "not_found", asking("GET", "/v1/nothing/here"), count=0),
    Row(
        errors.ModelNotFoundError,
        404,
        INVALID,
        "model_not_found",
        posting(json=CHAT | {"model": "gpt-99"}),
        param="model",
    ),
    Row(errors.MethodError, 405, INVALID, "method_not_allowed", asking("GET", "/v1/chat/completions")),
    Row(
        errors.FeedbackUnavailableError,
        503,
        "server_error",
        "feedback_unavailable",
        mark_while_redis_is_away,
        retry_after="1",
        count=0,
    ),
    Row(
        errors.OverloadedError,
        503,
        "server_error",
        "overloaded",
        come_when_all_places_are_taken,
        retry_after="1",
    ),
    Row(errors.DrainingError, 503, "server_error", "draining", come_while_it_drains, retry_after="1"),
    Row(errors.UpstreamError, 502, "upstream_error", "upstream_error", posting(json=CHAT, script=Error(401))),
    Row(errors.UpstreamFailureError, 502, "upstream_error", "upstream_error", posting(json=CHAT, script=Error(500))),
    Row(
        errors.UpstreamUnavailableError,
        502,
        "upstream_error",
        "upstream_unavailable",
        call_a_server_that_is_away,
    ),
    Row(
        errors.UpstreamModelUnavailableError,
        502,
        "upstream_error",
        "upstream_model_unavailable",
        ask_a_model_that_cannot_be_run,
    ),
    Row(
        errors.UpstreamOverloadedError,
        503,
        "upstream_error",
        "upstream_overloaded",
        come_when_a_models_queue_is_full,
        retry_after="1",
    ),
    Row(errors.UpstreamInterruptedError, 502, "upstream_error", "upstream_interrupted", break_off_in_the_middle),
    Row(
        errors.UpstreamRateLimitError,
        429,
        "rate_limit_error",
        "upstream_rate_limited",
        posting(json=CHAT, script=Error(429, headers={"retry-after": "17"})),
        retry_after="17",
    ),
    Row(
        errors.UpstreamContextError,
        400,
        INVALID,
        "context_length_exceeded",
        posting(json=CHAT, script=TOO_LONG),
    ),
    Row(errors.UpstreamTimeoutError, 504, "upstream_error", "upstream_timeout", wait_too_long),
    Row(errors.InternalError, 500, "server_error", "internal_error", hit_a_fault_of_ours),
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.kind.__name__)
async def test_an_error_is_told_in_openais_shape(house, row):
    seen = await row.provoke(house)
    assert set(seen.error) == {"message", "type", "param", "code"}
    assert seen.error["message"]
    told = (seen.status, seen.error["type"], seen.error["code"], seen.error["param"])
    assert told == (row.status, row.type, row.code, row.param)
    assert (row.kind.type, row.kind.code) == (row.type, row.code)
    assert seen.headers.get("retry-after") == row.retry_after
    assert seen.headers["x-request-id"]
    assert seen.count == row.count


def kinds_below(kind: type[PosternError]) -> set[type[PosternError]]:
    return {kind}.union(*(kinds_below(one) for one in kind.__subclasses__()))


async def test_every_kind_of_error_has_a_row():
    kinds = kinds_below(PosternError) - {PosternError}
    assert {row.kind for row in ROWS} == kinds
    assert {row.code for row in ROWS} == {kind.code for kind in kinds}


async def test_an_upstreams_rate_limit_without_a_time_says_one_second(house):
    house.weak.script(Error(429))
    assert (await house.post(json=CHAT)).headers["retry-after"] == "1"


async def test_the_drawing_in_the_module_names_every_error():
    drawn = set(re.findall(r"(\w+Error)\b", errors.__doc__ or ""))
    assert {kind.__name__ for kind in kinds_below(PosternError)} <= drawn
