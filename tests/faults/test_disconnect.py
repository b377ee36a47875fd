"""A client that goes away stops its upstream at once, whatever the gateway was waiting for (litellm#37140)."""

import asyncio
import statistics
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.faults.wire import (
    Blackhole,
    Wire,
    ask,
    call,
    connections_to,
    eventually,
    is_connecting_to,
    open_files,
    post,
    scrape,
    unread_bytes,
)
from tests.running import RunningGateway
from tests.upstream import Answer, Hang, Received, Upstream, chunk, event, send, stream_head

pytestmark = pytest.mark.asyncio(loop_scope="module")

MAX_IN_FLIGHT = 4
AT_ONCE_S = 2.0
"""What a busy machine may need for what takes an idle one some milliseconds. No clock of the gateway's is as short, so
that only that somebody left ends anything by then."""
CONNECT_S = 30.0


@dataclass
class Bench:
    """A gateway before one upstream that behaves and one that can't be reached."""

    gateway: RunningGateway
    upstream: Upstream
    hole: Blackhole
    is_caching: bool
    prompts: int = 0

    def body(self, **fields: Any) -> bytes:
        """A request that was never made before."""
        self.prompts += 1
        return ask(f"prompt {self.prompts}", **fields)

    async def counted(self, phase: str) -> float:
        return (await scrape(self.gateway.admin_url)).sum("postern_cancelled_total", phase=phase)

    async def comes_to_count(self, phase: str, count: float) -> None:
        """So many were counted as having left in this phase, the last one just now."""

        async def is_counted() -> bool:
            return await self.counted(phase) == count

        await eventually(is_counted, AT_ONCE_S)

    async def in_flight(self) -> float:
        return (await scrape(self.gateway.admin_url)).sum("postern_in_flight")

    async def is_clean(self) -> None:
        """Nothing is in flight, at a model or in the gateway, whose every place can be taken again."""

        async def is_empty() -> bool:
            return await self.in_flight() == 0

        await eventually(is_empty, AT_ONCE_S)
        self.upstream.script(Answer(ttft_s=0.1))
        answers = await asyncio.gather(*(call(self.gateway.url, self.body()) for _ in range(MAX_IN_FLIGHT)))
        assert [answer.status for answer in answers] == [200] * MAX_IN_FLIGHT

    async def was_stopped(self, left_s: float, name: str) -> float:
        """The upstream saw its one caller leave in time; return how long that took."""
        await eventually(lambda: len(self.upstream.cancelled) == 1, AT_ONCE_S)
        took_s = self.upstream.cancelled[0] - left_s
        print(f"time to cancel, {name}: {took_s * 1000:.1f} ms")
        assert took_s < AT_ONCE_S
        return took_s

    async def is_not_stored(self, body: bytes) -> None:
        """The same request again is no hit."""
        if self.is_caching:
            self.upstream.script(Answer())
            assert (await call(self.gateway.url, body)).headers["x-postern-cache"] == "miss"


@pytest_asyncio.fixture(loop_scope="module", scope="module", params=[False, True], ids=["direct", "flight"])
async def running(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Bench]:
    folder: Path = tmp_path_factory.mktemp("gateway")
    with Blackhole() as hole:
        async with Upstream() as upstream:
            model = {"backend": "openai", "max_connections": 4}
            lost = {"urls": [hole.url], "timeouts": {"connect_s": CONNECT_S}}
            config = {
                "models": {"small": model | {"urls": [upstream.url]}, "hole": model | lost},
                "routes": {"auto": {"models": ["small"], "policy": {"kind": "pinned", "model": "small"}}},
                "limits": {"max_in_flight": MAX_IN_FLIGHT},
                "cache": {"exact": {} if request.param else None},
            }
            async with RunningGateway(config, folder) as gateway:
                yield Bench(gateway, upstream, hole, request.param)


@pytest_asyncio.fixture(loop_scope="module")
async def bench(running: Bench) -> Bench:
    running.upstream.cancelled.clear()
    running.upstream.script(Answer())
    return running


class Flood:
    """Send chunks for ever, as fast as they are taken."""

    def __init__(self) -> None:
        self.sent_bytes = 0

    async def __call__(self, request: Received, writer: asyncio.StreamWriter) -> None:
        await send(writer, stream_head(request))
        block = chunk(event({"choices": [{"index": 0, "delta": {"content": "x" * 8000}}]}))
        while True:
            await send(writer, block)
            self.sent_bytes += len(block)

    async def is_held_up(self) -> bool:
        seen_bytes = self.sent_bytes
        await asyncio.sleep(0.2)
        return 0 < seen_bytes == self.sent_bytes


@pytest.mark.parametrize("reset", [False, True], ids=["fin", "rst"])
async def test_leaving_while_sending_headers_leaves_nothing_behind(bench: Bench, reset: bool) -> None:
    await eventually(lambda: connections_to(bench.gateway.url) == 0)
    wire = await Wire.connect(bench.gateway.url)
    await wire.send(post(bench.body())[:60])
    await eventually(lambda: connections_to(bench.gateway.url) == 1)
    wire.leave(reset=reset)
    await eventually(lambda: connections_to(bench.gateway.url) == 0, AT_ONCE_S)
    await bench.is_clean()


@pytest.mark.parametrize("reset", [False, True], ids=["fin", "rst"])
async def test_leaving_while_sending_the_body_is_counted(bench: Bench, reset: bool) -> None:
    before = await bench.counted("receive")
    wire = await Wire.connect(bench.gateway.url)
    await wire.send(post(bench.body())[:-5])
    await eventually(lambda: unread_bytes(bench.gateway.url) == 0)
    left_s = wire.leave(reset=reset)
    await bench.comes_to_count("receive", before + 1)
    print(f"time to cancel, sending the body: {(time.monotonic() - left_s) * 1000:.1f} ms")
    await bench.is_clean()


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_leaving_while_the_gateway_connects_stops_connecting(bench: Bench, stream: bool) -> None:
    before = await bench.counted("upstream")
    wire = await Wire.connect(bench.gateway.url)
    await wire.send(post(bench.body(model="hole", stream=stream)))
    await eventually(lambda: is_connecting_to(bench.hole.port))
    left_s = wire.leave()
    await eventually(lambda: not is_connecting_to(bench.hole.port), AT_ONCE_S)
    print(f"time to cancel, connecting: {(time.monotonic() - left_s) * 1000:.1f} ms")
    await bench.comes_to_count("upstream", before + 1)
    await bench.is_clean()


@pytest.mark.parametrize("reset", [False, True], ids=["fin", "rst"])
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("before", ["headers", "body"])
async def test_leaving_before_the_first_byte_stops_the_upstream(
    bench: Bench, before: Any, stream: bool, reset: bool
) -> None:
    counted = await bench.counted("upstream")
    body = bench.body(stream=stream)
    bench.upstream.script(Hang(before=before))
    wire = await Wire.connect(bench.gateway.url)
    await wire.send(post(body))
    await eventually(lambda: bench.upstream.open_now == 1)
    await asyncio.sleep(0.05)
    await bench.was_stopped(wire.leave(reset=reset), f"before {before}, {'stream' if stream else 'whole'}")
    await bench.comes_to_count("upstream", counted + 1)
    await bench.is_not_stored(body)
    await bench.is_clean()


@pytest.mark.parametrize("reset", [False, True], ids=["fin", "rst"])
async def test_leaving_between_chunks_stops_the_upstream(bench: Bench, reset: bool) -> None:
    counted = await bench.counted("relay")
    body = bench.body(stream=True)
    bench.upstream.script(Hang(after_chunks=3))
    wire = await Wire.connect(bench.gateway.url)
    await wire.send(post(body))
    await wire.head()
    await wire.until(b"two")
    await bench.was_stopped(wire.leave(reset=reset), "between chunks")
    await bench.comes_to_count("relay", counted + 1)
    await bench.is_not_stored(body)
    await bench.is_clean()


async def test_most_who_leave_stop_their_upstream_within_a_quarter_of_a_second(bench: Bench) -> None:
    """Whoever only looked for them now and then would take longer for most; a busy machine does for some."""
    took_s = []
    for _ in range(11):
        bench.upstream.cancelled.clear()
        bench.upstream.script(Hang(after_chunks=3))
        wire = await Wire.connect(bench.gateway.url)
        await wire.send(post(bench.body(stream=True)))
        await wire.head()
        await wire.until(b"two")
        took_s.append(await bench.was_stopped(wire.leave(), "one of many"))
    assert statistics.median(took_s) < 0.25
    await bench.is_clean()


async def test_leaving_half_of_a_whole_answer_stops_the_upstream(bench: Bench) -> None:
    body = bench.body()
    bench.upstream.script(Hang(after_chunks=1))
    wire = await Wire.connect(bench.gateway.url)
    await wire.send(post(body))
    await eventually(lambda: bench.upstream.open_now == 1)
    await asyncio.sleep(0.05)
    await bench.was_stopped(wire.leave(), "half of a whole answer")
    await bench.is_not_stored(body)
    await bench.is_clean()


async def test_leaving_with_full_socket_buffers_stops_the_upstream(bench: Bench) -> None:
    counted = await bench.counted("relay")
    body, flood = bench.body(stream=True), Flood()
    bench.upstream.script(flood)
    wire = await Wire.connect(bench.gateway.url, receive_bytes=4096)
    await wire.send(post(body))
    await eventually(flood.is_held_up, 5.0)
    await bench.was_stopped(wire.leave(), "slow reader")
    await bench.comes_to_count("relay", counted + 1)
    await bench.is_not_stored(body)
    await bench.is_clean()


async def test_sending_no_more_with_full_socket_buffers_stops_the_upstream(bench: Bench) -> None:
    """The connection itself ends only once all that it holds back is taken, which may be never."""
    body, flood = bench.body(stream=True), Flood()
    bench.upstream.script(flood)
    wire = await Wire.connect(bench.gateway.url, receive_bytes=4096)
    await wire.send(post(body))
    await eventually(flood.is_held_up, 5.0)
    wire.half_close()
    await bench.was_stopped(time.monotonic(), "slow reader that sends no more")
    wire.leave()
    await bench.is_not_stored(body)
    await bench.is_clean()


async def test_a_client_that_has_sent_its_next_request_is_seen_leaving(bench: Bench) -> None:
    bench.upstream.script(Hang(after_chunks=3))
    wire = await Wire.connect(bench.gateway.url)
    await wire.send(post(bench.body(stream=True)))
    await wire.head()
    await wire.until(b"two")
    await wire.send(post(bench.body()))
    await asyncio.sleep(0.05)
    await bench.was_stopped(wire.leave(), "pipelined")
    await bench.is_clean()


@pytest.mark.parametrize("model", ["small", "hole"])
async def test_a_hundred_disconnects_leak_nothing(bench: Bench, model: str) -> None:
    await bench.is_clean()
    files = open_files(bench.gateway.process.pid)
    for n in range(100):
        bench.upstream.script(Hang("headers") if n % 2 else Hang(after_chunks=2))
        seen = len(bench.upstream.requests)
        wire = await Wire.connect(bench.gateway.url)
        await wire.send(post(bench.body(model=model, stream=True)))
        if model == "hole":
            await eventually(lambda: is_connecting_to(bench.hole.port), pause_s=0.001)
        elif n % 2:
            await eventually(lambda seen=seen: len(bench.upstream.requests) > seen, pause_s=0.001)
        else:
            await wire.head()
        wire.leave(reset=n % 3 == 0)
    await bench.is_clean()
    await eventually(lambda: open_files(bench.gateway.process.pid) <= files + MAX_IN_FLIGHT, 2.0)
    assert not [row for row in bench.gateway.log if row["event"] in {"unreadable", "internal_error"}]
