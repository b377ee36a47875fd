"""A scripted OpenAI-compatible upstream for tests, on raw streams so that it can misbehave byte by byte.

It owns the wire of one fake upstream. It must not import the gateway: a shared mistake would then pass every test.
"""

import asyncio
import base64
import contextlib
import json
import re
import socket
import struct
import time
import zlib
from array import array
from collections import deque
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Literal, Protocol, Self

Usage = Literal["asked", "always", "never", "with_choices", "null_in_each"]

JSON = "application/json"
SSE = "text/event-stream; charset=utf-8"
LAST_CHUNK = b"0\r\n\r\n"
DONE = b"data: [DONE]\n\n"
CREATED = 1_700_000_000  # fixed, so that two answers are the same bytes


@dataclass(frozen=True)
class Received:
    """One request as it came: header names in lower case, repeated headers joined by a comma."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes = b""

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def is_streaming(self) -> bool:
        return bool(self.body) and self.json.get("stream") is True

    @property
    def wants_usage(self) -> bool:
        return bool((self.json.get("stream_options") or {}).get("include_usage"))

    @property
    def is_keep_alive(self) -> bool:
        return self.headers.get("connection", "").lower() != "close"


class Behaviour(Protocol):
    """Answer one request; closing the writer must be the last act, the connection's owner awaits it."""

    async def __call__(self, request: Received, writer: asyncio.StreamWriter) -> None: ...


def asked(path: str = "/v1/chat/completions", **body: Any) -> Received:
    """Make up a request, to ask an `Answer` for its events or its body without a socket."""
    return Received("POST", path, {}, json.dumps(body).encode())


def refused_url() -> str:
    """Name a URL on which nothing listens: port 1 is never handed out to a test that binds port 0."""
    return "http://127.0.0.1:1/v1"


def event(data: Any) -> bytes:
    """Write one server-sent event."""
    return b"data: " + json.dumps(data, ensure_ascii=False, separators=(",", ":")).encode() + b"\n\n"


def chunk(data: bytes) -> bytes:
    """Frame bytes for chunked transfer encoding (RFC 9112, 7.1)."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def head(request: Received, status: int, headers: Mapping[str, str]) -> bytes:
    """Write the status line and headers."""
    known = {s.value: s.phrase for s in HTTPStatus}
    lines = [f"HTTP/1.1 {status} {known.get(status, 'Unknown')}", *(f"{k}: {v}" for k, v in headers.items())]
    if not request.is_keep_alive:
        lines.append("connection: close")
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def whole(request: Received, status: int, body: bytes, headers: Mapping[str, str]) -> bytes:
    """Write an entire response with its length."""
    return head(request, status, {"content-length": str(len(body)), **headers}) + body


def stream_head(request: Received, content_type: str = SSE, **headers: str) -> bytes:
    """Write the head of a chunked stream; keyword underscores become hyphens."""
    more = {name.replace("_", "-"): value for name, value in headers.items()}
    return head(request, 200, {"content-type": content_type, "transfer-encoding": "chunked", **more})


async def send(writer: asyncio.StreamWriter, data: bytes) -> None:
    """Write and flush."""
    writer.write(data)
    await writer.drain()


@dataclass(frozen=True)
class Answer:
    """Answer as OpenAI does, whole or streamed: a role chunk, a chunk a word, finish_reason, usage, [DONE].

    `usage` but for "asked" does not look at what the request asked for. `extra` goes into the body or every chunk.
    `logprobs`, whatever they are, are told where they are asked for, one a word and the last for the words after it.
    """

    text: str = "Hello from upstream."
    prompt_tokens: int = 7
    completion_tokens: int | None = None  # None: as many as words
    ttft_s: float = 0  # streamed: between the headers and the first event
    gap_s: float = 0
    cached_tokens: int = 0
    usage: Usage = "asked"
    finish_reason: str | None = "stop"  # "stop" reads "tool_calls" when there are tool_calls
    done: bool = True
    tool_calls: Sequence[Mapping[str, Any]] | None = None
    model: str = "upstream-model"
    extra: Mapping[str, Any] = field(default_factory=dict)
    logprobs: Sequence[Any] = ()

    async def __call__(self, request: Received, writer: asyncio.StreamWriter) -> None:
        if request.is_streaming:
            await send(writer, stream_head(request))
            await self.send_events(request, writer)
            await send(writer, LAST_CHUNK)
            return
        await asyncio.sleep(self.ttft_s + self.gap_s * max(len(self.words) - 1, 0))
        await send(writer, whole(request, 200, self.body(request), {"content-type": JSON}))

    async def send_events(self, request: Received, writer: asyncio.StreamWriter) -> None:
        """Send the events at their pace; [DONE] and the usage come without a gap."""
        first_word = 1 if request.path.endswith("/chat/completions") else 0
        last_word = first_word + len(self.words)
        await asyncio.sleep(self.ttft_s)
        for n, data in enumerate(self.events(request)):
            if first_word < n < last_word:
                await asyncio.sleep(self.gap_s)
            await send(writer, chunk(data))

    @property
    def words(self) -> list[str]:
        return re.findall(r"\s*\S+|\s+$", self.text)

    def tokens(self, *, is_embedding: bool = False) -> dict[str, Any]:
        """Write the usage object."""
        completion = len(self.words) if self.completion_tokens is None else self.completion_tokens
        if is_embedding:
            return {"prompt_tokens": self.prompt_tokens, "total_tokens": self.prompt_tokens}
        total = self.prompt_tokens + completion
        usage = {"prompt_tokens": self.prompt_tokens, "completion_tokens": completion, "total_tokens": total}
        details = {"prompt_tokens_details": {"cached_tokens": self.cached_tokens}} if self.cached_tokens else {}
        return usage | details

    def _logprobs(self, request: Received, places: range) -> dict[str, Any] | None:
        """Write the log probabilities of some words."""
        if not self.logprobs or not request.json.get("logprobs"):
            return None
        tokens = [
            {"token": self.words[n], "logprob": self.logprobs[min(n, len(self.logprobs) - 1)], "top_logprobs": []}
            for n in places
        ]
        return {"content": tokens, "refusal": None}

    def _finish(self) -> str | None:
        return "tool_calls" if self.tool_calls and self.finish_reason == "stop" else self.finish_reason

    def body(self, request: Received) -> bytes:
        """Write the whole, unstreamed body for the request's endpoint."""
        return json.dumps(self._object(request) | dict(self.extra), ensure_ascii=False).encode()

    def _object(self, request: Received) -> dict[str, Any]:
        if request.path.endswith("/models"):
            card = {"id": self.model, "object": "model", "created": CREATED, "owned_by": "upstream"}
            return {"object": "list", "data": [card]}
        is_embedding = request.path.endswith("/embeddings")
        usage = {} if self.usage == "never" else {"usage": self.tokens(is_embedding=is_embedding)}
        if is_embedding:
            return {"object": "list", "data": list(vectors(request.json)), "model": self.model} | usage
        common = {"created": CREATED, "model": self.model}
        choice: dict[str, Any] = {"index": 0, "finish_reason": self._finish(), "logprobs": None}
        if not request.path.endswith("/chat/completions"):
            choice["text"] = self.text
            return {"id": "cmpl-upstream", "object": "text_completion", "choices": [choice]} | common | usage
        calls = {"tool_calls": [dict(call) for call in self.tool_calls]} if self.tool_calls else {}
        choice["logprobs"] = self._logprobs(request, range(len(self.words)))
        choice["message"] = {"role": "assistant", "content": self.text or None, "refusal": None} | calls
        return {"id": "chatcmpl-upstream", "object": "chat.completion", "choices": [choice]} | common | usage

    def events(self, request: Received) -> list[bytes]:
        """Write every server-sent event of the stream, [DONE] included."""
        is_chat = request.path.endswith("/chat/completions")
        kind = "chat.completion.chunk" if is_chat else "text_completion"
        common = {"id": "chatcmpl-upstream" if is_chat else "cmpl-upstream", "object": kind, "created": CREATED}
        common |= {"model": self.model} | dict(self.extra)
        null = {"usage": None} if self.usage == "null_in_each" else {}
        objects = [common | {"choices": [choice]} | null for choice in self._choices(request, is_chat=is_chat)]
        if self.usage == "with_choices":
            objects[-1]["usage"] = self.tokens()
        if self.usage in {"always", "null_in_each"} or (self.usage == "asked" and request.wants_usage):
            objects.append(common | {"choices": [], "usage": self.tokens()})
        return [*map(event, objects), *([DONE] if self.done else [])]

    def _choices(self, request: Received, *, is_chat: bool) -> Iterator[dict[str, Any]]:
        if not is_chat:
            for word in self.words:
                yield {"index": 0, "text": word, "logprobs": None, "finish_reason": None}
            yield {"index": 0, "text": "", "logprobs": None, "finish_reason": self._finish()}
            return
        deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}]
        told = [None, *(self._logprobs(request, range(n, n + 1)) for n in range(len(self.words)))]
        deltas += [{"content": word} for word in self.words]
        for index, call in enumerate(self.tool_calls or ()):
            function, arguments = call["function"], call["function"]["arguments"]
            opening = dict(call) | {"index": index, "function": dict(function) | {"arguments": ""}}
            half = len(arguments) // 2
            pieces = [{"index": index, "function": {"arguments": a}} for a in (arguments[:half], arguments[half:])]
            deltas += [{"tool_calls": [piece]} for piece in (opening, *pieces)]
        for n, delta in enumerate(deltas):
            yield {"index": 0, "delta": delta, "logprobs": (told[n : n + 1] or [None])[0], "finish_reason": None}
        yield {"index": 0, "delta": {}, "logprobs": None, "finish_reason": self._finish()}


def vectors(body: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Embed each input as four numbers that tell the inputs apart, in base64 when asked."""
    given = body["input"]
    is_single = isinstance(given, str) or (bool(given) and isinstance(given[0], int))
    for index in range(1 if is_single else len(given)):
        numbers = [float(index), 0.5, -0.25, 0.125]
        packed = base64.b64encode(array("f", numbers).tobytes()).decode()
        is_packed = body.get("encoding_format") == "base64"
        yield {"object": "embedding", "index": index, "embedding": packed if is_packed else numbers}


LONG = Answer("One two three four five six seven eight.")


async def send_beginning(request: Received, writer: asyncio.StreamWriter, events: int, answer: Answer = LONG) -> None:
    """Send the head and the first events (the role chunk counts) or, unstreamed, the head and half of the body."""
    if not request.is_streaming:
        response = whole(request, 200, body := answer.body(request), {"content-type": JSON})
        await send(writer, response[: len(response) - len(body) // 2])
        return
    have = answer.events(request)
    if events > len(have):
        raise ValueError(f"the answer has {len(have)} events, the script asks for {events}")
    await send(writer, stream_head(request))
    for data in have[:events]:
        await send(writer, chunk(data))


@dataclass(frozen=True)
class Error:
    """Refuse with a status; without a body, OpenAI's error object."""

    status: int
    body: Mapping[str, Any] | bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)

    async def __call__(self, request: Received, writer: asyncio.StreamWriter) -> None:
        error = {"message": f"upstream says {self.status}", "type": "upstream_error", "param": None, "code": None}
        body = {"error": error} if self.body is None else self.body
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        await send(writer, whole(request, self.status, data, {"content-type": JSON, **self.headers}))


@dataclass(frozen=True)
class Hang:
    """Stop for good: before the headers, after them, or after some events (unstreamed: half of the body)."""

    before: Literal["headers", "body"] = "headers"
    after_chunks: int | None = None

    async def __call__(self, request: Received, writer: asyncio.StreamWriter) -> None:
        if self.after_chunks is not None:
            await send_beginning(request, writer, self.after_chunks)
        elif self.before == "body":
            promised = {"content-type": JSON, "content-length": "100"}
            await send(writer, stream_head(request) if request.is_streaming else head(request, 200, promised))
        await asyncio.Event().wait()


@dataclass(frozen=True)
class DropConnection:
    """Close in the middle: before any byte, after some events, inside an event, or short of content-length.

    `mid_event` counts after `after_chunks` events (one when not said). `reset` sends RST in place of FIN.
    """

    before_headers: bool = False
    after_chunks: int | None = None
    mid_event: bool = False
    mid_body: bool = False
    reset: bool = False

    async def __call__(self, request: Received, writer: asyncio.StreamWriter) -> None:
        if self.mid_body:
            body = LONG.body(request)
            await send(writer, whole(request, 200, body, {"content-type": JSON, "content-length": str(len(body) + 99)}))
        elif self.mid_event or self.after_chunks is not None:
            events = 1 if self.after_chunks is None else self.after_chunks
            await send_beginning(request, writer, events)
            if self.mid_event and request.is_streaming:
                following = LONG.events(request)[events]
                await send(writer, chunk(following[: len(following) // 2]))
        if self.reset:
            linger = struct.pack("ii", 1, 0)  # a zero linger makes close() send RST
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            writer.transport.abort()
        writer.close()


@dataclass(frozen=True)
class SilentEnd:
    """End the stream properly after some events, with no finish_reason and no [DONE]."""

    after_chunks: int = 3

    async def __call__(self, request: Received, writer: asyncio.StreamWriter) -> None:
        if not request.is_streaming:
            await Answer(finish_reason=None)(request, writer)
            return
        await send_beginning(request, writer, self.after_chunks)
        await send(writer, LAST_CHUNK)


@dataclass(frozen=True)
class ErrorInStream:
    """Send an error object as an event after some others, then end properly; unstreamed, as a body with status 200."""

    after_chunks: int = 0
    error: Mapping[str, Any] = field(default_factory=lambda: {"message": "upstream broke", "type": "server_error"})

    async def __call__(self, request: Received, writer: asyncio.StreamWriter) -> None:
        if not request.is_streaming:
            await Error(200, {"error": dict(self.error)})(request, writer)
            return
        await send_beginning(request, writer, self.after_chunks)
        # Read by itself, the beginning has been sent on; together with it the error would still cost only a fallback.
        await asyncio.sleep(0.05 if self.after_chunks else 0)
        await send(writer, chunk(event({"error": dict(self.error)})) + LAST_CHUNK)


@dataclass(frozen=True)
class Garbage:
    """Answer 200 under the right content type with a body that is neither JSON nor server-sent events."""

    payload: bytes = b"<html>It works!</html>\n\x00\xff{"

    async def __call__(self, request: Received, writer: asyncio.StreamWriter) -> None:
        content_type = SSE if request.is_streaming else JSON
        await send(writer, whole(request, 200, self.payload, {"content-type": content_type}))


@dataclass(frozen=True)
class WrongContentType:
    """Give the right body under a content type that is not its own."""

    content_type: str = "text/html"

    async def __call__(self, request: Received, writer: asyncio.StreamWriter) -> None:
        answer = Answer()
        data = b"".join(answer.events(request)) if request.is_streaming else answer.body(request)
        await send(writer, whole(request, 200, data, {"content-type": self.content_type}))


@dataclass(frozen=True)
class SplitBytes:
    """Send a stream's payload cut at the given sizes, each piece an HTTP chunk of its own; the rest comes last."""

    payload: bytes
    sizes: Sequence[int]
    pause_s: float = 0

    async def __call__(self, request: Received, writer: asyncio.StreamWriter) -> None:
        await send(writer, stream_head(request))
        at = 0
        for size in (*self.sizes, len(self.payload)):
            if piece := self.payload[at : at + size]:  # an empty chunk would end the body
                await asyncio.sleep(self.pause_s)
                await send(writer, chunk(piece))
            at += size
        await send(writer, LAST_CHUNK)


@dataclass(frozen=True)
class SlowHeaders:
    """Take `delay_s` over the headers: at once at the end, or in `pieces`, which defeats a time-out per read."""

    delay_s: float
    pieces: int = 1
    answer: Answer = field(default_factory=Answer)

    async def __call__(self, request: Received, writer: asyncio.StreamWriter) -> None:
        is_streaming, body = request.is_streaming, b""
        first = stream_head(request)
        if not is_streaming:
            body = self.answer.body(request)
            first = head(request, 200, {"content-type": JSON, "content-length": str(len(body))})
        step = -(-len(first) // self.pieces)
        for at in range(0, len(first), step):
            await asyncio.sleep(self.delay_s / self.pieces)
            await send(writer, first[at : at + step])
        if is_streaming:
            await self.answer.send_events(request, writer)
        await send(writer, LAST_CHUNK if is_streaming else body)


@dataclass(frozen=True)
class Compressed:
    """Answer in gzip though nobody asked, flushed after every event."""

    answer: Answer = field(default_factory=Answer)

    async def __call__(self, request: Received, writer: asyncio.StreamWriter) -> None:
        packer = zlib.compressobj(wbits=zlib.MAX_WBITS | 16)  # 16 asks for gzip's header
        if not request.is_streaming:
            data = packer.compress(self.answer.body(request)) + packer.flush()
            await send(writer, whole(request, 200, data, {"content-type": JSON, "content-encoding": "gzip"}))
            return
        await send(writer, stream_head(request, content_encoding="gzip"))
        for data in self.answer.events(request):
            await send(writer, chunk(packer.compress(data) + packer.flush(zlib.Z_SYNC_FLUSH)))
        await send(writer, chunk(packer.flush()) + LAST_CHUNK)


class Upstream:
    """Listen on 127.0.0.1 and follow the script; on leaving, raise what a behaviour raised by its own fault."""

    def __init__(self) -> None:
        self.url = ""
        self.requests: list[Received] = []
        self.cancelled: list[float] = []  # monotonic moments at which the peer left while it was being served
        self.connections = 0  # accepted so far
        self.open_now = 0  # connections with a request being served now
        self._script: deque[Behaviour] = deque([Answer()])
        self._failures: list[BaseException] = []
        self._tasks: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    def script(self, *behaviours: Behaviour) -> None:
        """Replace the script: one behaviour a request, in order, the last one repeats."""
        self._script = deque(behaviours or [Answer()])

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/v1"
        return self

    async def __aexit__(self, kind: object, error: object, trace: object) -> None:
        self._server.close()
        tasks = dict(self._tasks)
        for task, writer in tasks.items():
            writer.transport.abort()
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._server.wait_closed()
        if self._failures and error is None:
            raise self._failures[0]

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._tasks[task] = writer
        task.add_done_callback(self._forget)

    def _forget(self, task: asyncio.Task[None]) -> None:
        del self._tasks[task]
        if not task.cancelled() and (error := task.exception()):
            self._failures.append(error)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        buffer = bytearray()
        try:
            while not writer.is_closing():
                request = await read_request(reader, buffer)
                self.requests.append(request)
                behaviour = self._script.popleft() if len(self._script) > 1 else self._script[0]
                await self._perform(behaviour(request, writer), watch(reader, buffer))
                if not request.is_keep_alive:
                    break
        except (ConnectionError, EOFError):
            return
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def _perform(self, behaving: Coroutine[Any, Any, None], watching: Coroutine[Any, Any, None]) -> None:
        """Let the behaviour run until it ends or the peer leaves, whichever comes first."""
        doing, leaving = asyncio.create_task(behaving), asyncio.create_task(watching)
        self.open_now += 1
        try:
            await asyncio.wait((doing, leaving), return_when=asyncio.FIRST_COMPLETED)
            has_left = not doing.done() or isinstance(doing.exception(), ConnectionError)
            if has_left:
                self.cancelled.append(time.monotonic())
        finally:
            self.open_now -= 1
            for task in (doing, leaving):
                task.cancel()
            await asyncio.gather(doing, leaving, return_exceptions=True)
        if has_left:
            raise EOFError
        doing.result()


async def watch(reader: asyncio.StreamReader, buffer: bytearray) -> None:
    """Return when the peer closes; what it sends before that belongs to its next request."""
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(65536):
            buffer += data


async def read_request(reader: asyncio.StreamReader, buffer: bytearray) -> Received:
    """Take one request off the connection, or raise EOFError when the peer has closed it."""

    async def take(end: int | bytes) -> bytes:
        while (at := buffer.find(end) if isinstance(end, bytes) else end if len(buffer) >= end else -1) < 0:
            if not (data := await reader.read(65536)):
                raise EOFError
            buffer.extend(data)
        taken = bytes(buffer[:at])
        del buffer[: at + (len(end) if isinstance(end, bytes) else 0)]
        return taken

    first, *lines = (await take(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    method, path, _ = first.split(" ", 2)
    headers: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(":")
        given = headers.get(name.lower())
        headers[name.lower()] = value.strip() if given is None else f"{given}, {value.strip()}"
    if headers.get("transfer-encoding", "").lower() != "chunked":
        return Received(method, path, headers, await take(int(headers.get("content-length", "0"))))
    body = b""
    while size := int((await take(b"\r\n")).partition(b";")[0], 16):
        body += await take(size)
        await take(b"\r\n")
    await take(b"\r\n")
    return Received(method, path, headers, body)
