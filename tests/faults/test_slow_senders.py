"""Clients that are slow, silent, too large or in a hurry are cut off, and stop nobody else."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
import pytest_asyncio

from tests.faults.wire import Wire, ask, call, connections_to, eventually, get, post, scrape
from tests.running import RunningGateway, two_models
from tests.upstream import Answer, Upstream, chunk, event, send, stream_head

pytestmark = pytest.mark.asyncio(loop_scope="module")

HEADER_TIMEOUT_S = 1
BODY_TIMEOUT_S = 1
KEEP_ALIVE_S = 2
TOTAL_S = 3
SLACK_S = 1.5  # a busy machine may be late; a time-out that is missing never comes


@dataclass
class Bench:
    gateway: RunningGateway
    upstream: Upstream


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Bench]:
    server = {
        "header_timeout_s": HEADER_TIMEOUT_S,
        "body_timeout_s": BODY_TIMEOUT_S,
        "keep_alive_s": KEEP_ALIVE_S,
    }
    async with Upstream() as upstream:
        config = two_models(upstream.url, upstream.url, server=server)
        config["models"]["small"]["timeouts"] = {"total_s": TOTAL_S}
        async with RunningGateway(config, tmp_path_factory.mktemp("gateway")) as gateway:
            yield Bench(gateway, upstream)


@pytest_asyncio.fixture(loop_scope="module")
async def bench(running: Bench) -> Bench:
    running.upstream.script(Answer())
    return running


async def drip(wire: Wire, data: bytes, gap_s: float = 0.1) -> None:
    """Send a byte now and then, which defeats a time-out per read."""
    for at in range(len(data)):
        await wire.send(data[at : at + 1])
        await asyncio.sleep(gap_s)


async def test_a_connection_without_a_byte_is_cut(bench: Bench) -> None:
    async with await Wire.connect(bench.gateway.url) as wire:
        started_s = time.monotonic()
        assert (await wire.hung_up()).startswith(b"HTTP/1.1 408 ")
        assert HEADER_TIMEOUT_S - 0.1 <= time.monotonic() - started_s < HEADER_TIMEOUT_S + SLACK_S


async def test_headers_that_drip_are_cut_at_their_time(bench: Bench) -> None:
    async with await Wire.connect(bench.gateway.url) as wire:
        started_s = time.monotonic()
        dripping = asyncio.create_task(drip(wire, post(ask("slow"))))
        assert (await wire.hung_up()).startswith(b"HTTP/1.1 408 ")
        assert HEADER_TIMEOUT_S - 0.1 <= time.monotonic() - started_s < HEADER_TIMEOUT_S + SLACK_S
        dripping.cancel()


async def test_a_body_that_drips_gets_408(bench: Bench) -> None:
    request = post(ask("slow"))
    head_end = request.index(b"\r\n\r\n") + 4
    async with await Wire.connect(bench.gateway.url) as wire:
        await wire.send(request[:head_end])
        started_s = time.monotonic()
        dripping = asyncio.create_task(drip(wire, request[head_end:]))
        answer = await wire.response()
        assert (answer.status, answer.code) == (408, "request_timeout")
        assert BODY_TIMEOUT_S - 0.1 <= time.monotonic() - started_s < BODY_TIMEOUT_S + SLACK_S
        await wire.hung_up()
        dripping.cancel()


async def test_a_body_that_drips_to_an_unhurried_endpoint_is_cut_too(bench: Bench) -> None:
    request = post(ask("slow"), path="/v1/feedback")
    async with await Wire.connect(bench.gateway.url) as wire:
        await wire.send(request[:-10])
        assert (await wire.response()).status == 408
        await wire.hung_up(HEADER_TIMEOUT_S)


async def test_an_idle_connection_is_cut_after_its_keep_alive(bench: Bench) -> None:
    async with await Wire.connect(bench.gateway.url) as wire:
        await wire.send(post(ask("first")))
        await wire.response()
        started_s = time.monotonic()
        assert await wire.hung_up() == b""
        assert KEEP_ALIVE_S - 0.1 <= time.monotonic() - started_s < KEEP_ALIVE_S + SLACK_S


async def test_a_second_request_with_a_slow_head_is_cut_too(bench: Bench) -> None:
    async with await Wire.connect(bench.gateway.url) as wire:
        await wire.send(post(ask("first")))
        assert (await wire.response()).status == 200
        started_s = time.monotonic()
        dripping = asyncio.create_task(drip(wire, post(ask("second"))))
        assert (await wire.hung_up()).startswith(b"HTTP/1.1 408 ")
        assert time.monotonic() - started_s < HEADER_TIMEOUT_S + SLACK_S
        dripping.cancel()


async def test_empty_lines_between_requests_keep_no_connection_open(bench: Bench) -> None:
    async with await Wire.connect(bench.gateway.url) as wire:
        await wire.send(post(ask("first")))
        await wire.response()
        await wire.send(b"\r\n")
        assert (await wire.hung_up(HEADER_TIMEOUT_S + SLACK_S)).startswith(b"HTTP/1.1 408 ")


@pytest.mark.parametrize("pieces", [1, 50], ids=["at once", "in pieces"])
@pytest.mark.parametrize(
    "filler", ["x-many: 0123456789\r\n" * 4000, "x-one: " + "y" * 70_000 + "\r\n"], ids=["many", "one"]
)
async def test_a_head_over_64_kb_gets_431(bench: Bench, filler: str, pieces: int) -> None:
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: gateway\r\n{filler}content-length: 0\r\n\r\n".encode()
    step = -(-len(head) // pieces)
    async with await Wire.connect(bench.gateway.url) as wire:
        for at in range(0, len(head), step):
            await wire.send(head[at : at + step])
        status, _ = await wire.head()
        assert status == 431


async def test_a_head_of_60_kb_is_taken(bench: Bench) -> None:
    answer = await call(bench.gateway.url, ask("hi"), x_filler="y" * 60_000)
    assert answer.status == 200


async def test_requests_sent_ahead_are_answered_in_order_or_not_at_all(bench: Bench) -> None:
    bench.upstream.script(Answer("first.", ttft_s=0.2), Answer("second."))
    async with await Wire.connect(bench.gateway.url) as wire:
        await wire.send(post(ask("1", stream=True)) + post(ask("2", stream=True)))
        first = await wire.response()
        assert first.text == "first."
        assert first.body.endswith(b"data: [DONE]\n\n")
        rest = await wire.hung_up()
        assert rest == b"" or b"second." in rest


@pytest.mark.parametrize(
    "more", [post(ask("2"))[:40], b"\x00garbage\r\n\r\n", b"x" * 100_000], ids=["half", "junk", "large"]
)
async def test_nothing_is_mixed_into_an_answer_under_way(bench: Bench, more: bytes) -> None:
    bench.upstream.script(Answer("one two three four five six", gap_s=0.3))
    async with await Wire.connect(bench.gateway.url) as wire:
        await wire.send(post(ask("1", stream=True)))
        await wire.head()
        await wire.send(more)
        body = await wire.rest()
        assert body.endswith(b"data: [DONE]\n\n")
        assert all(block.startswith(b"data: ") for block in body.split(b"\n\n") if block)
        assert await wire.hung_up() == b""


async def flood(request: object, writer: asyncio.StreamWriter) -> None:
    await send(writer, stream_head(request))
    block = chunk(event({"choices": [{"index": 0, "delta": {"content": "x" * 8000}}]}))
    while True:
        await send(writer, block)


async def test_a_client_that_never_reads_stops_no_other_and_is_let_go(bench: Bench) -> None:
    bench.upstream.script(flood)
    deaf = [await Wire.connect(bench.gateway.url, receive_bytes=4096) for _ in range(5)]
    for wire in deaf:
        await wire.send(post(ask("flood", stream=True)))
    await asyncio.sleep(0.5)
    bench.upstream.script(Answer())
    started_s = time.monotonic()
    answers = await asyncio.gather(*(call(bench.gateway.url, ask("hi", stream=True)) for _ in range(20)))
    assert all(answer.body.endswith(b"data: [DONE]\n\n") for answer in answers)
    assert time.monotonic() - started_s < 1.0

    async def is_empty() -> bool:
        return (await scrape(bench.gateway.admin_url)).sum("postern_in_flight") == 0

    # After total_s the upstreams are let go, after keep_alive_s without a byte taken the connections.
    await eventually(is_empty, TOTAL_S + 2.0)
    await eventually(lambda: connections_to(bench.gateway.url) == 0, KEEP_ALIVE_S * 2 + SLACK_S)
    for wire in deaf:
        wire.leave(reset=True)


async def test_a_hundred_slow_senders_stop_no_other(bench: Bench) -> None:
    slow = [await Wire.connect(bench.gateway.url) for _ in range(100)]
    for wire in slow:
        await wire.send(post(ask("slow"))[:30])
    assert (await call(bench.gateway.url, ask("hi"))).status == 200
    assert (await get(bench.gateway.root, "/health/ready")).status == 200
    for wire in slow:
        wire.leave(reset=True)


async def test_a_body_over_its_bound_gets_413_by_its_length_alone(bench: Bench) -> None:
    async with await Wire.connect(bench.gateway.url) as wire:
        await wire.send(post(b"").replace(b"content-length: 0", b"content-length: 99999999999"))
        answer = await wire.response()
        assert answer.status == 413
        assert json.loads(answer.body)["error"]["code"] == "request_too_large"


H2C = {"connection": "Upgrade, HTTP2-Settings", "upgrade": "h2c", "http2_settings": "AAMAAABkAAQCAAAAAAIAAAAA"}


@pytest.mark.parametrize("offer", [H2C, {"connection": "keep-alive, upgrade", "upgrade": "websocket"}])
async def test_an_offer_of_another_protocol_is_not_taken_and_no_body_lost(bench: Bench, offer: dict[str, str]) -> None:
    async with await Wire.connect(bench.gateway.url) as wire:
        for prompt in ("first", "second"):
            await wire.send(post(ask(prompt), **offer))
            assert (await wire.response()).status == 200
            assert prompt.encode() in bench.upstream.requests[-1].body
        await wire.send(post(ask("third")))
        assert (await wire.response()).status == 200


async def test_an_offer_that_comes_in_pieces_is_not_taken_either(bench: Bench) -> None:
    request = post(ask("pieces"), **H2C)
    async with await Wire.connect(bench.gateway.url) as wire:
        for at in range(0, len(request), 40):
            await wire.send(request[at : at + 40])
            await asyncio.sleep(0.01)
        assert (await wire.response()).status == 200
        assert b"pieces" in bench.upstream.requests[-1].body


async def test_an_offer_with_a_close_is_closed(bench: Bench) -> None:
    async with await Wire.connect(bench.gateway.url) as wire:
        await wire.send(post(ask("last"), connection="Upgrade, close", upgrade="h2c"))
        assert (await wire.response()).status == 200
        assert await wire.hung_up(KEEP_ALIVE_S / 2) == b""


async def test_a_tunnel_is_refused(bench: Bench) -> None:
    async with await Wire.connect(bench.gateway.url) as wire:
        await wire.send(b"CONNECT gateway:443 HTTP/1.1\r\nhost: gateway\r\n\r\n")
        assert (await wire.hung_up()).startswith(b"HTTP/1.1 400 ")
