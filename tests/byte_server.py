"""A server that says byte for byte what a test wants, one script a connection; and tests that run on both event loops.

It must not import the gateway, nor any HTTP library: a shared mistake would then pass every test.
"""

import asyncio
import contextlib
import inspect
import re
import socket
import ssl
import struct
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, Self

import pytest
import uvloop

LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi"


def on_both_loops(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run an async test on the library's event loop and on the one that serves; its fixtures must not be async."""

    def run(loop: str, **given: Any) -> None:
        with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
            runner.run(test(**given))

    own = inspect.signature(test)
    first = inspect.Parameter("loop", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    run.__signature__ = own.replace(parameters=[first, *own.parameters.values()])
    run.__name__, run.__doc__ = test.__name__, test.__doc__
    run.pytestmark = [*getattr(test, "pytestmark", []), pytest.mark.parametrize("loop", LOOPS).mark]
    return run


class Peer:
    """One connection, from the server's side."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        self.reader = reader
        self.writer = writer
        self.number = number

    async def request(self) -> bytes:
        """Read a whole request; EOFError when the client has left."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"\r\ncontent-length: (\d+)", head, re.IGNORECASE)
        return head + await self.reader.readexactly(int(length[1]) if length else 0)

    async def send(self, *pieces: bytes, pause_s: float = 0.0) -> None:
        for piece in pieces:
            self.writer.write(piece)
            await self.writer.drain()
            await asyncio.sleep(pause_s)

    def end(self) -> None:
        """Say no more, but listen on."""
        self.writer.write_eof()

    def close(self) -> None:
        self.writer.close()

    def reset(self) -> None:
        """Close by RST."""
        one = self.writer.get_extra_info("socket")
        one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    async def gone(self) -> None:
        """Return once the client has left."""
        with contextlib.suppress(ConnectionError):
            while await self.reader.read(65536):
                pass


Script = Callable[[Peer], Awaitable[None]]


class ByteServer:
    """Listen on this machine; each connection runs the script, and is closed after it."""

    def __init__(self, script: Script, *, host: str = "127.0.0.1", context: ssl.SSLContext | None = None) -> None:
        self._script = script
        self._host = host
        self._context = context
        self._tasks: set[asyncio.Task[None]] = set()
        self.requests: list[bytes] = []
        self.connections = 0
        self.open_now = 0
        self.url = ""

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, self._host, 0, ssl=self._context)
        self.port = self._server.sockets[0].getsockname()[1]
        host = f"[{self._host}]" if ":" in self._host else self._host
        self.url = f"{'https' if self._context else 'http'}://{host}:{self.port}/v1"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.create_task(self._run(Peer(reader, writer, self.connections)))
        self._tasks.add(task)

    async def _run(self, peer: Peer) -> None:
        self.open_now += 1
        read = peer.request

        async def request() -> bytes:
            self.requests.append(await read())
            return self.requests[-1]

        peer.request = request
        try:
            await self._script(peer)
        except (EOFError, ConnectionError):
            pass
        finally:
            self.open_now -= 1
            peer.close()

    async def idle(self, connections: int = 0) -> None:
        """Wait until no more connections than these are open."""
        async with asyncio.timeout(3):
            while self.open_now > connections:  # noqa: ASYNC110 - a plain number, counted from outside
                await asyncio.sleep(0.002)


def answering(*answers: bytes) -> Script:
    """Answer each request of a connection with the next of these, the last one again and again."""

    async def script(peer: Peer) -> None:
        turn = 0
        while True:
            await peer.request()
            await peer.send(answers[min(turn, len(answers) - 1)])
            turn += 1

    return script


def saying(*pieces: bytes, pause_s: float = 0.0) -> Script:
    """Answer one request in these pieces, and close."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(*pieces, pause_s=pause_s)

    return script


def hanging(*pieces: bytes) -> Script:
    """Answer one request with these pieces and nothing more, until the client leaves."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(*pieces)
        await peer.gone()

    return script


ANSWER_AND_CLOSE = ("read", "answer")


class ThreadServer:
    """A server in a thread, which goes on while the event loop is held up: each connection gets its turn's manner."""

    def __init__(self, *manners: Sequence[str], context: ssl.SSLContext | None = None) -> None:
        self._manners = manners
        self._context = context
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"{'https' if context else 'http'}://127.0.0.1:{self._listener.getsockname()[1]}/"
        self.requests = 0
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        # shutdown wakes accept, which close alone does not
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(3)

    def _run(self) -> None:
        for manner in self._manners:
            try:
                one, _ = self._listener.accept()
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                if self._context is not None:
                    one = self._context.wrap_socket(one, server_side=True)
            except OSError:
                return
            with one:
                for step in manner:
                    if step == "read":
                        self.requests += bool(one.recv(65536))
                    elif step == "answer":
                        one.sendall(OK)
                    elif step == "pause":
                        time.sleep(0.02)
                    elif step == "goodbye":
                        # As TLS has it; nobody waits for the other's.
                        one.setblocking(False)
                        with contextlib.suppress(OSError):
                            one.unwrap()


def hold_up() -> None:
    """Let a server in a thread go on while the event loop sees nothing of it."""
    time.sleep(0.05)
