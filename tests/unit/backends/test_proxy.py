"""A forward proxy: whose name and password are nobody's business, and which carries all of a model's requests."""

import asyncio

import pytest

from gateway.app import make_backends
from gateway.backends.http1_pool import Commons, Http1Client
from gateway.backends.httpx2_client import Httpx2Client
from gateway.core.secret import Secret
from gateway.settings.crosscheck import crosscheck, draft_whole
from gateway.settings.models import BackendKind
from gateway.settings.root import Settings
from gateway.settings.routes import RouteSettings
from tests.builders import body, call, collect, model
from tests.byte_server import ByteServer, answering

ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body()) + body()


def made(**settings):
    (backend,) = make_backends(Commons())("m", model(backend=BackendKind.OPENAI, urls=("http://h/v1",), **settings))
    return backend


def test_without_a_proxy_the_lean_client_asks():
    assert isinstance(made()._client, Http1Client)
    assert isinstance(made(proxy=Secret("http://p:1"))._client, Httpx2Client)


async def test_a_proxy_carries_what_goes_to_the_model():
    async with ByteServer(answering(ANSWER)) as proxy:
        backend = made(proxy=Secret(f"http://me:hush@127.0.0.1:{proxy.port}"))
        assert await collect(await backend.open(call())) == body()
        (told,) = proxy.requests
        assert told.startswith(b"POST http://h/v1/chat/completions HTTP/1.1\r\n")
        assert b"\r\nproxy-authorization: basic " in told.lower()
        await backend.close()
        await asyncio.sleep(0)


def faults_of(proxy, **settings):
    proxied = model(**{"backend": BackendKind.OPENAI, "urls": ("http://h/v1",), "proxy": Secret(proxy), **settings})
    found = Settings(models={"m": proxied}, routes={"r": RouteSettings(models=("m",))})
    return [fault for fault in crosscheck(draft_whole(found)) if fault.path.startswith("models.m.")]


@pytest.mark.parametrize("proxy", ["http://proxy:3128", "https://me:hush%40@proxy:3128", "http://[::1]:3128/"])
def test_a_proxys_url_is_no_fault(proxy):
    assert faults_of(proxy) == []


NO_PROXIES = ["hush:3128", "socks5://hush:1", "http://", "http://hush:port", "http://hüsh:1", "", "http://p:1/hush"]


@pytest.mark.parametrize("proxy", [*NO_PROXIES, "http://p:1?hush", "http://p:1#hush"])
def test_what_is_no_proxys_url_is_a_fault_that_does_not_show_it(proxy):
    (fault,) = faults_of(proxy)
    assert fault.path == "models.m.proxy"
    assert "hush" not in str(fault)


def test_only_an_openai_server_is_reached_through_a_proxy():
    (fault,) = faults_of("http://proxy:1", backend=BackendKind.SIMULATED, urls=())
    assert (fault.path, fault.problem) == ("models.m.proxy", "is for `backend: openai` only")
