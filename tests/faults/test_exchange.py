"""What a client may do to a hot request, byte by byte: bodies of every shape, odd heads, leaving at every moment."""

import asyncio
import gc
import socket
import threading
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace

import pytest
import uvloop
from msgspec import structs

from gateway.api import exchange, front
from gateway.api.connection import Connection
from gateway.api.exchange import DirectExchange
from gateway.api.live import Live
from gateway.app import Factory
from gateway.core.context import Phase, RequestContext
from gateway.record import Recorder, Tray
from gateway.settings.models import SimulatedSettings
from gateway.settings.service import LimitsSettings
from gateway.settings.simulated import simulated_settings
from gateway.telemetry.metrics import Metrics
from tests.faults.wire import Response, Wire, ask, eventually, post
from tests.serving import served

QUICK, SLOW = "simulated-small", "simulated-large"
MAX_BODY_BYTES = 100_000
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


@dataclass
class Bench:
    """A gateway in this process: one model answers at once, the other lets a second pass between tokens."""

    url: str
    live: Live
    loop: asyncio.AbstractEventLoop
    records: list[tuple[str, Phase]] = field(default_factory=list)

    def record(self, ctx: RequestContext) -> None:
        """Take down how a request ended, and where."""
        self.records.append((ctx.outcome, ctx.phase))

    async def call(self, request: bytes) -> Response:
        async with await Wire.connect(self.url) as wire:
            await wire.send(request)
            return await wire.response()

    async def left_in(self, phase: Phase) -> None:
        """The one request so far was cancelled there, and its place is free again."""
        await eventually(lambda: len(self.records) == 1, 1.0)
        assert self.records == [("cancelled", phase)]
        await eventually(lambda: self.live.pipeline.parts.in_flight.count == 0, 1.0)


@asynccontextmanager
async def opened() -> AsyncIterator[Bench]:
    fleet = simulated_settings()
    manners = {QUICK: SimulatedSettings(ttft_s=0, tokens_per_s=0), SLOW: SimulatedSettings(ttft_s=0, tokens_per_s=1)}
    models = {name: structs.replace(fleet.models[name], simulated=manner) for name, manner in manners.items()}
    limits = LimitsSettings(max_body_bytes=MAX_BODY_BYTES, max_in_flight=5_000)
    settings = structs.replace(fleet, models=models, limits=limits)
    factory = Factory(Metrics())
    live = Live(factory.build(settings), settings)
    async with served(live) as url:
        bench = Bench(url, live, asyncio.get_running_loop())
        tray = Tray(Recorder({"bench": bench.record}, str), Recorder({}, str))
        live.pipeline.parts = replace(live.pipeline.parts, record=tray.put)
        yield bench
    await live.pipeline.close()
    await factory.close()


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    """Run it as it is served: on uvloop, whose transports differ from asyncio's in when they tell what."""
    loop, stack = uvloop.new_event_loop(), AsyncExitStack()
    with ThreadPoolExecutor(1) as thread:
        running = thread.submit(loop.run_forever)
        yield await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(stack.enter_async_context(opened()), loop))
        await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(stack.aclose(), loop))
        loop.call_soon_threadsafe(loop.stop)
        await asyncio.wrap_future(running)
    loop.close()


def quick(**fields: object) -> bytes:
    return post(ask("hi", QUICK, **fields))


def slow(**fields: object) -> bytes:
    return post(ask("hi", SLOW, **fields))


def chunked(body: bytes, size: int, trailer: bytes = b"") -> bytes:
    head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n"
    parts = [body[at : at + size] for at in range(0, len(body), size)]
    return head + b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n" + trailer + b"\r\n"


def with_head(body: bytes, *lines: bytes, version: bytes = b"1.1", target: bytes = b"/v1/chat/completions") -> bytes:
    return b"\r\n".join([b"POST %b HTTP/%b" % (target, version), b"host: a", *lines, b"", b""]) + body


BODY = ask("hi", QUICK)
LENGTH = b"content-length: %d" % len(BODY)


@pytest.mark.parametrize("trailer", [b"", b"x-sum: 1\r\n"], ids=["", "trailer"])
@pytest.mark.parametrize("size", [1, 7, 10_000])
async def test_a_chunked_body_is_read_whole(bench, size, trailer):
    async with await Wire.connect(bench.url) as wire:
        for _ in range(2):
            await wire.send(chunked(BODY, size, trailer))
            assert (await wire.response()).status == 200


async def test_a_body_that_comes_byte_by_byte_is_read_whole(bench):
    request = quick()
    async with await Wire.connect(bench.url) as wire:
        for at in range(len(request)):
            await wire.send(request[at : at + 1])
            await asyncio.sleep(0)
        assert (await wire.response()).status == 200


@pytest.mark.parametrize("size", [1, 50_000])
async def test_a_chunked_body_over_its_bound_is_refused_and_the_connection_closed(bench, size):
    async with await Wire.connect(bench.url) as wire:
        await wire.send(chunked(b" " * (MAX_BODY_BYTES + 1), size)[:-5])
        answer = await wire.response()
        assert (answer.status, answer.code, answer.headers["connection"]) == (413, "request_too_large", "close")
        assert await wire.hung_up(3.0) == b""
    assert bench.records[0][0] == "request_too_large"


async def test_a_body_that_just_fits_is_taken(bench):
    body = BODY[:-1] + b" " * (MAX_BODY_BYTES - len(BODY)) + b"}"
    assert (await bench.call(post(body))).status == 200
    assert (await bench.call(post(body[:-1] + b" }"))).status == 413


async def test_a_body_that_is_refused_unread_keeps_no_connection_busy(bench):
    async with await Wire.connect(bench.url) as wire:
        await wire.send(with_head(b"", b"content-length: 50000", b"x-postern-tier: 7"))
        answer = await wire.response()
        assert (answer.status, answer.headers["connection"]) == (400, "close")
        assert await wire.hung_up(2.0) == b""


async def test_who_asks_whether_to_send_its_body_is_told_so_once(bench):
    async with await Wire.connect(bench.url) as wire:
        for _ in range(2):
            await wire.send(with_head(b"", LENGTH, b"Expect: 100-Continue"))
            assert await wire.read(len(CONTINUE)) == CONTINUE
            await wire.send(BODY)
            assert (await wire.response()).status == 200


@pytest.mark.parametrize("late", [False, True])
async def test_who_need_not_ask_is_not_told(bench, late):
    request = with_head(BODY, LENGTH, b"expect: 100-continue", version=b"1.0" if late else b"1.1")
    async with await Wire.connect(bench.url) as wire:
        await wire.send(request[: -len(BODY)] if late else request)
        await asyncio.sleep(0.05)
        await wire.send(BODY if late else b"")
        assert (await wire.head())[0] == 200


async def test_a_body_too_large_by_its_length_is_not_asked_for(bench):
    async with await Wire.connect(bench.url) as wire:
        await wire.send(with_head(b"", b"content-length: 100001", b"expect: 100-continue"))
        assert (await wire.head())[0] == 413


SMUGGLED = {
    "two lengths": (LENGTH, b"content-length: 5"),
    "length and chunks": (LENGTH, b"transfer-encoding: chunked"),
    "chunks and length": (b"transfer-encoding: chunked", LENGTH),
    "chunks not last": (b"transfer-encoding: chunked, gzip",),
    "chunks in disguise": (b"transfer-encoding: xchunked", LENGTH),
    "a negative length": (b"content-length: -1",),
    "a length with a sign": (b"content-length: +5",),
    "a length in hex": (b"content-length: 0x10",),
    "a folded header": (b"x-a: 1\r\n b", LENGTH),
    "a space before the colon": (b"content-length : 5",),
    "a bare carriage return": (b"x-a: 1\rcontent-length: 5", LENGTH),
}


@pytest.mark.parametrize("name", SMUGGLED)
async def test_a_body_whose_end_two_servers_might_see_apart_is_refused(bench, name):
    hidden = post(ask("smuggled", QUICK))
    async with await Wire.connect(bench.url) as wire:
        await wire.send(with_head(BODY, *SMUGGLED[name]) + hidden)
        assert (await wire.hung_up(3.0)).startswith(b"HTTP/1.1 400 ")
    assert "ok" not in dict(bench.records)


@pytest.mark.parametrize("bad", [b"zz\r\n", b"-1\r\n", b"5\r\nabcdefg\r\n", b"ffffffffffffffffff\r\n"])
async def test_a_body_that_stops_being_http_is_refused_at_once(bench, bad):
    async with await Wire.connect(bench.url) as wire:
        await wire.send(with_head(b"5\r\n{    \r\n", b"transfer-encoding: chunked"))
        await asyncio.sleep(0.02)
        await wire.send(bad)
        answer = await wire.response()
        assert (answer.status, answer.code, answer.headers["connection"]) == (400, "invalid_request", "close")
        assert await wire.hung_up(1.0) == b""


FAULTY = {
    "no JSON": (post(b"{"), 400),
    "no model": (post(ask("hi", "nobody")), 404),
    "a bad threshold": (post(BODY, x_postern_threshold="7"), 400),
    "another method": (b"GET /v1/chat/completions HTTP/1.1\r\nhost: a\r\n\r\n", 405),
    "nothing there": (b"GET /nothing HTTP/1.1\r\nhost: a\r\n\r\n", 404),
}


@pytest.mark.parametrize("name", FAULTY)
async def test_a_connection_serves_on_after_a_fault(bench, name):
    request, status = FAULTY[name]
    async with await Wire.connect(bench.url) as wire:
        for _ in range(2):
            await wire.send(request)
            assert (await wire.response()).status == status
            await wire.send(quick(stream=True))
            assert (await wire.response()).text
            await wire.send(quick())
            assert (await wire.response()).status == 200


async def test_who_asks_by_head_gets_a_head_alone(bench):
    async with await Wire.connect(bench.url) as wire:
        await wire.send(b"HEAD /v1/chat/completions HTTP/1.1\r\nhost: a\r\n\r\n")
        status, headers = await wire.head()
        assert (status, headers["allow"]) == (405, "POST")
        assert int(headers["content-length"]) > 0
        await wire.send(quick())
        assert (await wire.response()).status == 200


@pytest.mark.parametrize(
    "target",
    [
        b"/v1/chat/completions?a=b", b"/v1/chat%2Fcompletions", b"/v1/%63hat/completions",
        b"http://a/v1/chat/completions",
    ],
)  # fmt: skip
async def test_a_hot_path_is_one_however_it_is_written(bench, target):
    assert (await bench.call(with_head(BODY, LENGTH, target=target))).status == 200
    assert bench.records[0][0] == "ok"


@pytest.mark.parametrize("stream", [False, True])
async def test_an_old_client_gets_what_it_can_read(bench, stream):
    body = ask("hi", QUICK, stream=stream)
    async with await Wire.connect(bench.url) as wire:
        await wire.send(with_head(body, b"content-length: %d" % len(body), version=b"1.0"))
        status, headers = await wire.head()
        assert (status, headers["connection"]) == (200, "close")
        assert "transfer-encoding" not in headers
        told = await wire.hung_up()
        assert told.endswith(b"data: [DONE]\n\n" if stream else b"}")
        assert told.startswith(b"data: " if stream else b"{")


@pytest.mark.parametrize("stream", [False, True])
async def test_who_asks_for_a_close_gets_it(bench, stream):
    async with await Wire.connect(bench.url) as wire:
        await wire.send(post(ask("hi", QUICK, stream=stream), connection="close"))
        answer = await wire.response()
        assert (answer.status, answer.headers["connection"]) == (200, "close")
        assert await wire.hung_up(1.0) == b""


async def test_every_answer_has_a_date_and_one_id(bench):
    for request in (quick(), quick(stream=True), post(b"{"), post(BODY, "/nothing")):
        answer = await bench.call(request)
        assert answer.headers["date"].endswith(" GMT")
        assert answer.headers["x-request-id"].startswith("req-")


async def test_a_block_is_a_chunk_and_neither_waits_for_the_next(bench):
    async with await Wire.connect(bench.url) as wire:
        await wire.send(slow(stream=True))
        await wire.head()
        async with asyncio.timeout(0.5):  # the second token takes a second
            block = await wire.chunk()
        assert block.startswith(b"data: ")
        assert block.endswith(b"\n\n")


async def test_leaving_before_the_walk_has_begun_is_counted(bench, monkeypatch):
    read = Connection.data_received

    def read_to_the_end(self, data):
        read(self, data)
        self.eof_received()
        self.transport.close()

    monkeypatch.setattr(Connection, "data_received", read_to_the_end)
    async with await Wire.connect(bench.url) as wire:
        await wire.send(slow())
        await bench.left_in(Phase.RECEIVE)


@pytest.mark.parametrize("stream", [False, True])
async def test_who_sends_no_more_has_gone(bench, stream):
    """As nginx has it: a client that has gone can't be told from one that only sends no more."""
    async with await Wire.connect(bench.url) as wire:
        await wire.send(slow(stream=stream))
        await eventually(lambda: bench.live.pipeline.parts.in_flight.count == 1)
        if stream:
            await wire.head()
        wire.half_close()
        await bench.left_in(Phase.RELAY if stream else Phase.UPSTREAM)
        await wire.hung_up(1.0)


async def test_leaving_while_the_request_is_judged_stops_the_walk(bench):
    class Slow:
        version = "1"

        async def judge(self, _, tenant=None):
            await asyncio.sleep(60)

    parts = bench.live.pipeline.parts
    bench.live.pipeline.parts = replace(parts, classifiers=dict.fromkeys(parts.classifiers, Slow()))
    async with await Wire.connect(bench.url) as wire:
        await wire.send(post(ask("hi", "auto")))
        await eventually(lambda: parts.in_flight.count == 1)
        wire.leave()
        await bench.left_in(Phase.CLASSIFY)


async def test_leaving_while_a_refused_body_is_heard_out_leaves_nothing(bench, monkeypatch):
    monkeypatch.setattr(exchange, "LINGER_S", 60)
    monkeypatch.setattr(exchange, "LINGER_IDLE_S", 60)
    gc.collect()
    async with await Wire.connect(bench.url) as wire:
        await wire.send(with_head(b"", b"content-length: 50000", b"x-postern-tier: 7"))
        await wire.response()
        wire.leave()
        await eventually(lambda: not living())


def living() -> list[object]:
    """Connections and exchanges that anything still holds, be it a cycle."""
    # By `type`: some libraries' objects, asked for their class, first make something.
    return [one for one in gc.get_objects() if type(one) in {Connection, DirectExchange}]


MOMENTS = {
    "head": slow()[:40],
    "body": slow()[:-5],
    "upstream": slow(),
    "stream": slow(stream=True),
    "ahead": slow(stream=True) + quick()[:50],
    "idle": quick(),
    "refused": with_head(b"", b"content-length: 50000", b"x-postern-tier: 7"),
    "faulty": post(b"{"),
}


async def test_two_thousand_disconnects_leave_nothing_for_the_garbage_collector(bench):
    tasks = len(asyncio.all_tasks(bench.loop))
    gc.collect()
    gc.disable()
    try:
        for n in range(250):
            wires = [await Wire.connect(bench.url) for _ in MOMENTS]
            for wire, request in zip(wires, MOMENTS.values(), strict=True):
                await wire.send(request)
            await asyncio.sleep(0.002 * (n % 3))
            for wire in wires:
                wire.leave(reset=n % 2 == 0)
            del wire, wires
        await eventually(lambda: len(asyncio.all_tasks(bench.loop)) <= tasks, 5.0)
        await eventually(lambda: not living(), 5.0)
    finally:
        gc.enable()
    assert bench.live.pipeline.parts.in_flight.count == 0
    assert (await bench.call(quick())).status == 200


async def test_of_a_crowd_in_one_turn_each_is_served_and_each_is_accounted_for_once(bench, monkeypatch):
    monkeypatch.setattr(front, "AT_ONCE", 4)
    wires = [await Wire.connect(bench.url) for _ in range(30)]
    sent = threading.Event()
    bench.loop.call_soon_threadsafe(sent.wait, 10)  # what is sent meanwhile arrives in one turn
    for wire in wires:
        await wire.send(quick())
    for wire in wires[::3]:
        wire.leave(reset=True)
    await asyncio.sleep(0.1)  # asyncio closes sockets in its next turn
    sent.set()
    stayed = [wire for place, wire in enumerate(wires) if place % 3]
    statuses = [(await wire.response()).status for wire in stayed]
    await asyncio.gather(*(wire.close() for wire in stayed))
    assert statuses == [200] * 20
    await eventually(lambda: len(bench.records) == 30)
    # Who has left may have been answered before the leaving was seen.
    assert {outcome for outcome, _ in bench.records} <= {"ok", "cancelled"}
    await eventually(lambda: bench.live.pipeline.parts.in_flight.count == 0)


async def test_a_fault_of_ours_while_answering_hangs_nobody(bench, monkeypatch):
    async def fail(*_):
        raise ZeroDivisionError

    monkeypatch.setattr(DirectExchange, "answer", fail)
    monkeypatch.setattr(DirectExchange, "fail", fail)
    async with await Wire.connect(bench.url) as wire:
        await wire.send(quick())
        assert await wire.hung_up(1.0) == b""


async def test_small_blocks_leave_at_once(bench):
    """Nagle's algorithm would hold a block back until the one before is acknowledged: 40 ms."""
    async with await Wire.connect(bench.url) as wire:
        await wire.send(slow(stream=True))
        await wire.head()
        connections = [one for one in living() if type(one) is Connection]
        sockets = [one.transport.get_extra_info("socket") for one in connections]
        assert [one.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) for one in sockets] == [1]
