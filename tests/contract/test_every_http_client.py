"""What every HttpClient promises to the backends, whatever the server does. Each on both event loops."""

import asyncio
import zlib

import pytest

from gateway.backends.http import HttpError, HttpHead, HttpRequest
from gateway.backends.http1_pool import Http1Client
from gateway.backends.httpx2_client import Httpx2Client
from tests.byte_server import OK, ByteServer, answering, hanging, on_both_loops, saying

CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
every_client = pytest.mark.parametrize("make", [Http1Client, Httpx2Client], ids=["lean", "httpx2"])


def client_of(make, **options):
    return make(**{"connect_s": 1.0, "max_connections": 4, **options})


def asked(url, body=b"{}", **options):
    return HttpRequest(HttpHead(url, {"content-type": "application/json"}), body, **options)


async def exchange(client, request):
    """Return the status and the whole body."""
    async with asyncio.timeout(5):
        response = await client.send(request)
        try:
            return response.status, b"".join([chunk async for chunk in response.chunks])
        finally:
            await response.close()


BODIES = {
    "length": OK,
    "chunks": CHUNKED + b"1\r\nh\r\n1\r\ni\r\n0\r\n\r\n",
    "chunks with extensions": CHUNKED + b"1;a=b\r\nh\r\n01\r\ni\r\n0;last\r\n\r\n",
    "trailers": CHUNKED + b"2\r\nhi\r\n0\r\nx-sum: 1\r\nx-more: 2\r\n\r\n",
    "the connection's end": b"HTTP/1.1 200 OK\r\n\r\nhi",
    "HTTP/1.0": b"HTTP/1.0 200 OK\r\n\r\nhi",
    "after 100": b"HTTP/1.1 100 Continue\r\n\r\n" + OK,
    "after several interim ones": b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n" + OK,
    "no reason": b"HTTP/1.1 200\r\ncontent-length: 2\r\n\r\nhi",
    "an empty header": b"HTTP/1.1 200 OK\r\nx-empty:\r\ncontent-length: 2\r\n\r\nhi",
    "closing": b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nhi",
}


@every_client
@pytest.mark.parametrize("how", BODIES)
@pytest.mark.parametrize("whole_bytes", [0, 100], ids=["as it comes", "whole"])
@on_both_loops
async def test_a_body_is_read_to_its_end_however_that_is_told_and_wherever_it_is_cut(make, how, whole_bytes):
    raw = BODIES[how]
    for pieces in ([raw], [raw[:9], raw[9:-1], raw[-1:]], [bytes([one]) for one in raw]):
        async with ByteServer(saying(*pieces)) as server:
            client = client_of(make)
            response = await client.send(asked(server.url, whole_bytes=whole_bytes))
            assert (response.status, await response.read(100)) == (200, b"hi")
            await response.close()
            await client.close()


@every_client
@pytest.mark.parametrize("raw", [OK, b"HTTP/1.1 200 OK\r\n\r\nhi"], ids=["length", "the connection's end"])
@on_both_loops
async def test_a_server_that_says_no_more_but_listens_on_has_answered(make, raw):
    async def half_close(peer):
        await peer.request()
        await peer.send(raw)
        peer.end()
        await peer.gone()

    async with ByteServer(half_close) as server:
        client = client_of(make, max_connections=1)
        for _ in range(2):
            assert await exchange(client, asked(server.url)) == (200, b"hi")
            await asyncio.sleep(0.02)
        assert server.connections == 2
        await client.close()


@every_client
@pytest.mark.parametrize("status", [204, 304])
@on_both_loops
async def test_a_status_without_a_body_has_none_whatever_its_length_says(make, status):
    raw = b"HTTP/1.1 %d Nothing\r\ncontent-length: 5\r\n\r\n" % status
    async with ByteServer(answering(raw, OK)) as server:
        client = client_of(make)
        assert await exchange(client, asked(server.url)) == (status, b"")
        assert await exchange(client, asked(server.url)) == (200, b"hi")
        assert server.connections == 1
        await client.close()


BROKEN = {
    "nothing": b"",
    "half a head": b"HTTP/1.1 200 OK\r\nconte",
    "half of the length": b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhi",
    "no last chunk": CHUNKED + b"2\r\nhi\r\n",
    "half a chunk": CHUNKED + b"9\r\nhi",
    "garbage": b"\x16\x03\x01 hello\r\n\r\n",
    "another protocol": b"SSH-2.0-OpenSSH_9.6\r\n",
    "no size": CHUNKED + b"xyz\r\nhi\r\n0\r\n\r\n",
    "two lengths": b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nhi!",
    "a negative length": b"HTTP/1.1 200 OK\r\ncontent-length: -2\r\n\r\nhi",
    "a transfer coding": b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\nhi",
    "only an interim answer": b"HTTP/1.1 100 Continue\r\n\r\n",
}


@every_client
@pytest.mark.parametrize("how", BROKEN)
@on_both_loops
async def test_what_breaks_off_or_is_no_http_is_an_error_and_its_connection_is_gone(make, how):
    async with ByteServer(saying(BROKEN[how])) as server:
        client = client_of(make)
        for whole_bytes in (0, 100):
            with pytest.raises(HttpError) as raised:
                await exchange(client, asked(server.url, whole_bytes=whole_bytes))
            assert not raised.value.is_connecting
            assert not raised.value.is_timeout
        await server.idle()
        await client.close()


@every_client
@on_both_loops
async def test_connections_are_used_again_one_after_another(make):
    async with ByteServer(answering(OK, CHUNKED + b"2\r\nhi\r\n0\r\n\r\n")) as server:
        client = client_of(make)
        for _ in range(5):
            assert await exchange(client, asked(server.url)) == (200, b"hi")
        assert server.connections == 1
        await client.close()
        await server.idle()


@every_client
@on_both_loops
async def test_a_server_that_hangs_up_while_idle_is_connected_to_anew(make):
    async def once(peer):
        await peer.request()
        await peer.send(OK)

    async with ByteServer(once) as server:
        client = client_of(make)
        for _ in range(3):
            assert await exchange(client, asked(server.url)) == (200, b"hi")
            await server.idle()
            await asyncio.sleep(0.01)
        assert server.connections == 3
        await client.close()


@every_client
@on_both_loops
async def test_no_more_connections_are_open_than_allowed_and_every_request_gets_one(make):
    async def slowly(peer):
        while True:
            await peer.request()
            await asyncio.sleep(0.01)
            await peer.send(OK)

    async with ByteServer(slowly) as server:
        client = client_of(make, max_connections=3)
        told = await asyncio.gather(*(exchange(client, asked(server.url)) for _ in range(20)))
        assert told == [(200, b"hi")] * 20
        assert server.connections == 3
        await client.close()


@every_client
@on_both_loops
async def test_a_connection_that_does_not_come_free_is_a_timeout_before_anything_was_sent(make):
    async with ByteServer(saying(OK[:-1], OK[-1:], pause_s=0.5)) as server:
        client = client_of(make, max_connections=1, connect_s=0.1)
        first = await client.send(asked(server.url))
        with pytest.raises(HttpError) as raised:
            await client.send(asked(server.url))
        assert raised.value.is_connecting
        assert raised.value.is_timeout
        await first.close()
        assert (await exchange(client, asked(server.url)))[0] == 200
        await client.close()


@every_client
@on_both_loops
async def test_a_refused_connection_is_an_error_before_anything_was_sent(make):
    client = client_of(make)
    with pytest.raises(HttpError) as raised:
        await client.send(asked("http://127.0.0.1:1/v1"))
    assert raised.value.is_connecting
    await client.close()


PHASES = {
    "before the head": [b"", b""],
    "in the head": [OK[:10], b""],
    "in the body": [OK[:-1], b""],
    "in a chunk": [CHUNKED + b"9\r\nhi", b""],
}


@every_client
@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("whole_bytes", [0, 100], ids=["as it comes", "whole"])
@on_both_loops
async def test_a_cancelled_request_leaves_neither_a_connection_nor_a_place_taken(make, phase, whole_bytes):
    """encode/httpcore#1093: after as many cancellations as connections, every call was a PoolTimeout."""
    beginning = PHASES[phase][0]
    has_begun = asyncio.Event()

    async def hang(peer):
        while peer.number > 4:
            await peer.request()
            await peer.send(OK)
        await peer.request()
        await peer.send(beginning)
        has_begun.set()
        await peer.gone()

    async with ByteServer(hang) as server:
        client = client_of(make, max_connections=2)
        for _ in range(4):
            has_begun.clear()
            task = asyncio.create_task(exchange(client, asked(server.url, whole_bytes=whole_bytes)))
            await has_begun.wait()
            await asyncio.sleep(0.01)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            assert task.cancelled()
            await server.idle()
        told = await asyncio.gather(*(exchange(client, asked(server.url)) for _ in range(4)))
        assert told == [(200, b"hi")] * 4
        await client.close()


@every_client
@on_both_loops
async def test_whoever_is_cancelled_while_waiting_for_a_place_takes_none(make):
    goes_on = asyncio.Event()

    async def slowly(peer):
        while True:
            await peer.request()
            await goes_on.wait()
            await peer.send(OK)

    async with ByteServer(slowly) as server:
        client = client_of(make, max_connections=1)
        waiting = [asyncio.create_task(exchange(client, asked(server.url))) for _ in range(5)]
        await asyncio.sleep(0.02)
        waiting[1].cancel()
        waiting[3].cancel()
        goes_on.set()
        told = await asyncio.gather(*waiting, return_exceptions=True)
        assert [one for one in told if not isinstance(one, asyncio.CancelledError)] == [(200, b"hi")] * 3
        assert await exchange(client, asked(server.url)) == (200, b"hi")
        assert server.connections == 1
        await client.close()


@every_client
@on_both_loops
async def test_a_response_closed_early_takes_its_connection_along(make):
    async with ByteServer(hanging(CHUNKED + b"2\r\nhi\r\n")) as server:
        client = client_of(make, max_connections=1)
        for _ in range(3):
            response = await client.send(asked(server.url))
            assert await anext(response.chunks) == b"hi"
            await response.close()
            await response.close()
            await server.idle()
        await client.close()


@every_client
@on_both_loops
async def test_a_finished_response_leaves_its_connection_to_others_if_its_end_comes_soon(make):
    async def in_two(peer):
        while True:
            await peer.request()
            await peer.send(CHUNKED + b"2\r\nhi\r\n")
            await asyncio.sleep(0.01)
            await peer.send(b"0\r\n\r\n")

    async with ByteServer(in_two) as server:
        client = client_of(make)
        for _ in range(3):
            response = await client.send(asked(server.url))
            assert await anext(response.chunks) == b"hi"
            await response.finish()
            await asyncio.sleep(0.1)
        assert server.connections == 1
        await client.close()


@every_client
@on_both_loops
async def test_a_finished_response_without_an_end_is_hung_up_on(make):
    async with ByteServer(hanging(CHUNKED + b"2\r\nhi\r\n")) as server:
        client = client_of(make)
        response = await client.send(asked(server.url))
        await response.finish()
        await server.idle()
        await client.close()


@every_client
@pytest.mark.parametrize(
    ("value", "told"), [("sk-schlüssel", "ASCII"), ("a\r\nx-evil: 1", None), ("a\nx-evil: 1", None), ("a\0b", None)]
)
@on_both_loops
async def test_a_header_that_cannot_be_sent_is_an_error_that_does_not_show_it(make, value, told):
    async with ByteServer(answering(OK)) as server:
        client = client_of(make, max_connections=1)
        for request in (
            HttpRequest(HttpHead(server.url, {"authorization": value})),
            HttpRequest(HttpHead(server.url, {}), headers={"x-request-id": value}),
        ):
            with pytest.raises(HttpError) as raised:
                await exchange(client, request)
            assert value not in str(raised.value)
            assert told is None or told in str(raised.value)
            assert value not in repr(raised.value.__cause__)
        assert await exchange(client, asked(server.url)) == (200, b"hi")
        assert b"x-evil" not in b"".join(server.requests)
        await client.close()


def gzipped(data, wbits=31):
    packer = zlib.compressobj(wbits=wbits)
    return packer.compress(data) + packer.flush()


@every_client
@pytest.mark.parametrize("wbits", [31, 15, -15], ids=["gzip", "deflate", "raw deflate"])
@on_both_loops
async def test_what_was_packed_unasked_is_unpacked(make, wbits):
    text = b"data: hello\n\n" * 50
    packed = gzipped(text, wbits)
    name = b"gzip" if wbits == 31 else b"deflate"
    raw = b"HTTP/1.1 200 OK\r\nContent-Encoding: %b\r\ncontent-length: %d\r\n\r\n" % (name, len(packed)) + packed
    async with ByteServer(answering(raw)) as server:
        client = client_of(make)
        assert await exchange(client, asked(server.url)) == (200, text)
        response = await client.send(asked(server.url, whole_bytes=10_000))
        assert await response.read(10_000) == text
        await response.close()
        await client.close()


@every_client
@on_both_loops
async def test_a_body_over_its_limit_is_none(make):
    body = b"x" * 100_000
    async with ByteServer(answering(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body) + body)) as server:
        client = client_of(make)
        for whole_bytes in (0, 99_999):
            response = await client.send(asked(server.url, whole_bytes=whole_bytes))
            assert await response.read(99_999) is None
            await response.close()
        response = await client.send(asked(server.url, whole_bytes=100_000))
        assert await response.read(100_000) == body
        await response.close()
        await client.close()


@every_client
@on_both_loops
async def test_a_client_that_is_closed_leaves_nothing_open(make):
    async with ByteServer(answering(OK)) as server:
        client = client_of(make)
        await exchange(client, asked(server.url))
        await client.close()
        await server.idle()
