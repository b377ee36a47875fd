"""Connecting: several addresses, TLS, and every way in which it can be given up."""

import asyncio
import socket
import ssl

import pytest

from gateway.backends import dial as dialling
from gateway.backends.dial import Goal, dial, in_turns
from gateway.backends.http import HttpError, HttpHead, HttpRequest
from gateway.backends.http1_pool import Commons, Http1Client
from tests.byte_server import ANSWER_AND_CLOSE, OK, ByteServer, ThreadServer, answering, hold_up, on_both_loops
from tests.certificates import make_certificate
from tests.faults.wire import Blackhole, is_connecting_to


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A certificate for localhost that is its own authority, and its key."""
    return make_certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def trust(certificate):
    return ssl.create_default_context(cafile=certificate[0])


@pytest.fixture
def context(certificate):
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.load_cert_chain(*certificate)
    return made


def lean(**options):
    return Http1Client(**{"connect_s": 1.0, "max_connections": 1, **options})


def asked(url):
    return HttpRequest(HttpHead(url, {}), b"{}", whole_bytes=100)


async def body_of(client, url):
    async with asyncio.timeout(5):
        return await (await client.send(asked(url))).read(100)


@on_both_loops
async def test_a_trusted_server_is_spoken_to_again_and_again_over_http11(trust, context):
    context.set_alpn_protocols(["h2", "http/1.1"])
    named = []
    context.sni_callback = lambda _, name, __: named.append(name)
    async with ByteServer(answering(OK), context=context) as server:
        client = lean(trust=trust)
        url = f"https://localhost:{server.port}/v1"
        for _ in range(3):
            assert await body_of(client, url) == b"hi"
        assert (server.connections, named) == (1, ["localhost"])
        (pool,) = client._pools.values()
        (connection,) = pool._idle
        assert connection._transport.get_extra_info("ssl_object").selected_alpn_protocol() == "http/1.1"
        await client.close()
        await server.idle()


@on_both_loops
async def test_an_address_is_checked_against_the_certificate_too(trust, context):
    async with ByteServer(answering(OK), context=context) as server:
        client = lean(trust=trust)
        assert await body_of(client, f"https://127.0.0.1:{server.port}/v1") == b"hi"
        await client.close()


@on_both_loops
async def test_a_request_that_meets_an_encrypted_connection_closed_before_is_sent_once_more(trust, context):
    with ThreadServer((*ANSWER_AND_CLOSE, "pause", "goodbye"), ANSWER_AND_CLOSE, context=context) as server:
        client = lean(trust=trust)
        assert await body_of(client, server.url) == b"hi"
        hold_up()
        assert await body_of(client, server.url) == b"hi"
        assert server.requests == 2
        await client.close()


@on_both_loops
async def test_a_stranger_is_not_trusted_and_the_reason_is_told(context):
    async with ByteServer(answering(OK), context=context) as server:
        client = lean()
        for _ in range(3):
            with pytest.raises(HttpError, match="certificate") as raised:
                await body_of(client, f"https://localhost:{server.port}/v1")
            assert raised.value.is_connecting
        await client.close()
        assert server.requests == []


@on_both_loops
async def test_a_certificate_for_another_name_is_not_taken(trust, context):
    async with ByteServer(answering(OK), host="127.0.0.2", context=context) as server:
        client = lean(trust=trust)
        with pytest.raises(HttpError, match="certificate"):
            await body_of(client, server.url)
        await client.close()


def test_what_the_machine_trusts_is_read_once_for_all():
    commons = Commons()
    assert commons.trust is commons.trust
    assert commons.trust.verify_mode is ssl.CERT_REQUIRED
    assert commons.trust.check_hostname


@on_both_loops
async def test_a_handshake_that_does_not_end_is_a_timeout_and_takes_no_place(trust):
    async def mute(peer):
        await peer.gone()

    async with ByteServer(mute) as server:
        client = lean(trust=trust, connect_s=0.1)
        for _ in range(3):
            with pytest.raises(HttpError) as raised:
                await body_of(client, f"https://localhost:{server.port}/v1")
            assert raised.value.is_connecting
            assert raised.value.is_timeout
        await server.idle()
        await client.close()


@on_both_loops
async def test_whoever_leaves_during_a_handshake_takes_the_connection_along(trust):
    async def mute(peer):
        await peer.gone()

    async with ByteServer(mute) as server:
        client = lean(trust=trust, connect_s=5)
        for _ in range(3):
            task = asyncio.create_task(body_of(client, f"https://localhost:{server.port}/v1"))
            while not server.open_now:  # noqa: ASYNC110 - a plain number
                await asyncio.sleep(0.002)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await server.idle()
        (pool,) = client._pools.values()
        assert pool._places_taken == 0
        await client.close()


@on_both_loops
async def test_a_server_that_does_not_take_connections_is_a_timeout():
    with Blackhole() as hole:
        client = lean(connect_s=0.1)
        for _ in range(2):
            with pytest.raises(HttpError) as raised:
                await body_of(client, hole.url)
            assert raised.value.is_connecting
            assert raised.value.is_timeout
        assert not is_connecting_to(hole.port)
        await client.close()


@on_both_loops
async def test_whoever_leaves_while_connecting_leaves_nothing_behind():
    with Blackhole() as hole:
        client = lean(connect_s=5)
        task = asyncio.create_task(body_of(client, hole.url))
        while not is_connecting_to(hole.port):  # noqa: ASYNC110 - the kernel's own table
            await asyncio.sleep(0.005)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await asyncio.sleep(0.01)
        assert not is_connecting_to(hole.port)
        (pool,) = client._pools.values()
        assert pool._places_taken == 0
        await client.close()


@on_both_loops
async def test_a_name_that_nobody_has_is_an_error_before_anything_was_sent():
    client = lean(connect_s=5)
    with pytest.raises(HttpError) as raised:
        await body_of(client, "http://no-such-host.invalid/v1")
    assert raised.value.is_connecting
    await client.close()


def info(address, family=socket.AF_INET):
    where = (address, 80) if family == socket.AF_INET else (address, 80, 0, 2 if address.startswith("fe80") else 0)
    return family, socket.SOCK_STREAM, 6, "", where


def test_families_take_turns_from_the_resolvers_first_choice_on():
    six = [info("::1", socket.AF_INET6), info("::2", socket.AF_INET6), info("fe80::1", socket.AF_INET6)]
    four = [info("10.0.0.1"), info("10.0.0.2")]
    assert in_turns(six + four) == ["::1", "10.0.0.1", "::2", "10.0.0.2", "fe80::1%2"]
    assert in_turns(four) == ["10.0.0.1", "10.0.0.2"]


class Lookup:
    """A loop that finds these addresses for every name; some swallow what is sent there, or all connect in one turn."""

    def __init__(self, monkeypatch, *addresses, swallowing=(), gate=None):
        loop = asyncio.get_running_loop()
        connect = loop.create_connection
        self.tried, self.made = [], []

        async def getaddrinfo(*_, **__):
            return [info(one) for one in addresses]

        async def create_connection(make, address, *given, **named):
            self.tried.append(address)
            if address in swallowing:
                await asyncio.Event().wait()
            made = await connect(make, address, *given, **named)
            self.made.append(made[0])
            if gate is not None and len(self.made) == len(addresses):
                gate.set()
            elif gate is not None:
                await self._wait(gate, made[0])
            return made

        monkeypatch.setattr(loop, "getaddrinfo", getaddrinfo)
        monkeypatch.setattr(loop, "create_connection", create_connection)

    async def _wait(self, gate, transport):
        try:
            await gate.wait()
        except asyncio.CancelledError:
            transport.abort()  # as create_connection does
            raise


def goal(port):
    return Goal("name", port, asyncio.Protocol)


async def test_an_address_that_swallows_packets_is_overtaken(monkeypatch):
    monkeypatch.setattr(dialling, "STAGGER_S", 0.01)
    async with ByteServer(answering(OK)) as server:
        lookup = Lookup(monkeypatch, "127.0.0.2", "127.0.0.1", swallowing=("127.0.0.2",))
        async with asyncio.timeout(2):
            await dial(goal(server.port))
        assert lookup.tried == ["127.0.0.2", "127.0.0.1"]
        lookup.made[0].abort()


async def test_an_address_that_refuses_is_followed_by_the_next_at_once(monkeypatch):
    monkeypatch.setattr(dialling, "STAGGER_S", 60)
    async with ByteServer(answering(OK)) as server:
        lookup = Lookup(monkeypatch, "127.0.0.2", "127.0.0.1")
        async with asyncio.timeout(2):
            await dial(goal(server.port))
        assert lookup.tried == ["127.0.0.2", "127.0.0.1"]
        lookup.made[0].abort()


async def test_whoever_connects_in_the_same_turn_is_hung_up_on(monkeypatch):
    monkeypatch.setattr(dialling, "STAGGER_S", 0.001)
    async with ByteServer(answering(OK), host="0.0.0.0") as server:
        lookup = Lookup(monkeypatch, "127.0.0.2", "127.0.0.3", gate=asyncio.Event())
        await dial(goal(server.port))
        await asyncio.sleep(0.01)
        assert [one.is_closing() for one in lookup.made].count(False) == 1
        for one in lookup.made:
            one.abort()


async def test_where_every_address_fails_the_last_failure_is_told(monkeypatch):
    Lookup(monkeypatch, "127.0.0.2", "127.0.0.3")
    with pytest.raises(ConnectionRefusedError):
        await dial(goal(1))
    Lookup(monkeypatch)
    with pytest.raises(OSError, match="no address"):
        await dial(goal(1))


async def test_who_gives_up_a_race_leaves_no_one_running(monkeypatch):
    monkeypatch.setattr(dialling, "STAGGER_S", 0.001)
    Lookup(monkeypatch, "127.0.0.2", "127.0.0.3", swallowing=("127.0.0.2", "127.0.0.3"))
    task = asyncio.create_task(dial(goal(1)))
    await asyncio.sleep(0.02)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == {asyncio.current_task()}
