"""A fake model server that streams: chunks made beforehand, written to all streams by one timer.

The request says how: `seed` is the pace in chunks a second (0: the first chunk, then silence; absent: all at once),
`max_tokens` how many there are (absent: until the client leaves). Streams are spread over the slots of a wheel, so
that their chunks come evenly, not all in the same millisecond.

    python -m loadtests.upstream PORT
"""

import asyncio
import json
import re
import sys
from typing import Any, ClassVar

import uvloop

TICK_S = 0.005
PACE = re.compile(rb'"seed": ?(\d+)')
COUNT = re.compile(rb'"max_tokens": ?(\d+)')
LENGTH = re.compile(rb"content-length: ?(\d+)", re.IGNORECASE)
UNPACED_CHUNKS = 16

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
HEALTHY = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}"


def frame(text: str) -> bytes:
    """Return one event as one chunk of HTTP's."""
    event = f"data: {text}\n\n".encode()
    return b"%x\r\n%b\r\n" % (len(event), event)


def chunk(delta: dict[str, str], finish_reason: str | None = None) -> bytes:
    """Return one `chat.completion.chunk`."""
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
    common = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    return frame(json.dumps({**common, "choices": [choice]}))


FIRST = chunk({"role": "assistant", "content": "Once"})
NEXT = chunk({"content": " word"})
USAGE = frame(
    json.dumps(
        {
            "id": "chatcmpl-1",
            "object": "chat.completion.chunk",
            "created": 1,
            "model": "m",
            "choices": [],
            "usage": {"prompt_tokens": 400, "completion_tokens": 250, "total_tokens": 650},
        }
    )
)
LAST = chunk({}, "stop") + USAGE + frame("[DONE]") + b"0\r\n\r\n"


class Wheel:
    """One timer for all streams: each stream is in one slot, and each tick writes to one slot's streams."""

    def __init__(self, pace: int) -> None:
        self._slots: list[set[Stream]] = [set() for _ in range(max(1, round(1 / pace / TICK_S)))]
        self._place = 0
        self._next = 0

    def add(self, stream: "Stream") -> None:
        """Take a stream in, slot after slot."""
        self._next = (self._next + 1) % len(self._slots)
        stream.slot = self._slots[self._next]
        stream.slot.add(stream)

    def turn(self) -> None:
        """Write one chunk to each stream of the next slot."""
        self._place = (self._place + 1) % len(self._slots)
        for stream in tuple(self._slots[self._place]):
            stream.write_next()


class Stream(asyncio.Protocol):
    """One connection: reads a request, answers it with a stream."""

    wheels: ClassVar[dict[int, Wheel]] = {}

    def __init__(self) -> None:
        self._seen = b""
        self._left: int | None = None
        self.slot: set[Stream] | None = None

    def connection_made(self, transport: Any) -> None:
        """Keep the transport."""
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer as soon as a whole request is there."""
        self._seen += data
        head, found, body = self._seen.partition(b"\r\n\r\n")
        if not found:
            return
        length = LENGTH.search(head)
        if length is not None and len(body) < int(length[1]):
            return
        self._seen = b""
        if head.startswith(b"GET"):
            self._transport.write(HEALTHY)
            return
        self._answer(body)

    def _answer(self, body: bytes) -> None:
        pace, count = PACE.search(body), COUNT.search(body)
        self._left = int(count[1]) if count else None
        self._transport.write(HEAD + FIRST)
        if pace is None:
            self._transport.write(NEXT * (self._left or UNPACED_CHUNKS) + LAST)
        elif int(pace[1]):
            self.wheels.setdefault(int(pace[1]), Wheel(int(pace[1]))).add(self)

    def write_next(self) -> None:
        """Write the next chunk, or the end."""
        if self._left == 0:
            self._leave()
            self._transport.write(LAST)
            return
        if self._left is not None:
            self._left -= 1
        self._transport.write(NEXT)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the protocol's signature
        """Forget the stream."""
        self._leave()

    def _leave(self) -> None:
        if self.slot is not None:
            self.slot.discard(self)
            self.slot = None


async def serve(port: int) -> None:
    """Serve until stopped; ticks that come late are made up for, so the pace holds."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Stream, "127.0.0.1", port, backlog=4096)
    due_s = loop.time()
    async with server:
        while True:
            due_s += TICK_S
            await asyncio.sleep(max(0.0, due_s - loop.time()))
            for wheel in Stream.wheels.values():
                wheel.turn()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(int(sys.argv[1])))
