"""Triton over gRPC, by tritonclient's asyncio client. gRPC and tritonclient are imported here and nowhere else.

Every request is a stream of its own, whatever the model: decoupled models refuse unary calls, and grpc.aio drops the
empty final response that would tell where one of several requests on a stream ends; so the stream's end is the end.

Two courtesies are left out, as Triton dies of them where streams end early: of 24 clients at once whose requests fail,
are left or run out of time, 24.10 crashed every 10 s when it was told deadlines and asked for gRPC's codes in streams
(header `triton_grpc_error`), and every 155 s without (triton-inference-server/server#7368, #7472, #7877). Whoever calls
keeps the deadline, and errors are known by their texts, as over HTTP.
"""

import asyncio
import re
import struct
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from typing import Any, TypeVar

import grpc
import msgspec
import numpy as np
from tritonclient.grpc import InferInput
from tritonclient.grpc.aio import InferenceServerClient
from tritonclient.utils import InferenceServerException, triton_to_np_dtype

from gateway.backends.triton.facts import facts_of
from gateway.backends.triton.wire import Ask, Datatype, Fault, Input, ModelFacts, Outputs, Value, WireError
from gateway.core.secret import Secret

T = TypeVar("T")
MAX_RESPONSE_BYTES = 64 * 1024 * 1024
"""As over HTTP: a response that is larger is a fault."""
FIRST_BACKOFF_MS, LAST_BACKOFF_MS = 100, 250
"""Between two attempts to connect. gRPC's own, 1 s to 2 min, miss a server that restarts: until the next attempt every
call fails at once, with what the last one found."""
# gRPC has one status, UNAVAILABLE, for a server that can't be reached, one that died, and whatever a model calls so.
# Source of the texts: grpc src/core (load_balancing/pick_first, chttp2 transport, posix endpoint).
UNREACHED = re.compile(r"^(?:failed to connect|dns resolution|.*name resolution|.*connections to all)", re.IGNORECASE)
BROKEN = re.compile(
    r"socket closed|connection (?:reset|closed|refused|dropped|aborted)|broken pipe|goaway|rst_stream|stream removed"
    r"|recvmsg|sendmsg|endpoint closing|cancelling all calls|transport|keepalive|timed out"
    r"|^internal error from core$",  # grpc.aio's, of a request that it could not send: the connection broke under it
    re.IGNORECASE,
)
TOO_LARGE = re.compile(r"received message larger than max", re.IGNORECASE)
FORMATS = {"BOOL": "?", "INT32": "i", "UINT32": "I", "INT64": "q", "UINT64": "Q", "FP32": "f", "FP64": "d"}


class GrpcRoute(msgspec.Struct, frozen=True):
    """Where a model is and how the way there is secured. `version`: empty, Triton's policy chooses.

    `roots`: PEM of the authorities that are trusted; None: those that gRPC brings.
    """

    target: str
    model: str
    version: str = ""
    is_tls: bool = False
    roots: bytes | None = None
    api_key: Secret | None = None
    connect_s: float = 2.0


class GrpcTransport:
    """The way to one model over one channel, which many requests share."""

    is_heard = True

    def __init__(self, route: GrpcRoute) -> None:
        self._route = route
        self._headers = {} if route.api_key is None else {"authorization": f"Bearer {route.api_key.reveal()}"}
        self._client: Any = None

    async def ask(self, ask: Ask, facts: ModelFacts) -> AsyncGenerator[Outputs, None]:
        """Yield the responses to one request."""
        headers = {**self._headers, **ask.headers}
        call = self._open().stream_infer(_once(self._request_of(ask, facts)), headers=headers)
        try:
            async for result, error in call:
                if error is not None:
                    raise _told(error)
                yield _outputs_of(result.get_response())
        except grpc.aio.AioRpcError as exc:
            raise _failure(exc.code().name, exc.details() or "") from exc
        except asyncio.CancelledError as exc:
            if _is_cancelled():
                raise
            raise WireError(Fault.BROKEN, "cancelled by gRPC") from exc
        finally:
            call.cancel()

    def _request_of(self, ask: Ask, facts: ModelFacts) -> dict[str, Any]:
        return {
            "model_name": ask.model or self._route.model,
            "model_version": "" if ask.model else self._route.version,
            "request_id": ask.request_id,
            "inputs": [_tensor(given, facts.inputs[given.name].rank) for given in ask.inputs],
        }

    async def is_ready(self) -> bool:
        """Tell whether the server would run the model now."""
        try:
            return await self._read(self._is_ready_by)
        except WireError as exc:
            if exc.fault is Fault.TOLD:
                return False
            raise

    async def _is_ready_by(self, client: Any) -> bool:
        return bool(await client.is_model_ready(self._route.model, self._route.version, self._headers))

    async def describe(self) -> ModelFacts:
        """Read the model's metadata and configuration."""
        return await self._read(self._describe_by)

    async def _describe_by(self, client: Any) -> ModelFacts:
        named = self._route.model, self._route.version, self._headers
        metadata = await client.get_model_metadata(*named, as_json=True)
        config = await client.get_model_config(*named, as_json=True)
        return facts_of(metadata, config.get("config", {}))

    async def _read(self, read: Callable[[Any], Awaitable[T]]) -> T:
        """Read by the channel; where its connection breaks, once more over a fresh one, which harms nobody.

        A channel gives up a connection a little after the calls on it: of 400 servers killed, 36 broke the next call
        too, and 12 the one after that. A fresh channel knows at once whether anybody is there.
        """
        try:
            return await read(self._open())
        except InferenceServerException as exc:
            failure = _told(exc)
            if failure.fault is not Fault.BROKEN:
                raise failure from exc
        fresh = self._connect()
        try:
            return await read(fresh)
        except InferenceServerException as exc:
            raise _told(exc) from exc
        finally:
            await fresh.close()

    async def close(self) -> None:
        """Close the channel."""
        client, self._client = self._client, None
        if client is not None:
            await client.close()

    def _open(self) -> Any:
        """Return the client. A channel belongs to the event loop it was made on, so it is made at its first use."""
        if self._client is None:
            self._client = self._connect()
        return self._client

    def _connect(self) -> Any:
        route = self._route
        creds = grpc.ssl_channel_credentials(route.roots) if route.is_tls else None
        return InferenceServerClient(route.target, creds=creds, channel_args=_options(route.connect_s))


def _options(connect_s: float) -> list[tuple[str, int]]:
    return [
        ("grpc.max_send_message_length", -1),
        ("grpc.max_receive_message_length", MAX_RESPONSE_BYTES),
        ("grpc.initial_reconnect_backoff_ms", FIRST_BACKOFF_MS),
        ("grpc.max_reconnect_backoff_ms", LAST_BACKOFF_MS),
        # Despite its name the time that one attempt to connect may take: 20 s by default.
        ("grpc.min_reconnect_backoff_ms", int(connect_s * 1000)),
        # Channels to one address would share a connection, and its backing off, with those that a reload left behind.
        ("grpc.use_local_subchannel_pool", 1),
        # As our HTTP: the environment sends no traffic elsewhere.
        ("grpc.enable_http_proxy", 0),
    ]


def _is_cancelled() -> bool:
    """Tell whether whoever runs was cancelled.

    grpc.aio says the same of itself: where a request finds its stream ended, and where the channel is closed. Taken
    for ours, it would unwind a request that nobody left.
    """
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


async def _once(request: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
    yield request


def _tensor(given: Input, rank: int) -> Any:
    shape = [1] * (rank - 1) + [len(given.values)]
    tensor = InferInput(given.name, shape, given.datatype.value)
    values = [value.encode() if isinstance(value, str) else value for value in given.values]
    kind = np.object_ if given.datatype is Datatype.BYTES else triton_to_np_dtype(given.datatype.value)
    return tensor.set_data_from_numpy(np.array(values, dtype=kind).reshape(shape))


def _outputs_of(response: Any) -> Outputs:
    try:
        return dict(_read(response))
    except struct.error as exc:
        raise WireError(Fault.BROKEN, "a tensor is not as long as it says") from exc


def _read(response: Any) -> Iterator[tuple[str, list[Value]]]:
    """Yield the outputs. Read here and not by numpy: 11 µs a response against 43."""
    for output, raw in zip(response.outputs, response.raw_output_contents, strict=False):
        if output.datatype == "BYTES":
            yield output.name, list(_texts_in(raw))
        elif (kind := FORMATS.get(output.datatype)) is not None:
            yield output.name, [value for (value,) in struct.iter_unpack(f"<{kind}", raw)]


def _texts_in(raw: bytes) -> Iterator[bytes]:
    """Yield the elements, each after its length in four bytes."""
    start = 0
    while start < len(raw):
        (size,) = struct.unpack_from("<I", raw, start)
        (text,) = struct.unpack_from(f"{size}s", raw, start + 4)
        yield text
        start += 4 + size


def _told(error: InferenceServerException) -> WireError:
    """Return the failure that tritonclient made an exception of; in band, an error has no status."""
    return _failure((error.status() or "").removeprefix("StatusCode."), error.message() or "")


def _failure(code: str, text: str) -> WireError:
    if code == "DEADLINE_EXCEEDED":
        return WireError(Fault.DEADLINE, text, code)
    if code == "UNAVAILABLE" and UNREACHED.search(text) is not None:
        return WireError(Fault.CONNECTING, text, code)
    if code == "CANCELLED" or (code in ("UNAVAILABLE", "UNKNOWN", "INTERNAL") and BROKEN.search(text) is not None):
        return WireError(Fault.BROKEN, text, code)
    if code == "RESOURCE_EXHAUSTED" and TOO_LARGE.search(text) is not None:
        return WireError(Fault.BROKEN, text, code)
    return WireError(Fault.TOLD, text, code)
