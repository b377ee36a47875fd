"""Triton over HTTP: its generate extension, one request after another on a connection of a pool.

`generate_stream` sends server-sent events without a closing mark; a fault in the middle is an event with `error`, as
one of an answer that is not streamed is a body with it, status 200.
Source: triton-inference-server/server docs/protocol/extension_generate.md, src/http_server.cc.
"""

import json
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from typing import Any
from urllib.parse import quote

import msgspec

from gateway.backends.http import HttpClient, HttpError, HttpHead, HttpRequest, HttpResponse
from gateway.backends.triton.facts import facts_of
from gateway.backends.triton.wire import Ask, Fault, Input, ModelFacts, Outputs, Value, WireError
from gateway.core.secret import Secret
from gateway.schema.sse import EventCutter, data_of, events_in

NO_HEADERS: Mapping[str, str] = {}
MAX_BODY_BYTES = 64 * 1024 * 1024
"""An answer, or one event of it, that is larger is a fault; so is an event without an end."""
CODES = {404: "NOT_FOUND", 429: "RESOURCE_EXHAUSTED"}
"""gRPC's names for statuses that tell something; 400 tells nothing: any error of a model comes with it."""


class HttpRoute(msgspec.Struct, frozen=True):
    """Where a model is. `version`: empty, Triton's policy chooses."""

    url: str
    model: str
    version: str = ""
    api_key: Secret | None = None


class HttpTransport:
    """The way to one model over a connection pool."""

    # Nobody reads a connection that waits for its answer: triton-inference-server/server#7077.
    is_heard = False

    def __init__(self, route: HttpRoute, client: HttpClient) -> None:
        self._models = f"{route.url.rstrip('/')}/v2/models/"
        self._model = _name(route.model) + (f"/versions/{_name(route.version)}" if route.version else "")
        self._client = client
        self._headers = {"content-type": "application/json", "accept-encoding": "identity", "user-agent": "postern"}
        if route.api_key is not None:
            self._headers["authorization"] = f"Bearer {route.api_key.reveal()}"
        self._heads: dict[tuple[str, str], HttpHead] = {}

    async def ask(self, ask: Ask, _: ModelFacts) -> AsyncGenerator[Outputs, None]:
        """Yield the responses to one request."""
        fields: dict[str, object] = {given.name: _plain(given) for given in ask.inputs}
        body = msgspec.json.encode({"id": ask.request_id, **fields})
        model = _name(ask.model) if ask.model else self._model
        way, whole_bytes = ("generate_stream", 0) if ask.is_streaming else ("generate", MAX_BODY_BYTES)
        response = await self._send(f"{model}/{way}", body, whole_bytes, ask.headers)
        try:
            payloads = _events(response.chunks) if ask.is_streaming else _whole(response)
            async for payload in payloads:
                yield _outputs_of(payload)
        except HttpError as exc:
            raise _broken(exc) from exc
        finally:
            await response.close()

    async def _send(
        self, path: str, body: bytes | None, whole_bytes: int, headers: Mapping[str, str] = NO_HEADERS
    ) -> HttpResponse:
        """Send a request. Raises WireError for any status but 200; whoever gets the response closes it."""
        head = self._head(path, "GET" if body is None else "POST")
        try:
            response = await self._client.send(HttpRequest(head, body or b"", headers, whole_bytes))
        except HttpError as exc:
            raise _broken(exc) from exc
        if response.status == 200:
            return response
        try:
            told = await _read(response)
        except HttpError as exc:
            raise _broken(exc) from exc
        finally:
            await response.close()
        raise WireError(Fault.TOLD, _error_in(told) or "", CODES.get(response.status, f"HTTP {response.status}"))

    def _head(self, path: str, method: str) -> HttpHead:
        """Return what requests to a path have in common; of paths there are a handful."""
        head = self._heads.get((path, method))
        if head is None:
            head = self._heads[path, method] = HttpHead(self._models + path, self._headers, method)
        return head

    async def is_ready(self) -> bool:
        """Tell whether the server would run the model now."""
        try:
            await self._get(f"{self._model}/ready")
        except WireError as exc:
            if exc.fault is Fault.TOLD:
                return False
            raise
        return True

    async def describe(self) -> ModelFacts:
        """Read the model's metadata and configuration."""
        return facts_of(_object_in(await self._get(self._model)), _object_in(await self._get(f"{self._model}/config")))

    async def _get(self, path: str) -> bytes:
        response = await self._send(path, None, MAX_BODY_BYTES)
        try:
            return await _read(response)
        except HttpError as exc:
            raise _broken(exc) from exc
        finally:
            await response.close()

    async def close(self) -> None:
        """Close the connection pool."""
        await self._client.close()


def _name(name: str) -> str:
    return quote(name, safe="")


def _plain(given: Input) -> object:
    """Return an input as the generate extension takes it: a value, or a list of several; shapes are Triton's care."""
    return given.values[0] if len(given.values) == 1 else list(given.values)


async def _events(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    cutter = EventCutter()
    async for chunk in chunks:
        for event in events_in(cutter.feed(chunk)):
            if payload := data_of(event):
                yield payload
        if cutter.rest_bytes > MAX_BODY_BYTES:
            raise WireError(Fault.BROKEN, "an event without an end")
    if cutter.rest_bytes:
        raise WireError(Fault.BROKEN, "the stream ended inside an event")


async def _whole(response: HttpResponse) -> AsyncIterator[bytes]:
    yield await _read(response)


async def _read(response: HttpResponse) -> bytes:
    body = await response.read(MAX_BODY_BYTES)
    if body is None:
        raise WireError(Fault.BROKEN, f"a body of more than {MAX_BODY_BYTES} bytes")
    return body


def _outputs_of(payload: bytes) -> Outputs:
    told = _object_in(payload)
    if "error" in told:
        raise WireError(Fault.TOLD, _clear(told["error"]))
    return {name: _values_of(value) for name, value in told.items()}


def _values_of(told: object) -> Sequence[Value]:
    elements: list[Any] = told if isinstance(told, list) else [told]
    return [_value_of(element) for element in elements]


def _value_of(element: Any) -> Value:
    return _bytes_of(element) if isinstance(element, str) else element


def _bytes_of(text: str) -> bytes:
    """Return the bytes that a text came as; half a character that was written as an escape never was any."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace")


def _clear(error: object) -> str:
    """Return an error's text without half characters: it may be sent on."""
    return _bytes_of(str(error)).decode("utf-8", "replace")


def _object_in(payload: bytes) -> Mapping[str, Any]:
    """Return a JSON object. Triton copies a model's bytes into its JSON as they are, half a character too."""
    try:
        told = json.loads(payload.decode("utf-8", "surrogateescape"))
    except (ValueError, RecursionError) as exc:
        raise WireError(Fault.BROKEN, "what came is not JSON") from exc
    if not isinstance(told, dict):
        raise WireError(Fault.BROKEN, "what came is no JSON object")
    return told


def _error_in(body: bytes) -> str | None:
    """Return Triton's error text, an event where a stream was to be; None where a proxy has answered in its stead."""
    try:
        return _clear(_object_in(data_of(body) or body).get("error", ""))
    except WireError:
        return None


def _broken(exc: HttpError) -> WireError:
    fault = Fault.CONNECTING if exc.is_connecting else Fault.BROKEN
    return WireError(fault, str(exc))
