"""The lean client alone: connections that can't be trusted, and many requests for few of them."""

import asyncio
import random
import socket

import pytest

from gateway.backends import http1, http1_pool
from gateway.backends.http import HttpError, HttpHead, HttpRequest, header_lines
from gateway.backends.http1 import MAX_BARREN_BYTES
from gateway.backends.http1_exchange import HIGH_WATER_BYTES
from gateway.backends.http1_pool import Http1Client
from tests.byte_server import (
    ANSWER_AND_CLOSE,
    OK,
    ByteServer,
    ThreadServer,
    answering,
    hanging,
    hold_up,
    on_both_loops,
    saying,
)

CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"


def lean(**options):
    return Http1Client(**{"connect_s": 1.0, "max_connections": 4, **options})


def asked(url, body=b"{}", **options):
    return HttpRequest(HttpHead(url, {}), body, whole_bytes=options.pop("whole_bytes", 10**6), **options)


async def exchange(client, request):
    async with asyncio.timeout(5):
        response = await client.send(request)
        body = await response.read(10**6)
        await response.close()
        return response.status, body


def pool_of(client):
    (pool,) = client._pools.values()
    return pool


@on_both_loops
async def test_a_request_that_meets_a_connection_closed_before_is_sent_once_more():
    with ThreadServer((*ANSWER_AND_CLOSE, "pause"), ANSWER_AND_CLOSE) as server:
        client = lean()
        assert await exchange(client, asked(server.url)) == (200, b"hi")
        hold_up()
        assert await exchange(client, asked(server.url)) == (200, b"hi")
        assert server.requests == 2
        await client.close()


@on_both_loops
async def test_where_one_idle_connection_was_closed_another_is_not_trusted_either():
    held = ("read", "answer", "read")
    with ThreadServer(held, ANSWER_AND_CLOSE) as server:
        client = lean(max_connections=1)
        assert await exchange(client, asked(server.url)) == (200, b"hi")
        connection = next(iter(pool_of(client)._idle))
        fresh = await pool_of(client)._obtain_fresh()
        assert fresh is not connection
        assert pool_of(client)._places_taken == 1
        pool_of(client).release(fresh)
        await client.close()


@on_both_loops
async def test_a_request_that_a_server_took_and_did_not_answer_is_not_sent_again():
    with ThreadServer(("read", "answer", "read"), ANSWER_AND_CLOSE) as server:
        client = lean()
        assert await exchange(client, asked(server.url)) == (200, b"hi")
        with pytest.raises(HttpError, match="before its answer"):
            await exchange(client, asked(server.url))
        assert server.requests == 2
        await client.close()


@on_both_loops
async def test_a_request_on_a_new_connection_is_never_sent_again():
    with ThreadServer((), ANSWER_AND_CLOSE) as server:
        client = lean()
        with pytest.raises(HttpError):
            await exchange(client, asked(server.url, b"x" * 1000))
        assert server.requests == 0
        await client.close()


@on_both_loops
async def test_what_a_connection_said_beyond_its_answer_is_never_the_next_answer():
    lie = OK + b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil"
    async with ByteServer(answering(lie)) as server:
        client = lean()
        for _ in range(3):
            assert await exchange(client, asked(server.url)) == (200, b"hi")
        assert server.connections == 3
        await client.close()


@pytest.mark.parametrize("extra", [b"x", b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil"])
@on_both_loops
async def test_a_connection_that_speaks_unasked_is_closed(extra):
    async def script(peer):
        await peer.request()
        await peer.send(OK)
        await asyncio.sleep(0.02)
        await peer.send(extra)
        await peer.gone()

    async with ByteServer(script) as server:
        client = lean(max_connections=1)
        assert await exchange(client, asked(server.url)) == (200, b"hi")
        await server.idle()
        assert await exchange(client, asked(server.url)) == (200, b"hi")
        await client.close()


@on_both_loops
async def test_whoever_waits_longest_for_a_connection_gets_the_next():
    async def slowly(peer):
        while True:
            await peer.request()
            await asyncio.sleep(0.005)
            await peer.send(OK)

    order = []

    async def ask(number):
        await exchange(client, asked(server.url))
        order.append(number)

    async with ByteServer(slowly) as server:
        client = lean(max_connections=1)
        tasks = []
        for number in range(6):
            tasks.append(asyncio.create_task(ask(number)))
            await asyncio.sleep(0)
        await asyncio.gather(*tasks)
        assert order == list(range(6))
        await client.close()


@on_both_loops
async def test_a_place_that_comes_free_by_a_failure_goes_to_whoever_waits():
    async def script(peer):
        await peer.request()
        await asyncio.sleep(0.02)
        if peer.number > 1:
            await peer.send(OK)

    async with ByteServer(script) as server:
        client = lean(max_connections=1)
        first, second = (asyncio.create_task(exchange(client, asked(server.url))) for _ in range(2))
        with pytest.raises(HttpError):
            await first
        assert await second == (200, b"hi")
        await client.close()


@on_both_loops
async def test_what_comes_free_in_the_turn_of_leaving_is_anothers():
    async with ByteServer(answering(OK)) as server:
        client = lean(max_connections=1)
        await exchange(client, asked(server.url))
        pool = pool_of(client)
        connection = pool._find_idle()
        for given in (connection, None):
            task = asyncio.create_task(pool._wait())
            await asyncio.sleep(0)
            if given is None:
                connection.hang_up(HttpError("gone"))
            else:
                pool.release(given)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            assert task.cancelled()
            connection = pool._find_idle()
        assert connection is None
        assert pool._places_taken == 0
        assert await exchange(client, asked(server.url)) == (200, b"hi")
        await client.close()


async def misbehave(peer):
    """Do something else each time: answer, dawdle, break off, lie or hang up."""
    manner = random.Random(peer.number)
    while True:
        await peer.request()
        kind = manner.choice(["answer"] * 6 + ["late", "half", "extra", "close", "reset", "stall", "slow"])
        if kind == "late":
            await asyncio.sleep(0.005)
        elif kind == "slow":
            await peer.send(CHUNKED + b"1\r\nh\r\n", b"1\r\ni\r\n", pause_s=0.002)
            await peer.send(b"0\r\n\r\n")
            continue
        elif kind == "stall":
            await peer.gone()
            return
        elif kind == "reset":
            peer.reset()
            return
        elif kind != "answer":
            await peer.send({"half": OK[:-1], "extra": OK + b"x", "close": b""}[kind])
            return
        await peer.send(OK)


@pytest.mark.parametrize("seed", range(5))
@on_both_loops
async def test_whatever_is_cancelled_and_whatever_servers_do_every_place_comes_back(seed):
    chance = random.Random(seed)
    told = []

    async def ask():
        whole_bytes = chance.choice([0, 100])
        try:
            async with asyncio.timeout(chance.choice([0.001, 0.003, 0.01, 0.05])):
                response = await client.send(asked(server.url, whole_bytes=whole_bytes))
                body = await response.read(100)
                told.append((response.status, body))
                await (response.finish if chance.random() < 0.5 else response.close)()
        except HttpError:
            pass

    async with ByteServer(misbehave) as server:
        client = lean(max_connections=3, connect_s=0.02)
        for _ in range(30):
            tasks = [asyncio.create_task(ask()) for _ in range(10)]
            await asyncio.sleep(chance.choice([0, 0, 0.002, 0.01]))
            for task in tasks:
                if chance.random() < 0.3:
                    task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        assert set(told) == {(200, b"hi")}
        await asyncio.sleep(0.1)
        pool = pool_of(client)
        assert pool._places_taken == len(pool._connections) == len(pool._idle) <= 3
        assert not pool._waiting
        await client.close()
        assert pool._places_taken == 0
        await server.idle()


@on_both_loops
async def test_a_connection_that_is_idle_for_too_long_is_closed(monkeypatch):
    monkeypatch.setattr(http1_pool, "IDLE_S", 0.05)
    async with ByteServer(answering(OK)) as server:
        client = lean()
        await exchange(client, asked(server.url))
        assert server.open_now == 1
        await server.idle()
        assert (pool_of(client)._places_taken, len(pool_of(client)._idle)) == (0, 0)
        await client.close()


ENDLESS = {
    "head": b"HTTP/1.1 200 OK\r\n" + b"x-more: %b\r\n" % (b"y" * 100) * 20_000,
    "one header": b"HTTP/1.1 200 OK\r\nx-more: " + b"y" * 2_000_000,
    "interim answers": b"HTTP/1.1 102 Processing\r\n\r\n" * 80_000,
    "chunk extension": CHUNKED + b"2;" + b"y" * 2_000_000,
    "trailers": CHUNKED + b"0\r\n" + b"x-more: %b\r\n" % (b"y" * 100) * 20_000,
    "one trailer": CHUNKED + b"0\r\nx: " + b"y" * 2_000_000,
}


@pytest.mark.parametrize("what", ENDLESS)
@on_both_loops
async def test_a_server_that_never_comes_to_a_body_is_hung_up_on(what):
    async with ByteServer(hanging(ENDLESS[what])) as server:
        client = lean()
        with pytest.raises(HttpError, match=f"{MAX_BARREN_BYTES} bytes"):
            await exchange(client, asked(server.url))
        await server.idle()
        await client.close()


@pytest.mark.parametrize("headers", [b"", b"connection: upgrade\r\nupgrade: websocket\r\n"])
@on_both_loops
async def test_a_change_of_protocol_that_nobody_asked_for_is_an_error(headers):
    async with ByteServer(hanging(b"HTTP/1.1 101 Switching Protocols\r\n" + headers + b"\r\n" + OK)) as server:
        client = lean()
        with pytest.raises(HttpError, match="protocol"):
            await exchange(client, asked(server.url))
        await server.idle()
        await client.close()


@on_both_loops
async def test_an_answer_before_the_request_was_sent_is_taken_and_its_connection_is_not():
    async def hasty(peer):
        await peer.reader.readuntil(b"\r\n\r\n")
        await peer.send(b"HTTP/1.1 413 Too Large\r\ncontent-length: 2\r\n\r\nno")
        await asyncio.sleep(0.2)

    async with ByteServer(hasty) as server:
        client = lean()
        assert await exchange(client, asked(server.url, b"x" * 30_000_000)) == (413, b"no")
        assert not pool_of(client)._idle
        await client.close()


@on_both_loops
async def test_a_large_body_arrives_whole():
    async with ByteServer(answering(OK)) as server:
        client = lean()
        for body in (b"", b"x", b"y" * 65_535, b"z" * 65_536, b"w" * 5_000_000):
            server.requests.clear()
            assert await exchange(client, asked(server.url, body)) == (200, b"hi")
            assert server.requests[0].partition(b"\r\n\r\n")[2] == body
        await client.close()


@on_both_loops
async def test_a_server_is_held_up_while_nobody_reads_and_nothing_is_lost():
    sent_bytes = 0

    async def flood(peer):
        nonlocal sent_bytes
        await peer.request()
        await peer.send(CHUNKED)
        for _ in range(300):
            await peer.send(b"186a0\r\n" + b"x" * 100_000 + b"\r\n")
            sent_bytes += 100_000
        await peer.send(b"0\r\n\r\n")
        await peer.gone()

    async with ByteServer(flood) as server:
        client = lean()
        response = await client.send(asked(server.url, whole_bytes=0))
        await asyncio.sleep(0.3)
        seen_bytes = sent_bytes
        await asyncio.sleep(0.1)
        assert seen_bytes == sent_bytes < 30_000_000
        assert HIGH_WATER_BYTES <= response._held_bytes < 2 * HIGH_WATER_BYTES + 1_000_000
        assert sum([len(chunk) async for chunk in response.chunks]) == 30_000_000
        assert len(pool_of(client)._idle) == 1
        await client.close()


@on_both_loops
async def test_a_connection_is_read_again_after_an_answer_that_was_held_back():
    body = b"x" * (HIGH_WATER_BYTES + 1)
    async with ByteServer(answering(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body) + body, OK)) as server:
        client = lean()
        response = await client.send(asked(server.url, whole_bytes=0))
        await asyncio.sleep(0.1)
        assert await exchange(client, asked(server.url)) == (200, b"hi")
        assert await response.read(10**6) == body
        assert server.connections == 1
        await client.close()


@on_both_loops
async def test_what_has_come_since_the_last_read_is_one_chunk():
    async with ByteServer(saying(CHUNKED, *[b"2\r\nhi\r\n"] * 3, b"0\r\n\r\n", pause_s=0.01)) as server:
        client = lean()
        response = await client.send(asked(server.url, whole_bytes=0))
        await asyncio.sleep(0.2)
        assert [chunk async for chunk in response.chunks] == [b"hihihi"]
        await client.close()


@on_both_loops
async def test_a_cancelled_read_loses_nothing():
    async with ByteServer(saying(CHUNKED, b"2\r\nhi\r\n0\r\n\r\n", pause_s=0.05)) as server:
        client = lean()
        response = await client.send(asked(server.url, whole_bytes=0))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await anext(response.chunks)
        assert [chunk async for chunk in response.chunks] == [b"hi"]
        await client.close()


@on_both_loops
async def test_what_came_before_a_fault_is_read_before_it_is_raised():
    async with ByteServer(saying(CHUNKED + b"2\r\nhi\r\n")) as server:
        client = lean()
        response = await client.send(asked(server.url, whole_bytes=0))
        await asyncio.sleep(0.05)
        assert await anext(response.chunks) == b"hi"
        for _ in range(2):
            with pytest.raises(HttpError, match="in the middle"):
                await anext(response.chunks)
        await client.close()


@on_both_loops
async def test_what_one_response_was_given_to_end_does_not_run_on_into_the_next(monkeypatch):
    monkeypatch.setattr(http1, "DRAIN_S", 0.5)

    async def in_two(peer):
        while True:
            await peer.request()
            await peer.send(CHUNKED + b"2\r\nhi\r\n")
            await asyncio.sleep(0.3)
            await peer.send(b"0\r\n\r\n")

    async with ByteServer(in_two) as server:
        client = lean()
        for _ in range(2):
            response = await client.send(asked(server.url, whole_bytes=0))
            assert await anext(response.chunks) == b"hi"
            await response.finish()
            async with asyncio.timeout(3):
                while not pool_of(client)._idle:  # noqa: ASYNC110 - a plain dictionary
                    await asyncio.sleep(0.005)
        assert server.connections == 1
        await client.close()


@on_both_loops
async def test_small_writes_are_not_held_back():
    async with ByteServer(answering(OK)) as server:
        client = lean()
        await exchange(client, asked(server.url))
        (connection,) = pool_of(client)._idle
        socket_ = connection._transport.get_extra_info("socket")
        assert socket_.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        await client.close()


@on_both_loops
async def test_a_request_is_written_as_the_standard_has_it():
    async with ByteServer(answering(OK)) as server:
        client = lean()
        url = server.url + "/a b?q=ü&r=1 2#fragment"
        await exchange(client, HttpRequest(HttpHead(url, {"x-one": "1"}), b"body", {"x-two": "2"}, 100))
        await exchange(client, HttpRequest(HttpHead(f"http://127.0.0.1:{server.port}", {}, "GET"), whole_bytes=100))
        assert server.requests == [
            b"POST /v1/a%%20b?q=%%C3%%BC&r=1%%202 HTTP/1.1\r\nhost: 127.0.0.1:%d\r\nx-one: 1\r\nx-two: 2\r\n"
            b"content-length: 4\r\n\r\nbody" % server.port,
            b"GET / HTTP/1.1\r\nhost: 127.0.0.1:%d\r\ncontent-length: 0\r\n\r\n" % server.port,
        ]
        await client.close()


@on_both_loops
async def test_an_ipv6_address_is_reached_and_named_in_brackets():
    async with ByteServer(answering(OK), host="::1") as server:
        client = lean()
        assert await exchange(client, asked(server.url)) == (200, b"hi")
        assert b"\r\nhost: [::1]:%d\r\n" % server.port in server.requests[0]
        await client.close()


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("http://example.com/v1", b"example.com"),
        ("http://EXAMPLE.com:80/v1", b"example.com"),
        ("https://example.com:443/v1", b"example.com"),
        ("https://example.com:80/v1", b"example.com:80"),
        ("https://bücher.example/v1", b"xn--bcher-kva.example"),
    ],
)
def test_a_host_is_named_with_its_port_unless_that_is_the_schemes_own(url, host):
    assert HttpHead(url, {}).wire == b"POST /v1 HTTP/1.1\r\nhost: %b\r\n" % host


@pytest.mark.parametrize(
    "url", ["ftp://h/", "http:///v1", "h/v1", "http://user:hush@h/", "http://h:99999/", "http://[::1/", "http://ü" * 90]
)
@on_both_loops
async def test_a_url_that_leads_nowhere_is_an_error_that_shows_nothing_of_it(url):
    with pytest.raises(HttpError) as raised:
        await lean().send(asked(url))
    assert raised.value.is_connecting
    assert "hush" not in str(raised.value)


def test_no_header_goes_beyond_its_line():
    assert header_lines({"x-a": "1", "x-b": ""}) == "x-a: 1\r\nx-b: \r\n"
    for value in ("a\r", "a\n", "a\x00", "é", "\x7f"):
        with pytest.raises(HttpError):
            header_lines({"x-a": value})


@on_both_loops
async def test_who_was_connecting_when_the_client_closed_sends_nothing():
    async with ByteServer(hanging(OK)) as server:
        client = lean()
        task = asyncio.create_task(client.send(asked(server.url)))
        await asyncio.sleep(0)
        await client.close()
        with pytest.raises(HttpError, match="closed"):
            await task
        await server.idle()
        assert server.requests == []


@on_both_loops
async def test_nothing_is_sent_by_a_client_that_is_closed():
    async with ByteServer(hanging(CHUNKED)) as server:
        client = lean(max_connections=1)
        response = await client.send(asked(server.url, whole_bytes=0))
        waiting = asyncio.create_task(client.send(asked(server.url)))
        await asyncio.sleep(0.01)
        await client.close()
        for work in (lambda: waiting, lambda: client.send(asked(server.url)), lambda: anext(response.chunks)):
            with pytest.raises(HttpError, match="closed"):
                await work()
        await server.idle()
