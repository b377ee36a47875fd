"""Identical requests in flight share one upstream call, and none of them can harm the others."""

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest
import pytest_asyncio

from tests.faults.wire import Response, Wire, ask, call, eventually, post, scrape
from tests.running import RunningGateway, two_models
from tests.upstream import Answer, DropConnection, Error, Hang, Upstream

pytestmark = pytest.mark.asyncio(loop_scope="module")

SLOW = Answer("one two three four five six seven eight", gap_s=0.1, ttft_s=0.1, completion_tokens=8)
AT_ONCE_S = 2.0
EITHER = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])


@dataclass
class Bench:
    gateway: RunningGateway
    upstream: Upstream
    strong: Upstream
    prompts: int = 0

    def body(self, model: str = "small", **fields: Any) -> bytes:
        self.prompts += 1
        return ask(f"prompt {self.prompts}", model, **fields)

    async def call(self, body: bytes, **headers: str) -> Response:
        return await call(self.gateway.url, body, **headers)

    async def ride(self, body: bytes, count: int, **headers: str) -> list["asyncio.Task[Response]"]:
        """Send the same request several times, the first one first."""
        first = asyncio.create_task(self.call(body, **headers))
        await self.is_flying()
        return [first, *(asyncio.create_task(self.call(body, **headers)) for _ in range(count - 1))]

    async def is_flying(self) -> None:
        await eventually(lambda: self.upstream.open_now >= 1)

    async def sum(self, name: str, **labels: str) -> float:
        return (await scrape(self.gateway.admin_url)).sum(name, **labels)


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Bench]:
    async with Upstream() as upstream, Upstream() as strong:
        clients = {name: {"sha256": hashlib.sha256(name.encode()).hexdigest()} for name in ("alice", "bob")}
        config = two_models(upstream.url, strong.url, cache={"exact": {}}, keys={"clients": clients})
        config["models"]["small"]["timeouts"] = {"total_s": 5}
        config["routes"]["twin"] = config["routes"]["auto"]
        async with RunningGateway(config, tmp_path_factory.mktemp("gateway")) as gateway:
            yield Bench(gateway, upstream, strong)


@pytest_asyncio.fixture(loop_scope="module")
async def bench(running: Bench) -> Bench:
    running.upstream.script(SLOW)
    running.strong.script(SLOW)
    await eventually(lambda: running.upstream.open_now == running.strong.open_now == 0)
    for one in (running.upstream, running.strong):
        one.requests.clear()
        one.cancelled.clear()
    return running


@EITHER
async def test_identical_requests_share_one_call_and_one_bill(bench: Bench, stream: bool) -> None:
    cost = await bench.sum("postern_request_cost_usd_total", model="small")
    answers = await asyncio.gather(*await bench.ride(bench.body(stream=stream), 5))
    assert [answer.text for answer in answers] == [SLOW.text] * 5
    assert len(bench.upstream.requests) == 1
    assert sorted(answer.headers["x-postern-cache"] for answer in answers) == ["hit"] * 4 + ["miss"]
    spent_usd = await bench.sum("postern_request_cost_usd_total", model="small") - cost
    assert spent_usd == pytest.approx((7 * 1.0 + 8 * 2.0) / 1e6)


async def test_a_follower_gets_all_from_the_start_and_the_rest_as_it_comes(bench: Bench) -> None:
    body = bench.body(stream=True)
    leader = asyncio.create_task(bench.call(body))
    await bench.is_flying()
    await asyncio.sleep(0.4)
    async with await Wire.connect(bench.gateway.url) as wire:
        started_s = time.monotonic()
        await wire.send(post(body))
        await wire.head()
        seen = await wire.until(b"one")
        assert time.monotonic() - started_s < 0.09, "what has come already comes at once"
        seen += await wire.until(b"five")
        assert not leader.done(), "the follower waits for nobody's end"
        seen += await wire.rest()
        assert seen == (await leader).body
    assert len(bench.upstream.requests) == 1


@EITHER
async def test_a_leader_who_leaves_disturbs_no_follower(bench: Bench, stream: bool) -> None:
    cost = await bench.sum("postern_request_cost_usd_total", model="small")
    body = bench.body(stream=stream)
    leader = await Wire.connect(bench.gateway.url)
    await leader.send(post(body))
    await bench.is_flying()
    followers = [asyncio.create_task(bench.call(body)) for _ in range(3)]
    await asyncio.sleep(0.3)
    leader.leave(reset=True)
    answers = await asyncio.gather(*followers)
    assert [answer.text for answer in answers] == [SLOW.text] * 3
    assert (len(bench.upstream.requests), bench.upstream.cancelled) == (1, [])
    spent_usd = await bench.sum("postern_request_cost_usd_total", model="small") - cost
    assert spent_usd == pytest.approx((7 * 1.0 + 8 * 2.0) / 1e6), "somebody pays, once"


@EITHER
async def test_when_all_have_left_the_upstream_is_stopped(bench: Bench, stream: bool) -> None:
    bench.upstream.script(Hang(after_chunks=2) if stream else Hang())
    body = bench.body(stream=stream)
    riders = [await Wire.connect(bench.gateway.url) for _ in range(3)]
    for rider in riders:
        await rider.send(post(body))
    await bench.is_flying()
    await asyncio.sleep(0.1)
    for rider in riders[:-1]:
        rider.leave()
    await asyncio.sleep(0.1)
    assert bench.upstream.cancelled == [], "one is still there"
    left_s = riders[-1].leave()
    await eventually(lambda: len(bench.upstream.cancelled) == 1)
    assert bench.upstream.cancelled[0] - left_s < AT_ONCE_S
    bench.upstream.script(Answer())
    assert (await bench.call(body)).headers["x-postern-cache"] == "miss"


@EITHER
async def test_a_failure_is_told_to_all(bench: Bench, stream: bool) -> None:
    async def fail(request: Any, writer: Any) -> None:
        await asyncio.sleep(0.2)
        await Error(500)(request, writer)

    bench.upstream.script(fail)
    answers = await asyncio.gather(*await bench.ride(bench.body(stream=stream), 4))
    assert [(answer.status, answer.code) for answer in answers] == [(502, "upstream_error")] * 4
    assert len(bench.upstream.requests) == 1


async def test_a_failure_in_the_stream_is_told_to_all(bench: Bench) -> None:
    async def fail(request: Any, writer: Any) -> None:
        await asyncio.sleep(0.2)
        await DropConnection(after_chunks=3)(request, writer)

    bench.upstream.script(fail)
    answers = await asyncio.gather(*await bench.ride(bench.body(stream=True), 4))
    assert [answer.events[-1]["error"]["code"] for answer in answers] == ["upstream_interrupted"] * 4
    assert not any(b"[DONE]" in answer.body for answer in answers)


async def both(bench: Bench, one: tuple[bytes, dict[str, str]], other: tuple[bytes, dict[str, str]]) -> int:
    """Make two requests at once; return how many calls they took."""
    first = asyncio.create_task(bench.call(one[0], **one[1]))
    await eventually(lambda: bench.upstream.open_now + bench.strong.open_now == 1)
    answers = await asyncio.gather(first, bench.call(other[0], **other[1]))
    assert [answer.status for answer in answers] == [200, 200]
    return len(bench.upstream.requests) + len(bench.strong.requests)


async def test_tenants_never_share(bench: Bench) -> None:
    """semantic-router#2134: another tenant's answer."""
    body = bench.body(stream=True)
    alice, bob = {"authorization": "Bearer alice"}, {"authorization": "Bearer bob"}
    assert await both(bench, (body, alice), (body, bob)) == 2
    assert (await bench.call(body, authorization="Bearer carol")).headers["x-postern-cache"] == "miss"
    assert (await bench.call(body)).headers["x-postern-cache"] == "miss"
    assert (await bench.call(body, **alice)).headers["x-postern-cache"] == "hit"


@pytest.mark.parametrize(
    ("one", "other"),
    [({"model": "small"}, {"model": "large"}), ({"model": "auto"}, {"model": "twin"}), ({}, {"temperature": 0.5})],
    ids=["models", "routes", "parameters"],
)
async def test_different_requests_never_share(bench: Bench, one: dict[str, Any], other: dict[str, Any]) -> None:
    bench.prompts += 1
    prompt = f"prompt {bench.prompts}"
    assert await both(bench, (ask(prompt, **one), {}), (ask(prompt, **other), {})) == 2


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"x_postern_tier": "weak"}, {"x_postern_tier": "strong"}),
        ({"x_postern_threshold": "1"}, {"x_postern_threshold": "0"}),
    ],
    ids=["tiers", "thresholds"],
)
async def test_a_request_for_the_strong_model_never_rides_with_the_weak_one(
    bench: Bench, one: dict[str, str], other: dict[str, str]
) -> None:
    body = bench.body("auto", stream=True)
    assert await both(bench, (body, one), (body, other)) == 2
    assert (len(bench.upstream.requests), len(bench.strong.requests)) == (1, 1)


async def test_no_store_never_shares(bench: Bench) -> None:
    body, private = bench.body(stream=True), {"cache_control": "no-store"}
    assert await both(bench, (body, private), (body, private)) == 2
    bench.upstream.requests.clear()
    assert await both(bench, (body, {}), (body, private)) == 2


async def test_no_cache_joins_nobody(bench: Bench) -> None:
    body = bench.body(stream=True)
    assert await both(bench, (body, {}), (body, {"cache_control": "no-cache"})) == 2


async def test_a_slow_reader_slows_no_other_rider(bench: Bench) -> None:
    words = Answer(" ".join(["word" * 2500] * 300), gap_s=0.005)
    bench.upstream.script(words)
    body = bench.body(stream=True)
    slow = await Wire.connect(bench.gateway.url, receive_bytes=4096)
    await slow.send(post(body))
    await slow.head()
    # Were they bound to its pace, they would not come to their end at all: it never reads.
    async with asyncio.timeout(10.0):
        answers = await asyncio.gather(*(bench.call(body) for _ in range(2)))
    assert all(answer.text == words.text for answer in answers)
    assert len(bench.upstream.requests) == 1
    await slow.close()


async def test_riders_leave_nothing_behind(bench: Bench) -> None:
    body = bench.body(stream=True)
    riders = [await Wire.connect(bench.gateway.url) for _ in range(20)]
    for rider in riders:
        await rider.send(post(body))
    await bench.is_flying()
    for rider in riders:
        rider.leave(reset=True)

    async def is_empty() -> bool:
        return await bench.sum("postern_in_flight") == 0

    await eventually(is_empty)
    bench.upstream.script(Answer())
    assert (await bench.call(body)).headers["x-postern-cache"] == "miss"
    assert not [row for row in bench.gateway.log if row["event"] in {"internal_error", "unreadable"}]
