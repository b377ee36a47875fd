"""The client for what the lean one leaves out: forward proxies, cold calls. httpx2 is imported here and nowhere else.

Loaded late, where something needs it. It is also the oracle that the lean client is compared with in tests.
"""

import ssl
from collections.abc import AsyncIterator

import httpx2

from gateway.backends.http import HttpError, HttpRequest, HttpResponse, IteratedResponse
from gateway.core.secret import Secret


class Httpx2Client:
    """A connection pool of httpx2, the maintained line of httpx.

    Time-outs between phases are the backend's; here stands only the one to connect. A pool slot is never waited for
    longer than that either.
    """

    def __init__(
        self,
        *,
        connect_s: float,
        max_connections: int,
        trust: ssl.SSLContext | None = None,
        proxy: Secret | None = None,
    ) -> None:
        """`trust`: whose certificates are taken; None: what the machine trusts. `proxy`: all goes through it."""
        self._client = httpx2.AsyncClient(
            verify=True if trust is None else trust,
            timeout=httpx2.Timeout(None, connect=connect_s, pool=connect_s),
            limits=httpx2.Limits(max_connections=max_connections, max_keepalive_connections=max_connections),
            follow_redirects=False,
            trust_env=False,
            proxy=None if proxy is None else proxy.reveal(),
        )

    async def send(self, request: HttpRequest) -> HttpResponse:
        """Send, and return once the response's headers are there."""
        head = request.head
        headers = {**head.headers, **request.headers}
        try:
            response = await self._client.send(
                self._client.build_request(head.method, head.url, headers=headers, content=request.body), stream=True
            )
        except UnicodeError:
            # Without its cause, which holds the header: an `api_key` that is not ASCII.
            raise HttpError("a header is not ASCII") from None
        except (httpx2.HTTPError, httpx2.InvalidURL) as exc:
            raise _failure(exc) from exc
        return IteratedResponse(response.status_code, response.headers, _chunks(response), response.aclose)

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
