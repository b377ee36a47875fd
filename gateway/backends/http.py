"""The HTTP seam under the backends that speak it: one method, `send`. httpx2 is imported here and nowhere else."""

import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import httpx2
import msgspec


class HttpError(Exception):
    """The exchange failed. `is_connecting`: before anything was sent."""

    def __init__(self, message: str, *, is_connecting: bool = False, is_timeout: bool = False) -> None:
        super().__init__(message)
        self.is_connecting = is_connecting
        self.is_timeout = is_timeout


class HttpRequest(msgspec.Struct, frozen=True):
    """One request; a POST with a body unless told otherwise."""

    url: str
    headers: dict[str, str]
    body: bytes = b""
    method: str = "POST"


@dataclass(slots=True)
class HttpResponse:
    """Status and headers have come; the body comes as it is read. `close` must be awaited."""

    status: int
    headers: Mapping[str, str]
    chunks: AsyncIterator[bytes]
    close: Callable[[], Awaitable[None]]


async def read_at_most(chunks: AsyncIterator[bytes], limit_bytes: int) -> bytes | None:
    """Return a whole body; None for one that is longer, of which no more is read. Raises HttpError."""
    body = bytearray()
    async for chunk in chunks:
        body += chunk
        if len(body) > limit_bytes:
            return None
    return bytes(body)


class HttpClient(Protocol):
    """Whatever can send a request. Raises HttpError, also from `chunks`."""

    async def send(self, request: HttpRequest) -> HttpResponse:
        """Send, and return once the response's headers are there."""
        ...

    async def close(self) -> None:
        """Close every connection."""
        ...


class Httpx2Client:
    """A connection pool of httpx2, the maintained line of httpx.

    Time-outs between phases are the backend's; here stands only the one to connect. A pool slot is never waited for
    longer than that either.
    """

    def __init__(self, *, connect_s: float, max_connections: int, trust: ssl.SSLContext | None = None) -> None:
        """`trust`: whose certificates are taken; None: what the machine trusts."""
        self._client = httpx2.AsyncClient(
            verify=True if trust is None else trust,
            timeout=httpx2.Timeout(None, connect=connect_s, pool=connect_s),
            limits=httpx2.Limits(max_connections=max_connections, max_keepalive_connections=max_connections),
            follow_redirects=False,
            trust_env=False,
        )

    async def send(self, request: HttpRequest) -> HttpResponse:
        """Send, and return once the response's headers are there."""
        try:
            response = await self._client.send(
                self._client.build_request(request.method, request.url, headers=request.headers, content=request.body),
                stream=True,
            )
        except UnicodeError:
            # Without its cause, which holds the header: an `api_key` that is not ASCII.
            raise HttpError("a header is not ASCII") from None
        except (httpx2.HTTPError, httpx2.InvalidURL) as exc:
            raise _failure(exc) from exc
        return HttpResponse(response.status_code, response.headers, _chunks(response), response.aclose)

    async def close(self) -> None:
        """Close every connection."""
        await self._client.aclose()


async def _chunks(response: httpx2.Response) -> AsyncIterator[bytes]:
    try:
        async for chunk in response.aiter_bytes():
            yield chunk
    except httpx2.HTTPError as exc:
        raise _failure(exc) from exc


def _failure(exc: Exception) -> HttpError:
    is_connecting = isinstance(exc, httpx2.ConnectError | httpx2.ConnectTimeout | httpx2.PoolTimeout)
    is_timeout = isinstance(exc, httpx2.TimeoutException)
    # Why nothing was sent may be told: a certificate, a name. Later a text could quote what the server said.
    why = f": {exc}" if is_connecting and str(exc) else ""
    return HttpError(f"{type(exc).__name__}{why}", is_connecting=is_connecting, is_timeout=is_timeout)


def probe(url: str, timeout_s: float = 0.3) -> bytes | None:
    """GET a URL on this machine; None when nobody answers well. For finding local servers at start."""
    try:
        response = httpx2.get(url, timeout=timeout_s, trust_env=False)
    except httpx2.HTTPError:
        return None
    return response.content if response.status_code == 200 else None
