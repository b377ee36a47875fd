"""Replicas whose metrics pages are read: load moves requests, and no page that hangs or lies slows one."""

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import pytest

from tests.faults.wire import Metrics, Wire, ask, call, connections_to, eventually, post, scrape
from tests.running import RunningGateway
from tests.upstream import Answer, Upstream

INTERVAL_S = 0.1
HANG = "hang"


class Page:
    """A metrics page on a port of its own; `text` is what it says, or that it hangs."""

    def __init__(self) -> None:
        self.text = ""
        self.reads = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/metrics"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            self.reads += 1
            body = self.text.encode()
            while self.text == HANG:  # noqa: ASYNC110 - a plain text, changed by the test
                await asyncio.sleep(0.02)
            head = f"HTTP/1.1 200 OK\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
            writer.write(head.encode() + body)
            await writer.drain()
        except (ConnectionError, EOFError):
            return
        finally:
            writer.close()


def says(waiting: float, kv_cache: float = 0.1) -> str:
    return (
        f'vllm:num_requests_waiting{{engine="0",model_name="m"}} {waiting}\n'
        f'vllm:num_requests_running{{engine="0",model_name="m"}} 2\n'
        f'vllm:kv_cache_usage_perc{{engine="0",model_name="m"}} {kv_cache}\n'
    )


@dataclass
class Bench:
    """A model with two replicas, each with its page."""

    gateway: RunningGateway
    replicas: tuple[Upstream, Upstream]
    pages: tuple[Page, Page]

    async def asked(self, count: int = 20) -> list[int]:
        """Ask so often, one after the other; return how often each replica was asked."""
        for one in self.replicas:
            one.requests.clear()
        for _ in range(count):
            assert (await call(self.gateway.url, ask("hi"))).status == 200
        return [len(one.requests) for one in self.replicas]

    async def metrics(self) -> Metrics:
        return await scrape(self.gateway.admin_url)

    async def shown(self, holds: Callable[[Metrics], bool], seconds: float = 3.0) -> None:
        async def is_shown() -> bool:
            return holds(await self.metrics())

        await eventually(is_shown, seconds, 0.05)


def config(replicas: tuple[Upstream, ...], pages: tuple[Page, ...], **more: Any) -> dict[str, Any]:
    watch = {"interval_s": INTERVAL_S, "metrics_urls": [page.url for page in pages]}
    model = {"backend": "openai", "urls": [one.url for one in replicas], "watch": watch, **more}
    return {"models": {"small": model}, "routes": {"auto": {"models": ["small"]}}}


@asynccontextmanager
async def bench(folder: Path) -> AsyncIterator[Bench]:
    async with Upstream() as a, Upstream() as b, Page() as page_a, Page() as page_b:
        page_a.text = page_b.text = says(0)
        async with RunningGateway(config((a, b), (page_a, page_b)), folder) as gateway:
            yield Bench(gateway, (a, b), (page_a, page_b))


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[Bench]:
    async with bench(tmp_path) as found:
        yield found


def waiting(metrics: Metrics, upstream: Upstream) -> float:
    return metrics.sum("postern_upstream_waiting_requests", model="small", url=upstream.url)


async def test_a_replica_with_a_queue_is_spared_and_the_load_is_in_the_metrics(running: Bench) -> None:
    a, b = running.replicas
    assert min(await running.asked()) > 0
    running.pages[0].text = says(40, 0.5)
    await running.shown(lambda metrics: waiting(metrics, a) == 40)
    assert await running.asked() == [0, 20]
    found = await running.metrics()
    assert found.sum("postern_upstream_kv_cache_usage_ratio", url=a.url) == 0.5
    assert found.sum("postern_upstream_running_requests", url=b.url) == 2
    assert found.sum("postern_upstream_ready", model="small") == 2
    running.pages[0].text, running.pages[1].text = says(0), says(0, 0.97)
    await running.shown(lambda metrics: waiting(metrics, a) == 0)
    await running.shown(lambda metrics: metrics.sum("postern_upstream_kv_cache_usage_ratio", url=b.url) == 0.97)
    assert await running.asked() == [20, 0]


async def test_a_page_that_hangs_slows_no_request_and_what_it_said_before_is_forgotten(running: Bench) -> None:
    a, _ = running.replicas
    running.pages[0].text = says(40)
    await running.shown(lambda metrics: waiting(metrics, a) == 40)
    running.pages[0].text = HANG
    began_s = time.monotonic()
    await running.asked(40)
    assert time.monotonic() - began_s < 2
    await running.shown(lambda metrics: waiting(metrics, a) == 0)
    assert min(await running.asked()) > 0


@pytest.mark.parametrize("lie", ["vllm:num_requests_waiting NaN\n" * 9, "vllm:kv_cache_usage_perc 1e99\n", "\0" * 999])
async def test_a_page_that_lies_moves_nobody(running: Bench, lie: str) -> None:
    running.pages[0].text = lie
    seen = running.pages[0].reads
    await eventually(lambda: running.pages[0].reads > seen + 3)
    assert min(await running.asked()) > 0


async def test_a_reload_shows_only_the_replicas_that_are_left(running: Bench) -> None:
    a, b = running.replicas
    running.pages[1].text = says(7)
    await running.shown(lambda metrics: waiting(metrics, b) == 7)
    running.gateway.write(config((a,), running.pages[:1]))
    running.gateway.signal(signal.SIGHUP)
    await running.gateway.wait_for("reloaded")
    await running.shown(lambda metrics: metrics.sum("postern_upstream_ready", model="small") == 1)
    found = await running.metrics()
    assert (waiting(found, b), found.sum("postern_upstream_ready", url=b.url)) == (0, 0)
    seen = running.pages[1].reads
    await asyncio.sleep(5 * INTERVAL_S)
    assert running.pages[1].reads == seen


async def stream(gateway: RunningGateway) -> bytes:
    async with await Wire.connect(gateway.url) as wire:
        await wire.send(post(ask("go", stream=True)))
        assert (await wire.head())[0] == 200
        return await wire.rest()


async def test_reloads_under_load_cut_no_stream(running: Bench) -> None:
    """Twelve reloads, every other one with changed replicas, below 40 streams that each outlive several of them."""
    words = " ".join(f"w{place}" for place in range(20))
    for one in running.replicas:
        one.script(Answer(words, gap_s=0.05))
    streams = []
    for turn in range(12):
        timeouts = {"connect_s": 1.0 + turn // 2}
        running.gateway.write(config(running.replicas, running.pages, timeouts=timeouts))
        running.gateway.signal(signal.SIGHUP)
        streams += [asyncio.create_task(stream(running.gateway)) for _ in range(40 // 12 + 1)]
        await eventually(lambda wanted=turn: _reloads(running.gateway) > wanted)
    told = await asyncio.gather(*streams)
    assert [one.endswith(b"data: [DONE]\n\n") for one in told] == [True] * len(streams)
    assert [one.cancelled for one in running.replicas] == [[], []]
    # What was replaced is closed: what is left are the connections of the last configuration.
    assert (await call(running.gateway.url, ask("hi"))).status == 200
    await eventually(lambda: sum(connections_to(one.url) for one in running.replicas) <= 16)


def _reloads(gateway: RunningGateway) -> int:
    return sum(row["event"] == "reloaded" for row in gateway.log)
