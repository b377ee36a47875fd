"""However a request ends, nothing of it is left for the garbage collector, which comes seldom: a body may be large."""

import asyncio
import gc
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from gateway.api.live import Live
from gateway.app import Factory
from gateway.backends.backend import Call
from gateway.backends.http1_exchange import Exchange
from gateway.core.context import RequestContext
from gateway.settings.load import parse_settings
from gateway.telemetry.metrics import Metrics
from tests.faults.wire import Wire, ask, eventually, post
from tests.serving import served
from tests.upstream import (
    Answer,
    Behaviour,
    DropConnection,
    Error,
    ErrorInStream,
    Garbage,
    Hang,
    Upstream,
)

TIMEOUTS = {"connect_s": 0.3, "first_byte_s": 0.3, "between_chunks_s": 0.3, "total_s": 0.5}
POLICY = {"kind": "pinned", "model": "small"}


@dataclass
class Bench:
    """A gateway in this process and the server behind it."""

    url: str
    live: Live
    upstream: Upstream
    older: list[object]
    """What other tests have left, or keep: a failed one's traceback holds all that it saw."""

    async def left_over(self) -> list[object]:
        """Return what is left of the requests so far once none is under way."""
        await eventually(lambda: self.live.pipeline.parts.in_flight.count == 0 and not self.upstream.open_now)
        await asyncio.sleep(0.05)
        older = set(map(id, self.older))
        return [one for one in parts_of_requests() if id(one) not in older]


def parts_of_requests() -> list[object]:
    return [one for one in gc.get_objects() if type(one) in {RequestContext, Call, Exchange}]


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    async with Upstream() as upstream:
        model = {"backend": "openai", "urls": [upstream.url], "timeouts": TIMEOUTS}
        routes = {
            "auto": {"models": ["small", "large"], "policy": POLICY, "fallback": ["large"]},
            "alone": {"models": ["small"], "policy": POLICY},
        }
        text = json.dumps({"models": {"small": model, "large": model}, "routes": routes, "cache": {"exact": {}}})
        settings = parse_settings(text, {})
        factory = Factory(Metrics())
        live = Live(factory.build(settings), settings)
        async with served(live) as url:
            gc.collect()
            gc.disable()
            try:
                yield Bench(url, live, upstream, parts_of_requests())
            finally:
                gc.enable()
        await live.pipeline.close()
        await factory.close()


ENDS: dict[str, list[Behaviour]] = {
    "answered": [Answer()],
    "refused": [Error(400)],
    "failed": [Error(500)],
    "over its rate": [Error(429)],
    "not answered": [DropConnection(before_headers=True)],
    "broken off": [DropConnection(before_headers=False)],
    "hanging": [Hang("headers")],
    "hanging on": [Hang("body")],
    "an error in band": [ErrorInStream()],
    "garbage": [Garbage(b"<html>It works!</html>\n\n")],
    "first failed": [Error(500), Answer()],
    "first not answered": [DropConnection(before_headers=True), Answer()],
}


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("route", ["auto", "alone"])
async def test_a_request_leaves_nothing_however_it_ends(bench, end, stream, route):
    bench.upstream.script(*ENDS[end])
    async with await Wire.connect(bench.url) as wire:
        await wire.send(post(ask("hi", route, stream=stream)))
        await wire.response()
    assert await bench.left_over() == []


@pytest.mark.parametrize("where", ["headers", "body"])
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("riders", [1, 2])
async def test_who_leaves_leaves_nothing(bench, where, stream, riders):
    bench.upstream.script(Hang(where))
    wires = [await Wire.connect(bench.url) for _ in range(riders)]
    for wire in wires:
        await wire.send(post(ask("hi", "alone", stream=stream)))
    await eventually(lambda: bool(bench.upstream.open_now))
    for wire in wires:
        wire.leave()
    assert await bench.left_over() == []
