"""Pouring: a stream's chunks are given on in the turn in which they come, and nothing else changes."""

import asyncio
import contextlib

import pytest

from gateway.backends.events import EventReader
from gateway.backends.http import HttpError, HttpHead, HttpRequest
from gateway.backends.http1_pool import Http1Client
from gateway.backends.openai_stream import OpenAIStream
from gateway.backends.silence import Silence
from gateway.core.deadlines import Wheel
from gateway.core.errors import UpstreamTimeoutError
from tests.byte_server import ByteServer, on_both_loops

CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"


def framed(*pieces):
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)


class Told:
    """A server that sends what a test tells it, and a client whose response it is."""

    def __init__(self):
        self.says = asyncio.Queue()
        self._server = ByteServer(self._script)
        self._client = Http1Client(connect_s=1.0, max_connections=1)

    async def _script(self, peer):
        await peer.request()
        await peer.send(CHUNKED)
        while (said := await self.says.get()) is not None:
            await peer.send(said)

    def say(self, *said):
        for one in said:
            self.says.put_nowait(one)

    async def __aenter__(self):
        await self._server.__aenter__()
        self.response = await self._client.send(HttpRequest(HttpHead(self._server.url, {}), b"{}"))
        return self

    async def __aexit__(self, *failure):
        await self.response.close()
        await self._client.close()
        self.say(None)
        await self._server.__aexit__(*failure)


class Taken(list):
    """Takes chunks, so many of them willingly."""

    def __init__(self, willing=10**6):
        super().__init__()
        self.willing = willing
        self.came = asyncio.Event()

    def __call__(self, chunk):
        self.append(chunk)
        self.came.set()
        return len(self) < self.willing


async def poured(source, taken):
    async with asyncio.timeout(5):
        await source.pour(taken)


async def begin_pouring(told, chunk):
    """Return who takes, and the task that pours, once a first chunk has been poured."""
    taken = Taken()
    pouring = asyncio.create_task(poured(told.response, taken))
    told.say(framed(chunk))
    await taken.came.wait()
    return taken, pouring


@on_both_loops
async def test_what_came_with_one_read_is_given_on_as_one():
    async with Told() as told:
        taken = Taken(1)
        pouring = asyncio.create_task(poured(told.response, taken))
        await asyncio.sleep(0)
        told.say(framed(b"a", b"b", b"c"))
        await pouring
        assert taken == [b"abc"]


@on_both_loops
async def test_what_comes_after_a_refusal_is_left_to_the_reader():
    async with Told() as told:
        taken = Taken(2)
        pouring = asyncio.create_task(poured(told.response, taken))
        for chunk in (b"a", b"b", b"c"):
            told.say(framed(chunk))
            await asyncio.sleep(0.02)
        await pouring
        assert taken == [b"a", b"b"]
        assert await anext(told.response.chunks) == b"c"


@on_both_loops
async def test_what_waits_already_is_read_before_anything_is_poured():
    async with Told() as told:
        told.say(framed(b"a"))
        await asyncio.sleep(0.05)
        taken = Taken()
        await poured(told.response, taken)
        assert (taken, await anext(told.response.chunks)) == ([], b"a")


@on_both_loops
async def test_the_last_chunks_and_the_end_are_left_to_the_reader():
    async with Told() as told:
        taken = Taken()
        pouring = asyncio.create_task(poured(told.response, taken))
        await asyncio.sleep(0)
        told.say(framed(b"a", b"b") + b"0\r\n\r\n")
        await pouring
        assert [*taken, *[chunk async for chunk in told.response.chunks]] == [b"ab"]


@on_both_loops
async def test_a_connection_that_breaks_is_the_readers_to_hear_of():
    async with Told() as told:
        _, pouring = await begin_pouring(told, b"a")
        told.say(None)
        await pouring
        with pytest.raises(HttpError, match="in the middle of its answer"):
            await anext(told.response.chunks)


@on_both_loops
async def test_one_who_is_cancelled_while_chunks_are_poured_takes_none_any_more():
    async with Told() as told:
        taken, pouring = await begin_pouring(told, b"a")
        pouring.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await pouring
        told.say(framed(b"b"))
        async with asyncio.timeout(5):
            assert await anext(told.response.chunks) == b"b"
        assert taken == [b"a"]


@on_both_loops
async def test_a_takers_fault_is_raised_to_who_pours_and_breaks_no_connection():
    def fail(_):
        raise ZeroDivisionError

    async with Told() as told:
        pouring = asyncio.create_task(poured(told.response, fail))
        await asyncio.sleep(0)
        told.say(framed(b"a"))
        with pytest.raises(ZeroDivisionError):
            await pouring
        told.say(framed(b"b"))
        async with asyncio.timeout(5):
            assert await anext(told.response.chunks) == b"b"


def event(text):
    return b'data: {"choices":[{"index":0,"delta":{"content":"%b"},"finish_reason":null}]}\n\n' % text


class RenewedSilence(Silence):
    """Counts how often it was begun anew."""

    count = 0

    def renew(self):
        self.count += 1
        super().renew()


def stream_of(told, silence_s):
    """Return a stream, and what bounds its silence."""
    wheel = Wheel()
    silence = RenewedSilence(wheel, silence_s, wheel.loop.time() + 60)
    return OpenAIStream("small", told.response, EventReader("small"), silence), silence


@on_both_loops
async def test_a_stream_that_falls_silent_while_it_is_poured_is_ended():
    async with Told() as told:
        (stream, _), taken = stream_of(told, 0.05), Taken()
        told.say(framed(event(b"a")))
        await stream.begin()
        assert await anext(stream) == event(b"a")
        with pytest.raises(UpstreamTimeoutError, match="fell silent"):
            await poured(stream, taken)
        await stream.close()


@on_both_loops
async def test_each_poured_chunk_begins_the_silence_anew():
    async with Told() as told:
        (stream, silence), taken = stream_of(told, 5.0), Taken(3)
        told.say(framed(event(b"a")))
        await stream.begin()
        await anext(stream)
        pouring = asyncio.create_task(poured(stream, taken))
        for count in (1, 2, 3):
            told.say(framed(event(b"b")))
            async with asyncio.timeout(5):
                await taken.came.wait()
            taken.came.clear()
            assert (len(taken), silence.count) == (count, count)
        await pouring
        assert taken == [event(b"b")] * 3
        await stream.close()


@on_both_loops
async def test_half_an_event_is_held_back_and_done_ends_the_pouring():
    async with Told() as told:
        (stream, _), taken = stream_of(told, 5.0), Taken()
        told.say(framed(event(b"a")))
        await stream.begin()
        await anext(stream)
        pouring = asyncio.create_task(poured(stream, taken))
        whole = event(b"b")
        for part in (whole[:20], whole[20:] + event(b"c")[:5], event(b"c")[5:], b"data: [DONE]\n\n"):
            told.say(framed(part))
            await asyncio.sleep(0.02)
        await pouring
        assert taken == [whole, event(b"c"), b"data: [DONE]\n\n"]
        assert [block async for block in stream] == []
        await stream.close()
