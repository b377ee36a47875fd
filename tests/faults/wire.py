"""A client on raw sockets, which can stop anywhere, and what the gateway's ports and process tell from outside."""

import asyncio
import contextlib
import json
import re
import socket
import struct
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

PATH = "/v1/chat/completions"
SAMPLE = re.compile(r"^(?P<name>\w+)(?:\{(?P<labels>.*)\})? (?P<value>\S+)$", re.MULTILINE)


def ask(prompt: str, model: str = "small", **fields: Any) -> bytes:
    """Write a chat completion's body."""
    return json.dumps({"model": model, "messages": [{"role": "user", "content": prompt}], **fields}).encode()


def post(body: bytes, path: str = PATH, **headers: str) -> bytes:
    """Write a whole request; keyword underscores become hyphens."""
    lines = [f"POST {path} HTTP/1.1", "host: gateway", "content-type: application/json", f"content-length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


@dataclass(frozen=True)
class Response:
    """One whole response."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        return self.json["error"]["code"]

    @property
    def events(self) -> list[Any]:
        """The payloads of a stream, `[DONE]` as a string."""
        lines = self.body.decode().splitlines()
        payloads = [line.removeprefix("data: ") for line in lines if line and not line.startswith(":")]
        return [payload if payload == "[DONE]" else json.loads(payload) for payload in payloads]

    @property
    def text(self) -> str:
        """What the model has said."""
        if "event-stream" not in self.headers["content-type"]:
            return self.json["choices"][0]["message"]["content"]
        chunks = [event for event in self.events if event != "[DONE]" and event.get("choices")]
        return "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks)


class Wire:
    """One connection to the gateway."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def connect(cls, url: str, receive_bytes: int | None = None) -> Self:
        """Connect; `receive_bytes` bounds what the kernel takes in for a client that does not read."""
        parts = urlsplit(url)
        connection = socket.socket()
        if receive_bytes is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        connection.setblocking(False)
        try:
            await asyncio.get_running_loop().sock_connect(connection, (parts.hostname, parts.port))
        except OSError:
            connection.close()
            raise
        limit = 2**20 if receive_bytes is None else receive_bytes
        return cls(*await asyncio.open_connection(sock=connection, limit=limit))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Let go of the connection, and let the event loop know."""
        self._writer.transport.abort()
        with contextlib.suppress(ConnectionError):
            await self._writer.wait_closed()

    async def send(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def read(self, size: int) -> bytes:
        """Read so many bytes."""
        return await self._reader.readexactly(size)

    async def head(self) -> tuple[int, dict[str, str]]:
        """Read a response's head; EOFError (an IncompleteReadError) where the gateway hangs up."""
        status, *lines = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        return int(status.split(" ")[1]), {
            name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)
        }

    async def chunk(self) -> bytes:
        """Read one chunk; empty at the end of the body."""
        size = int(await self._reader.readuntil(b"\r\n"), 16)
        return (await self._reader.readexactly(size + 2))[:-2]

    async def until(self, marker: bytes) -> bytes:
        """Read chunks until the marker has come."""
        seen = b""
        while marker not in seen:
            piece = await self.chunk()
            assert piece, f"the body ended before {marker!r}: {seen!r}"
            seen += piece
        return seen

    async def rest(self) -> bytes:
        """Read a chunked body to its end."""
        pieces = []
        while piece := await self.chunk():
            pieces.append(piece)
        return b"".join(pieces)

    async def response(self) -> Response:
        """Read a whole response."""
        status, headers = await self.head()
        if "chunked" in headers.get("transfer-encoding", ""):
            return Response(status, headers, await self.rest())
        return Response(status, headers, await self._reader.readexactly(int(headers["content-length"])))

    async def hung_up(self, seconds: float = 5.0) -> bytes:
        """Read what still comes until the gateway closes the connection."""
        async with asyncio.timeout(seconds):
            try:
                return await self._reader.read()
            except ConnectionError:
                return b""

    def half_close(self) -> None:
        """Send no more, but read on."""
        self._writer.write_eof()

    def leave(self, *, reset: bool = False) -> float:
        """Go away at once, by FIN or by RST; return the moment."""
        if reset:
            linger = struct.pack("ii", 1, 0)  # a zero linger makes close() send RST
            self._writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self._writer.transport.abort()
        else:
            self._writer.close()
        return time.monotonic()


async def call(url: str, body: bytes, **headers: str) -> Response:
    """Make one request on a connection of its own."""
    async with await Wire.connect(url) as wire:
        await wire.send(post(body, **headers))
        return await wire.response()


async def get(url: str, path: str) -> Response:
    """GET a path."""
    async with await Wire.connect(url) as wire:
        await wire.send(f"GET {path} HTTP/1.1\r\nhost: gateway\r\n\r\n".encode())
        return await wire.response()


class Metrics:
    """One scrape of the admin port."""

    def __init__(self, text: str) -> None:
        self._samples = [
            (match["name"], dict(re.findall(r'(\w+)="([^"]*)"', match["labels"] or "")), float(match["value"]))
            for match in SAMPLE.finditer(text)
        ]

    def sum(self, name: str, **labels: str) -> float:
        """Add up every sample of a name that has these labels."""
        return sum(
            value
            for sample, has, value in self._samples
            if sample == name and all(has.get(label) == wanted for label, wanted in labels.items())
        )

    def by(self, label: str, name: str) -> dict[str, float]:
        """Return every sample of a name by one of its labels."""
        return {has[label]: value for sample, has, value in self._samples if sample == name and label in has}


async def scrape(admin_url: str) -> Metrics:
    """Read the metrics."""
    return Metrics((await get(admin_url, "/metrics")).body.decode())


async def eventually(holds: Callable[[], bool | Awaitable[bool]], seconds: float = 3.0, pause_s: float = 0.005) -> None:
    """Wait for a fact; fail if it does not come true in time."""
    end = time.monotonic() + seconds
    while True:
        held = holds()
        if held if isinstance(held, bool) else await held:
            return
        assert time.monotonic() < end, f"did not come true within {seconds} s"
        await asyncio.sleep(pause_s)


def open_files(pid: int) -> int:
    """Count a process's file descriptors."""
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def connections_to(url: str) -> int:
    """Count the connections that a server on this machine holds open, whatever the other side does."""
    wanted = f":{urlsplit(url).port:04X}"
    return sum(
        row[1].endswith(wanted) and row[3] in {"01", "08", "04", "05"} and row[9] != "0" for row in _connections()
    )


def unread_bytes(url: str) -> int:
    """Count what was sent to a server on this machine and waits in the kernel for it to read."""
    wanted = f":{urlsplit(url).port:04X}"
    return sum(
        int(row[4].partition(":")[2], 16) for row in _connections() if row[1].endswith(wanted) and row[3] == "01"
    )


def is_connecting_to(port: int) -> bool:
    """Tell whether anybody on this machine waits for a connection to a local port (SYN_SENT)."""
    wanted = f":{port:04X}"
    return any(row[2].endswith(wanted) and row[3] == "02" for row in _connections())


def _connections() -> list[list[str]]:
    return [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]


class Blackhole:
    """A port that takes no connection: a listening socket whose backlog is full, so that SYNs are dropped."""

    def __init__(self) -> None:
        self._listener = socket.socket()
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen(0)
        self.port = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/v1"
        self._fillers: list[socket.socket] = []

    def __enter__(self) -> Self:
        for _ in range(8):
            filler = socket.socket()
            filler.settimeout(0.1)
            try:
                filler.connect(("127.0.0.1", self.port))
            except TimeoutError:
                filler.close()
                return self
            self._fillers.append(filler)
        raise AssertionError("the backlog did not fill")

    def __exit__(self, *_: object) -> None:
        for one in (*self._fillers, self._listener):
            one.close()
