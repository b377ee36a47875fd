"""The `openai` backend over a fake HTTP seam: whatever goes wrong, the response is closed."""

import asyncio

import pytest

from gateway.backends.http import IteratedResponse
from gateway.backends.http1_pool import Http1Client
from gateway.backends.openai import OpenAIBackend
from gateway.core.errors import PosternError, UpstreamFailureError, UpstreamInterruptedError, UpstreamTimeoutError
from gateway.schema.request import Operation
from gateway.schema.sse import DONE
from gateway.settings.models import BackendKind, TimeoutSettings
from tests.builders import STREAM, call, chunk, collect, model, raised_by, request
from tests.byte_server import ByteServer

PING = b": ping\n\n"
IMPATIENT = TimeoutSettings(first_byte_s=2.0, between_chunks_s=0.05)


class FakeHttp:
    """Answer every request with one status and these chunks, a number being a pause; count what is left open."""

    def __init__(self, *chunks, status=200, hangs=False):
        self.chunks, self.status, self.hangs = chunks, status, hangs
        self.open_now = 0

    async def send(self, _):
        self.open_now += 1
        return IteratedResponse(self.status, {}, self._read(), self._close)

    async def _read(self):
        for piece in self.chunks:
            if isinstance(piece, bytes):
                yield piece
            else:
                await asyncio.sleep(piece)
        if self.hangs:
            await asyncio.Event().wait()

    async def _close(self):
        self.open_now = 0  # closing twice harms nobody


def backend(http, url="http://upstream/v1", **settings):
    return OpenAIBackend("m", url, model(backend=BackendKind.OPENAI, **settings), http)


async def stream(http, operation=Operation.CHAT, timeouts=None, **body):
    asked = call(request(operation, stream=True, **body))
    return await collect(await backend(http, timeouts=timeouts or TimeoutSettings()).open(asked))


@pytest.mark.parametrize("is_streaming", [True, False])
@pytest.mark.parametrize(
    "http",
    [
        FakeHttp(b'data: {"error":{"message":"x"}}\n\n', hangs=True),
        FakeHttp(b"<html>\n\n"),
        FakeHttp(b'{"error":{"message":"x"}}', status=500),
        FakeHttp(b'{"error":{"message":"x"}}', status=400),
        FakeHttp(),
        FakeHttp(hangs=True),
    ],
    ids=["error in stream", "page", "500", "400", "nothing", "silence"],
)
async def test_a_call_that_fails_leaves_no_response_open(http, is_streaming):
    error = await raised_by(backend(http).open(call(request(stream=is_streaming), seconds=0.05)))
    assert isinstance(error, PosternError)
    assert http.open_now == 0


async def test_a_cancelled_call_leaves_no_response_open():
    http = FakeHttp(hangs=True)
    task = asyncio.create_task(backend(http).open(call(request(stream=True))))
    await asyncio.sleep(0.01)
    assert http.open_now == 1
    task.cancel()
    assert isinstance(await raised_by(task), asyncio.CancelledError)
    assert http.open_now == 0


async def test_a_stream_read_to_its_end_is_passed_on_and_closed():
    http = FakeHttp(STREAM)
    assert await collect(await backend(http).open(call(request(stream=True)))) == STREAM
    assert http.open_now == 0


async def test_the_end_of_a_whole_answer_waits_for_no_more_of_its_response():
    http = FakeHttp(STREAM, hangs=True)
    answer = await backend(http).open(call(request(stream=True)))
    async with asyncio.timeout(0):
        assert [block async for block in answer.blocks] == [STREAM]
    await answer.close()
    assert http.open_now == 0


async def test_a_connection_whose_end_came_after_its_answers_is_used_again():
    async def script(peer):
        while True:
            await peer.request()
            await peer.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n%x\r\n" % len(STREAM), STREAM)
            await asyncio.sleep(0.01)
            await peer.send(b"\r\n0\r\n\r\n")

    async with ByteServer(script) as server:
        client = Http1Client(connect_s=1, max_connections=2)
        for _ in range(3):
            assert await collect(await backend(client, url=server.url).open(call(request(stream=True)))) == STREAM
            await asyncio.sleep(0.1)
        assert server.connections == 1
        await client.close()


@pytest.mark.parametrize("before", [(0.2,), (PING, 0.2), (0.1, PING, 0.1)], ids=["headers", "a ping", "a late ping"])
async def test_until_the_first_event_only_its_own_time_out_counts(before):
    assert await stream(FakeHttp(*before, STREAM), timeouts=IMPATIENT) == PING * (PING in before) + STREAM


async def test_pings_do_not_stretch_the_wait_for_the_first_event():
    http = FakeHttp(*[PING, 0.02] * 100, STREAM)
    with pytest.raises(UpstreamTimeoutError, match="sent nothing"):
        await stream(http, timeouts=TimeoutSettings(first_byte_s=0.1))
    assert http.open_now == 0


async def test_after_the_first_event_silence_is_bounded_by_its_own_time_out():
    http = FakeHttp(chunk("Hel"), 0.5, STREAM)
    with pytest.raises(UpstreamTimeoutError, match="fell silent"):
        await stream(http, timeouts=IMPATIENT)
    assert http.open_now == 0


async def test_an_error_after_a_ping_still_comes_before_the_answer_begins():
    http = FakeHttp(PING, b'data: {"error":{"message":"x"}}\n\n')
    error = await raised_by(backend(http).open(call(request(stream=True))))
    assert isinstance(error, UpstreamFailureError)
    assert http.open_now == 0


async def test_pings_without_end_do_not_fill_the_memory(monkeypatch):
    monkeypatch.setattr("gateway.backends.openai_stream.MAX_EVENT_BYTES", 100)
    error = await raised_by(backend(FakeHttp(*[PING] * 100, STREAM)).open(call(request(stream=True))))
    assert isinstance(error, UpstreamFailureError)


def finish(index):
    return chunk(finish_reason="stop", index=index)


BOTH_BEGUN = chunk("one") + chunk("two", index=1)
TWO_PROMPTS = {"operation": Operation.COMPLETION, "prompt": ["a", [1, 2]]}


@pytest.mark.parametrize(
    ("sent", "asked"),
    [
        ([BOTH_BEGUN, finish(0)], {"n": 2}),
        ([BOTH_BEGUN, finish(0), finish(0)], {"n": 2}),
        ([BOTH_BEGUN + finish(1)], {"n": 2}),
        ([BOTH_BEGUN, finish(0), finish(1)], {"n": 3}),
        ([BOTH_BEGUN, finish(0)], TWO_PROMPTS),
        ([BOTH_BEGUN, finish(0), finish(1)], TWO_PROMPTS | {"n": 2}),
        ([chunk("one", note={"finish_reason": "stop"})], {}),
        ([b'data: {"finish_reason":"stop",\n\n'], {}),
    ],
)
async def test_an_end_without_done_before_each_choice_has_finished_is_no_end(sent, asked):
    with pytest.raises(UpstreamInterruptedError):
        await stream(FakeHttp(*sent), **asked)


@pytest.mark.parametrize(
    ("sent", "asked"),
    [
        ([BOTH_BEGUN, finish(0), finish(1)], {"n": 2}),
        ([BOTH_BEGUN + finish(1) + finish(0)], {"n": 2}),
        ([BOTH_BEGUN, finish(0), finish(1)], TWO_PROMPTS),
        ([chunk("one"), finish(0)], {"n": None}),
        ([chunk("one"), finish(0)], {"operation": Operation.COMPLETION, "prompt": [1, 2, 3]}),
    ],
)
async def test_an_end_without_done_after_every_choice_has_finished_is_one(sent, asked):
    assert await stream(FakeHttp(*sent), **asked) == b"".join(sent) + DONE


async def test_done_is_believed_whatever_finished():
    assert await stream(FakeHttp(BOTH_BEGUN, finish(0), DONE), n=2) == BOTH_BEGUN + finish(0) + DONE
