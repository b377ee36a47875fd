"""CPU of HTTP clients, each alone, in turns: what docs/adr/0014 tabulates. Run by hand: `python -m loadtests.clients`.

One process asks, on uvloop, another answers at once: 2 KB up, 1.5 KB down with 32 in flight, then 10 streams of 400
chunks, 2 ms apart. `bare` is a protocol and httptools with nothing around them, the least that there is. aiohttp is
measured where it is installed.
"""

import argparse
import asyncio
import json
import multiprocessing
import random
import resource
import statistics
from collections.abc import AsyncIterator, Awaitable, Callable
from importlib.util import find_spec
from multiprocessing.connection import Connection
from typing import Any, Protocol

import httptools
import uvloop

from gateway.backends.http import HttpClient, HttpHead, HttpRequest
from gateway.backends.http1_pool import Http1Client
from gateway.backends.httpx2_client import Httpx2Client

if find_spec("aiohttp"):
    import aiohttp

PATH = "/v1/chat/completions"
HEADERS = {"content-type": "application/json", "accept-encoding": "identity", "user-agent": "postern"}
ASK = json.dumps({"model": "m", "messages": [{"role": "user", "content": "y" * 1900}], "max_tokens": 300}).encode()
ASK_STREAM = ASK[:-1] + b', "stream": true}'
ANSWER = json.dumps({"choices": [{"index": 0, "message": {"content": "x" * 1400}, "finish_reason": "stop"}]}).encode()
EVENT = b'data: {"choices":[{"index":0,"delta":{"content":" word"},"logprobs":null,"finish_reason":null}]}\n\n'
STREAMS, CHUNKS, GAP_S = 10, 400, 0.002
TURN = {"bare": 20_000, "lean": 20_000, "aiohttp": 6_000, "httpx2": 2_000}


class Subject(Protocol):
    """A client under measurement."""

    async def close(self) -> None:
        """Close what is open."""
        ...

    async def whole(self) -> bytes:
        """Ask for a whole answer."""
        ...

    async def stream(self) -> None:
        """Ask for a stream and read it."""
        ...


class Answering(asyncio.Protocol):
    """The server's side of a connection."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport: Any = transport
        self._parser = httptools.HttpRequestParser(self)
        self._body = b""

    def data_received(self, data: bytes) -> None:
        """Read."""
        self._parser.feed_data(data)

    def on_body(self, body: bytes) -> None:
        """Keep a piece of the request."""
        self._body += body

    def on_message_complete(self) -> None:
        """Answer."""
        body, self._body = self._body, b""
        if body.endswith(b'"stream": true}'):
            self._streaming = asyncio.get_running_loop().create_task(self._stream())
        else:
            head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(ANSWER)
            self._transport.write(head + ANSWER)

    async def _stream(self) -> None:
        self._transport.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        for _ in range(CHUNKS):
            await asyncio.sleep(GAP_S)
            self._transport.write(b"%x\r\n%b\r\n" % (len(EVENT), EVENT))
        self._transport.write(b"0\r\n\r\n")


def serve(told: Connection) -> None:
    """Answer until killed; tell the port."""

    async def run() -> None:
        server = await asyncio.get_running_loop().create_server(Answering, "127.0.0.1", 0)
        told.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    uvloop.run(run())


class BareConnection(asyncio.Protocol):
    """No pool's care, no bound, no fault handled."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self.transport: Any = transport
        self._parser = httptools.HttpResponseParser(self)

    def data_received(self, data: bytes) -> None:
        """Read."""
        self._parser.feed_data(data)

    def ask(self, body: bytes, *, is_streaming: bool) -> None:
        """Send a request."""
        self.pieces: list[bytes] = []
        self.is_over, self._is_streaming = False, is_streaming
        self.news = asyncio.get_running_loop().create_future()
        head = b"POST %b HTTP/1.1\r\nhost: h\r\ncontent-length: %d\r\n\r\n" % (PATH.encode(), len(body))
        self.transport.write(head + body)

    def on_body(self, piece: bytes) -> None:
        """Keep a piece of the answer."""
        self.pieces.append(piece)
        if self._is_streaming and not self.news.done():
            self.news.set_result(None)

    def on_message_complete(self) -> None:
        """Tell that all of it is there."""
        self.is_over = True
        if not self.news.done():
            self.news.set_result(None)


class Bare:
    """A list of connections."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._idle: list[BareConnection] = []

    async def _get(self) -> BareConnection:
        if self._idle:
            return self._idle.pop()
        return (await asyncio.get_running_loop().create_connection(BareConnection, "127.0.0.1", self._port))[1]

    async def whole(self) -> bytes:
        """Ask for a whole answer."""
        one = await self._get()
        one.ask(ASK, is_streaming=False)
        await one.news
        self._idle.append(one)
        return b"".join(one.pieces)

    async def stream(self) -> None:
        """Ask for a stream and read it."""
        one = await self._get()
        one.ask(ASK_STREAM, is_streaming=True)
        while not one.is_over:
            await one.news
            one.news, one.pieces = asyncio.get_running_loop().create_future(), []
        self._idle.append(one)

    async def close(self) -> None:
        """Close what is open."""
        for one in self._idle:
            one.transport.close()


class Ours:
    """A client behind the seam."""

    def __init__(self, client: HttpClient, port: int) -> None:
        self._client = client
        self._head = HttpHead(f"http://127.0.0.1:{port}{PATH}", HEADERS)

    async def whole(self) -> bytes:
        """Ask for a whole answer."""
        response = await self._client.send(HttpRequest(self._head, ASK, {"x-request-id": "req-1"}, 10**7))
        body = await response.read(10**7)
        await response.close()
        return body or b""

    async def stream(self) -> None:
        """Ask for a stream and read it."""
        response = await self._client.send(HttpRequest(self._head, ASK_STREAM, {"x-request-id": "req-1"}))
        await drain(response.chunks)
        await response.close()

    async def close(self) -> None:
        """Close what is open."""
        await self._client.close()


class Aiohttp:
    """aiohttp's session with its own pool."""

    def __init__(self, port: int) -> None:
        connector = aiohttp.TCPConnector(limit=512)
        self._session = aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=None))
        self._url = f"http://127.0.0.1:{port}{PATH}"

    async def whole(self) -> bytes:
        """Ask for a whole answer."""
        async with self._session.post(self._url, data=ASK, headers={**HEADERS, "x-request-id": "req-1"}) as response:
            body: bytes = await response.read()
            return body

    async def stream(self) -> None:
        """Ask for a stream and read it."""
        headers = {**HEADERS, "x-request-id": "req-1"}
        async with self._session.post(self._url, data=ASK_STREAM, headers=headers) as response:
            await drain(response.content.iter_any())

    async def close(self) -> None:
        """Close what is open."""
        await self._session.close()


async def drain(chunks: AsyncIterator[bytes]) -> None:
    """Read to the end."""
    async for _ in chunks:
        pass


async def run(port: int, rounds: int) -> None:
    """Measure in shuffled turns and print medians."""
    bounds = {"connect_s": 2.0, "max_connections": 512}
    subjects: dict[str, Subject] = {
        "bare": Bare(port),
        "lean": Ours(Http1Client(**bounds), port),  # type: ignore[arg-type]
        "httpx2": Ours(Httpx2Client(**bounds), port),  # type: ignore[arg-type]
    }
    if find_spec("aiohttp"):
        subjects["aiohttp"] = Aiohttp(port)
    told: dict[tuple[str, str], list[float]] = {}
    for subject in subjects.values():
        await flood(subject.whole, 300)
    for _ in range(rounds):
        for name in random.sample(sorted(subjects), len(subjects)):
            one = subjects[name]
            told.setdefault((name, "request"), []).append(await cost_us(flood(one.whole, TURN[name]), TURN[name]))
            streams = asyncio.gather(*(one.stream() for _ in range(STREAMS)))
            told.setdefault((name, "chunk"), []).append(await cost_us(streams, STREAMS * CHUNKS))
    for subject in subjects.values():
        await subject.close()
    for (name, what), costs in sorted(told.items()):
        print(f"{name:8} {what:8} {statistics.median(costs):7.1f} µs  ({min(costs):.1f} to {max(costs):.1f})")


async def flood(ask: Callable[[], Awaitable[bytes]], count: int) -> None:
    """Ask so often, 32 at a time."""
    left = iter(range(count))

    async def worker() -> None:
        for _ in left:
            if len(await ask()) != len(ANSWER):
                raise SystemExit("an answer was not whole")

    await asyncio.gather(*(worker() for _ in range(32)))


async def cost_us(work: Awaitable[object], count: int) -> float:
    """Return this process's CPU time for each of so many."""
    before_s = cpu_s()
    await work
    return (cpu_s() - before_s) / count * 1e6


def cpu_s() -> float:
    """Return this process's CPU time, the kernel's share too."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def main() -> None:
    """Start the server's process, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="turns of each (default 5)")
    rounds = parser.parse_args().rounds
    here, there = multiprocessing.Pipe()
    server = multiprocessing.Process(target=serve, args=(there,), daemon=True)
    server.start()
    try:
        uvloop.run(run(here.recv(), rounds))
    finally:
        server.terminate()


if __name__ == "__main__":
    main()
