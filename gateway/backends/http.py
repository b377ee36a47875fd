"""The HTTP seam under the backends that speak it: one method, `send`. Knows no library."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, Protocol
from urllib.parse import SplitResult, quote, urlsplit

import msgspec

DRAIN_S: Final = 0.05
"""How long the end of a body whose rest does not matter is waited for; it nearly always came with the last chunk."""
DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_PATH_SAFE = "%/:@!$&'()*+,;=~"


class HttpError(Exception):
    """The exchange failed. `is_connecting`: before anything was sent."""

    def __init__(self, message: str, *, is_connecting: bool = False, is_timeout: bool = False) -> None:
        super().__init__(message)
        self.is_connecting = is_connecting
        self.is_timeout = is_timeout


class HttpHead:
    """Where requests go and the headers that all of them have: made once, encoded once. Compared by identity."""

    def __init__(self, url: str, headers: Mapping[str, str], method: str = "POST") -> None:
        """`method`: GET or POST; the answer to a HEAD would be read for a body that never comes."""
        self.url = url
        self.headers = headers
        self.method = method

    @cached_property
    def parts(self) -> SplitResult:
        """Return the url's parts. Raises HttpError for one that no request could go to."""
        try:
            parts = urlsplit(self.url)
            _ = parts.port
        except ValueError:
            raise HttpError("the url is none", is_connecting=True) from None
        if parts.scheme not in DEFAULT_PORTS or not parts.hostname:
            raise HttpError("the url has no host, or is not HTTP's", is_connecting=True)
        if parts.username is not None:
            raise HttpError("the url holds a user", is_connecting=True)
        return parts

    @cached_property
    def host(self) -> str:
        """Return the host as it is looked up and as certificates name it."""
        host = self.parts.hostname or ""
        try:
            return host if host.isascii() else host.encode("idna").decode()
        except UnicodeError:
            raise HttpError("the url's host is no name", is_connecting=True) from None

    @cached_property
    def port(self) -> int:
        """Return the port, the scheme's own where the url has none."""
        return self.parts.port or DEFAULT_PORTS[self.parts.scheme]

    @cached_property
    def place(self) -> tuple[str, str, int]:
        """Return scheme, host and port: what a connection leads to."""
        return self.parts.scheme, self.host, self.port

    @cached_property
    def wire(self) -> bytes:
        """Return the request's first lines as they are sent, all but those of one request. Raises HttpError."""
        parts = self.parts
        host = f"[{self.host}]" if ":" in self.host else self.host
        if self.port != DEFAULT_PORTS[parts.scheme]:
            host = f"{host}:{self.port}"
        target = quote(parts.path or "/", safe=_PATH_SAFE)
        if parts.query:
            target += "?" + quote(parts.query, safe=_PATH_SAFE + "?")
        lines = (f"{self.method} {target} HTTP/1.1", f"host: {host}")
        return ("\r\n".join(lines) + "\r\n" + header_lines(self.headers)).encode("ascii")


def header_lines(headers: Mapping[str, str]) -> str:
    """Return headers as they stand in a head. Raises HttpError, without the value: it may be a key.

    A header ends at its line's end: what holds one would smuggle in another (RFC 9110, 5.5).
    """
    lines = []
    for name, value in headers.items():
        # Spaces, and colons in a name, are printable too, but headers' names are our own words.
        if not (value.isascii() and value.isprintable()):
            raise HttpError("a header is not ASCII, or not on one line")
        lines.append(f"{name}: {value}\r\n")
    return "".join(lines)


class HttpRequest(msgspec.Struct, frozen=True):
    """One request; `headers` are this one's own.

    `whole_bytes`: the answer is wanted whole, up to so many bytes; `send` may then return once it has come, which
    saves whoever waits a turn of the event loop. 0: it is wanted as it comes.
    """

    head: HttpHead
    body: bytes = b""
    headers: Mapping[str, str] = {}
    whole_bytes: int = 0


class HttpResponse(Protocol):
    """Status and headers have come; the body comes as it is read. `close` or `finish` must be awaited."""

    status: int

    @property
    def headers(self) -> Mapping[str, str]:
        """Return the headers, names in lower case."""
        ...

    @property
    def chunks(self) -> AsyncIterator[bytes]:
        """Return the body, decoded, in chunks of whatever has come since the last. Raises HttpError."""
        ...

    async def read(self, limit_bytes: int) -> bytes | None:
        """Return the whole body; None for one that is longer, of which no more is read. Raises HttpError."""
        ...

    async def close(self) -> None:
        """Stop reading: a body that has not come whole takes its connection along."""
        ...

    async def finish(self) -> None:
        """Let go of a body whose rest does not matter: its connection can be used again if it ends soon."""
        ...


@dataclass(slots=True)
class IteratedResponse:
    """A response of a client that has an iterator for its body, and a function to close it."""

    status: int
    headers: Mapping[str, str]
    chunks: AsyncIterator[bytes]
    close: Callable[[], Coroutine[Any, Any, None]]

    async def read(self, limit_bytes: int) -> bytes | None:
        """Return the whole body; None for one that is longer."""
        return await read_at_most(self.chunks, limit_bytes)

    async def finish(self) -> None:
        """Read on for a moment, then close."""
        with suppress(TimeoutError, HttpError):
            async with asyncio.timeout(DRAIN_S):
                async for _ in self.chunks:
                    pass
        await self.close()


async def read_at_most(chunks: AsyncIterator[bytes], limit_bytes: int) -> bytes | None:
    """Return a whole body; None for one that is longer, of which no more is read. Raises HttpError."""
    body = bytearray()
    async for chunk in chunks:
        body += chunk
        if len(body) > limit_bytes:
            return None
    return bytes(body)


def retry_after_s(headers: Mapping[str, str]) -> int | None:
    """Return how long a server asks to be left alone; None where it says nothing, or a date: clocks differ."""
    value = headers.get("retry-after", "")
    return int(value) if value.isascii() and value.isdigit() and len(value) < 10 else None


class HttpClient(Protocol):
    """Whatever can send a request. Raises HttpError, also from what it returns."""

    async def send(self, request: HttpRequest) -> HttpResponse:
        """Send, and return once the response's headers are there."""
        ...

    async def close(self) -> None:
        """Close every connection."""
        ...
