"""What can go wrong between the gateway and a real Triton: who leaves, what dies, hangs, is unloaded or fails.

Each fact is seen from outside, by a client of a gateway in a process of its own, and inside the model, which counts.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.faults.wire import Response, Wire, ask, call, eventually, post, scrape
from tests.running import RunningGateway
from tests.triton_server import TritonServer, need_triton

pytestmark = [need_triton, pytest.mark.xdist_group("triton"), pytest.mark.asyncio(loop_scope="module")]

DIALECTS = ("vllm", "trtllm", "llmapi")
TRANSPORTS = ("grpc", "http")
KINDS = [f"{dialect}-{transport}" for dialect in DIALECTS for transport in TRANSPORTS]
HASTY_KINDS = [f"hasty-{transport}" for transport in TRANSPORTS]
every_kind = pytest.mark.parametrize("kind", KINDS)
every_transport = pytest.mark.parametrize("transport", TRANSPORTS)

FIRST_BYTE_S, BETWEEN_CHUNKS_S, TOTAL_S = 1.5, 1.0, 3.0
HASTY = {"connect_s": 1, "first_byte_s": FIRST_BYTE_S, "between_chunks_s": BETWEEN_CHUNKS_S, "total_s": TOTAL_S}
LOOKED_S = 0.5
AT_ONCE_S = 1.0
RECOVERED_S = 2.0


@dataclass
class Bench:
    """A gateway before a Triton; a model for each dialect and transport, and `auto`, which falls back on simulation."""

    gateway: RunningGateway
    triton: TritonServer

    async def ask(self, kind: str, prompt: str, **fields: Any) -> Response:
        async with asyncio.timeout(60):
            return await call(self.gateway.url, ask(prompt, kind, **fields))

    async def counted(self, name: str, **labels: str) -> float:
        return await asyncio.to_thread(self.triton.count, name, **labels)

    async def begin(self, kind: str, prompt: str, **fields: Any) -> Wire:
        """Send a request and leave its answer unread."""
        wire = await Wire.connect(self.gateway.url)
        await wire.send(post(ask(prompt, kind, **fields)))
        return wire

    async def begin_stream(self, kind: str, prompt: str) -> Wire:
        """Open a stream and read as far as its first text."""
        wire = await self.begin(kind, prompt, stream=True)
        status, _ = await wire.head()
        assert status == 200
        await wire.until(b'"content"')
        return wire

    async def answers(self, kind: str) -> bool:
        return (await self.ask(kind, "Say [[text=alive]]")).status == 200


def settings_of(dialect: str, transport: str, triton: TritonServer, template: Path) -> dict[str, Any]:
    return {
        "backend": "triton",
        "urls": [triton.url(transport)],
        "triton": {"dialect": dialect, "model": triton.models[dialect]},
        "chat_template": str(template),
        "timeouts": {"connect_s": 20, "first_byte_s": 30, "between_chunks_s": 20, "total_s": 60},
        "watch": {"interval_s": LOOKED_S, "metrics_urls": [triton.metrics_url]},
    }


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def running(one_triton: TritonServer, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Bench]:
    folder = tmp_path_factory.mktemp("triton")
    template = folder / "last.jinja"
    template.write_text("{{ messages[-1].content }}")
    models = {
        f"{dialect}-{transport}": settings_of(dialect, transport, one_triton, template)
        for dialect in DIALECTS
        for transport in TRANSPORTS
    }
    models["vllm-grpc"]["capabilities"] = models["vllm-http"]["capabilities"] = ["json_schema"]
    for transport in TRANSPORTS:
        models[f"hasty-{transport}"] = {**models[f"vllm-{transport}"], "timeouts": HASTY}
    models["mistaken"] = {**models["vllm-grpc"], "triton": {"dialect": "vllm", "model": "ensemble"}}
    models["stand-in"] = {"backend": "simulated", "simulated": {"ttft_s": 0, "tokens_per_s": 0}}
    routes = {"auto": {"models": ["llmapi-grpc", "stand-in"], "fallback": ["stand-in"]}}
    async with RunningGateway({"models": models, "routes": routes}, folder) as gateway:
        yield Bench(gateway, one_triton)


@pytest_asyncio.fixture(loop_scope="module")
async def bench(running: Bench) -> Bench:
    """Give the bench with every model answering."""
    if not await asyncio.to_thread(running.triton.is_ready):
        await asyncio.to_thread(running.triton.restart)
    await asyncio.gather(
        *(eventually(lambda kind=kind: running.answers(kind), 10, 0.05) for kind in (*KINDS, *HASTY_KINDS))
    )
    return running


PROMPTS = {"waiting": "Go [[tokens=90 ttft=1.5 gap=0.2]]", "generating": "Go [[tokens=90 gap=0.2]]"}
LEFT_UNSEEN = {("vllm-http", "waiting")}
"""Triton sees nobody leave over HTTP before it writes (server#7077); where a stop request can tell it, one does."""


@every_kind
@pytest.mark.parametrize("phase", ["waiting", "generating", "unary"])
async def test_a_client_that_goes_away_cancels_inside_the_model(bench, kind, phase):
    dialect = kind.partition("-")[0]
    before = await bench.counted("cancelled", dialect=dialect)
    finished, requests = await bench.counted("finished"), await bench.counted("requests")
    if phase == "generating":
        wire = await bench.begin_stream(kind, PROMPTS["generating"])
    else:
        wire = await bench.begin(kind, PROMPTS.get(phase, PROMPTS["generating"]), stream=phase == "waiting")
        await asyncio.to_thread(bench.triton.wait_for, "requests", requests + 1)
        await asyncio.sleep(0.3)
    left_s = wire.leave()
    await asyncio.to_thread(bench.triton.wait_for, "cancelled", before + 1, dialect=dialect)
    took_s = bench.triton.cancelled_at_s(dialect) - left_s
    print(f"time to cancel inside the model, {kind}, {phase}: {took_s * 1000:.1f} ms")
    assert took_s < AT_ONCE_S + (1.5 if (kind, phase) in LEFT_UNSEEN else 0)
    assert await bench.counted("finished") == finished
    await wire.close()


@every_kind
async def test_two_hundred_streams_side_by_side_are_each_whole(bench, kind):
    before = await bench.counted("finished")
    texts = [f"stream {number} says so" for number in range(200)]
    prompts = [f"Say [[gap=0.05 text={text}]]" for text in texts]
    began_s = time.monotonic()
    answers = await asyncio.gather(*(bench.ask(kind, prompt, stream=True) for prompt in prompts))
    print(f"200 streams, {kind}: {time.monotonic() - began_s:.1f} s")
    assert [answer.json for answer in answers if answer.status != 200] == []
    assert [answer.text for answer in answers] == texts
    assert {str(answer.events[-1]) for answer in answers} == {"[DONE]"}
    assert await bench.counted("finished") == before + 200


@every_transport
async def test_a_server_killed_mid_stream_is_an_error_in_the_stream_and_is_back_soon_after_its_restart(
    bench, transport
):
    kind = f"vllm-{transport}"
    async with await bench.begin_stream(kind, "Go [[tokens=90 gap=0.2]]") as wire:
        whole = asyncio.create_task(bench.ask(kind, "Go [[tokens=90 gap=0.2]]"))
        await asyncio.sleep(0.3)
        await asyncio.to_thread(bench.triton.kill)
        rest = await wire.rest()
        assert b'"code":"upstream_interrupted"' in rest
        assert b"[DONE]" not in rest
        assert (await whole).status == 502
    began_s = time.monotonic()
    dead = await bench.ask(kind, "Go")
    assert (dead.status, dead.code) == (502, "upstream_unavailable")
    assert time.monotonic() - began_s < AT_ONCE_S
    await asyncio.to_thread(bench.triton.restart)
    restarted_s = time.monotonic()
    await eventually(lambda: bench.answers(kind), 10, 0.02)
    took_s = time.monotonic() - restarted_s
    print(f"time to recover from a restart, {kind}: {took_s * 1000:.0f} ms")
    assert took_s < RECOVERED_S


async def wakes(bench: Bench, kind: str) -> None:
    """Wait until a server that was frozen answers.

    Triton 2.51 sometimes dies of what it wakes to, a stream that was left (signal 11, 2 of 30 freezes over gRPC); then
    it is started again, and must be found as soon.
    """
    try:
        await eventually(lambda: bench.answers(kind), RECOVERED_S, 0.02)
    except AssertionError:
        if await asyncio.to_thread(bench.triton.is_ready):
            raise
        await asyncio.to_thread(bench.triton.restart)
        await eventually(lambda: bench.answers(kind), RECOVERED_S, 0.02)


@every_transport
@pytest.mark.parametrize("is_streaming", [True, False])
async def test_a_server_that_hangs_before_the_first_token_ends_with_the_deadline(bench, transport, is_streaming):
    kind = f"hasty-{transport}"
    assert await bench.answers(kind)
    began_s = time.monotonic()
    bench.triton.stop()
    try:
        answer = await bench.ask(kind, "Go", stream=is_streaming)
    finally:
        bench.triton.cont()
    assert (answer.status, answer.code) == (504, "upstream_timeout")
    least_s = FIRST_BYTE_S if is_streaming else TOTAL_S
    assert least_s - 0.1 <= time.monotonic() - began_s < least_s + 2
    await wakes(bench, kind)


@every_transport
async def test_a_server_that_hangs_after_the_first_token_is_an_error_in_the_stream(bench, transport):
    async with await bench.begin_stream(f"hasty-{transport}", "Go [[tokens=90 gap=0.2]]") as wire:
        bench.triton.stop()
        began_s = time.monotonic()
        try:
            rest = await wire.rest()
        finally:
            bench.triton.cont()
    assert b'"code":"upstream_timeout"' in rest
    assert time.monotonic() - began_s < BETWEEN_CHUNKS_S + 1
    await wakes(bench, f"vllm-{transport}")


@every_transport
async def test_a_model_unloaded_under_load_ends_what_it_has_begun_and_refuses_at_once_what_comes(bench, transport):
    kind = f"llmapi-{transport}"
    streams = [
        asyncio.create_task(bench.ask(kind, f"Say [[gap=0.3 text=answer {number}]]", stream=True))
        for number in range(8)
    ]
    await asyncio.sleep(0.4)
    await asyncio.to_thread(bench.triton.unload, "llmapi")
    began_s = time.monotonic()
    refused = await bench.ask(kind, "Go")
    assert (refused.status, refused.code) == (502, "upstream_model_unavailable")
    assert time.monotonic() - began_s < AT_ONCE_S
    assert (await bench.ask("auto", "Go")).headers["x-postern-model"] == "stand-in"
    assert (await bench.ask(f"vllm-{transport}", "Say [[text=here]]")).text == "here"
    assert [answer.text for answer in await asyncio.gather(*streams)] == [f"answer {number}" for number in range(8)]
    await eventually(lambda: is_shown_as_ready(bench, kind, 0), 3)
    await asyncio.to_thread(bench.triton.load, "llmapi")
    loaded_s = time.monotonic()
    await eventually(lambda: bench.answers(kind), 10, 0.02)
    print(f"time to serve a model that is loaded again, {kind}: {(time.monotonic() - loaded_s) * 1000:.0f} ms")
    assert time.monotonic() - loaded_s < RECOVERED_S
    await eventually(lambda: is_shown_as_ready(bench, kind, 1), RECOVERED_S)


async def is_shown_as_ready(bench: Bench, kind: str, value: float) -> bool:
    return (await scrape(bench.gateway.admin_url)).sum("postern_upstream_ready", model=kind) == value


@every_kind
@pytest.mark.parametrize("is_streaming", [True, False])
async def test_an_error_in_band_before_the_first_token_is_a_502(bench, kind, is_streaming):
    answer = await bench.ask(kind, "Go [[fail_at=0]]", stream=is_streaming)
    assert (answer.status, answer.code) == (502, "upstream_error")
    assert "scripted" not in answer.body.decode()


@every_kind
async def test_an_error_in_band_mid_stream_ends_the_stream_with_an_error(bench, kind):
    answer = await bench.ask(kind, "Go [[tokens=9 gap=0.2 fail_at=3]]", stream=True)
    assert answer.status == 200
    assert answer.events[-1]["error"]["code"] == "upstream_interrupted"
    assert len(answer.text.split()) == 3


@every_transport
async def test_a_schema_that_cannot_be_followed_is_the_requests_own_fault(bench, transport):
    schema = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "nonsense"}}}
    answer = await bench.ask(f"vllm-{transport}", "Go", response_format=schema)
    assert (answer.status, answer.json["error"]["type"]) == (400, "invalid_request_error")


async def test_a_model_of_another_dialect_is_refused_and_said_so(bench):
    answer = await bench.ask("mistaken", "Go")
    assert (answer.status, answer.code) == (502, "upstream_model_unavailable")
    await eventually(lambda: is_shown_as_ready(bench, "mistaken", 0), 3)

    def is_told() -> bool:
        rows = [row["detail"] for row in bench.gateway.log if row.get("code") == "upstream_model_unavailable"]
        return any("sampling_parameters" in str(detail) and "max_tokens" in str(detail) for detail in rows)

    await eventually(is_told, 3)


async def test_the_load_of_each_replica_is_shown(bench):
    wires = [await bench.begin_stream("vllm-grpc", "Go [[tokens=90 gap=0.5]]") for _ in range(3)]

    async def is_shown() -> bool:
        shown = await scrape(bench.gateway.admin_url)
        return shown.sum("postern_upstream_running_requests", model="vllm-grpc") == 3

    try:
        await eventually(is_shown, 3)
    finally:
        for wire in wires:
            await wire.close()
