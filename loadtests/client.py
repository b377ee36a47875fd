"""The load generator where wrk can't serve: open loops with a pace of their own, and many open streams.

A process of its own, told what to do by one JSON line on standard input; it answers in JSON lines. The loop is open:
no request waits for the answer to another, so a slow subject can't slow the load down.

    python -m loadtests.client < order.json
"""

import asyncio
import json
import resource
import sys
from time import perf_counter
from typing import Any, NamedTuple, cast

import uvloop

from loadtests.bodies import NUMBER

OPEN_PER_S = 400
"""How fast streams are opened: no subject's listen queue overflows, 1,000 are open in 2.5 s."""

OPEN_S = 60.0
"""How long a subject may take to begin them all: a slow one needs 15 ms a stream on a core of its own."""


class Target(NamedTuple):
    """Where one kind of request goes: its pieces before and after the number."""

    name: str
    port: int
    head: bytes
    tail: bytes

    def request(self, number: int) -> bytes:
        """Return the whole request."""
        return self.head + b"%012d" % number + self.tail


class Reader(asyncio.Protocol):
    """Counts what comes back on one connection: the first chunk's moment, the events, the end."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.events = 0
        # By perf_counter: uvloop's own clock counts whole milliseconds.
        self.sent_s = 0.0
        self.first_s = 0.0
        self.status = b""
        self.is_streaming = False
        self.begun = asyncio.Event()
        self.begun = asyncio.Event()
        self.ended: asyncio.Future[float] = self.loop.create_future()
        self._got = 0
        self._due = -1
        self._last = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self.transport = cast("asyncio.Transport", transport)

    def send(self, request: bytes, *, is_streaming: bool) -> None:
        """Send a request and begin counting anew."""
        self.events, self.first_s, self.status, self._got, self._due = 0, 0.0, b"", 0, -1
        self.is_streaming = is_streaming
        self.ended = self.loop.create_future()
        self.sent_s = perf_counter()
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        """Count; nothing is kept."""
        if not self.status:
            self._begin(data)
        self._got += len(data)
        if not self.is_streaming:
            if self._got >= self._due:
                self._end()
            return
        self.events += data.count(b"data: ")
        if self.events and not self.first_s:
            self.first_s = perf_counter()
            self.begun.set()
            self.begun.set()
        # The last chunk of HTTP's, empty, may come in two pieces. Ending at `[DONE]` would leave it to the next answer.
        self._last = (self._last + data[-5:])[-5:]
        if self._last == b"0\r\n\r\n":
            self._end()

    def _begin(self, data: bytes) -> None:
        self.status = data[9:12]
        head = data.partition(b"\r\n\r\n")[0]
        length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
        self._due = len(head) + 4 + int(length) if length else sys.maxsize
        if self.status != b"200":
            print(json.dumps({"refused": data[:600].decode(errors="replace")}), flush=True)
            sys.exit(1)

    def _end(self) -> None:
        if not self.ended.done():
            self.ended.set_result(perf_counter())

    def connection_lost(self, exc: Exception | None) -> None:
        """End what is waited for: a connection that breaks is a fault, and says so; a stream may end with it."""
        if exc is None and self.is_streaming and self.first_s:
            self._end()
        if not self.ended.done():
            self.ended.set_exception(exc or ConnectionError("closed by the other side"))
            self.ended.exception()


async def connect(target: Target) -> Reader:
    """Open a connection."""
    loop = asyncio.get_running_loop()
    _, reader = await loop.create_connection(Reader, "127.0.0.1", target.port)
    return reader


async def pace(order: dict[str, Any], targets: list[Target]) -> None:
    """Send to the targets in turn at a fixed rate each, never two at the same moment; tell the latencies.

    A stream's latency is its time to the first chunk. Connections are kept; the first tenth of all only warms up.
    """
    loop = asyncio.get_running_loop()
    rate, seconds, is_streaming = order["rate"], order["seconds"], order["is_streaming"]
    idle: dict[str, list[Reader]] = {target.name: [] for target in targets}
    latencies: dict[str, list[float]] = {target.name: [] for target in targets}
    asks: set[asyncio.Task[None]] = set()

    async def ask(target: Target, number: int, is_counted: bool) -> None:
        reader = idle[target.name].pop() if idle[target.name] else await connect(target)
        reader.send(target.request(number), is_streaming=is_streaming)
        ended_s = await reader.ended
        if is_counted:
            latencies[target.name].append((reader.first_s if is_streaming else ended_s) - reader.sent_s)
        if not reader.transport.is_closing():
            idle[target.name].append(reader)

    whole = int(rate * seconds)
    start_s = loop.time() + 0.05
    for turn in range(whole):
        for place, target in enumerate(targets):
            due_s = start_s + (turn + place / len(targets)) / rate
            await asyncio.sleep(max(0.0, due_s - loop.time()))
            task = asyncio.create_task(ask(target, order["start"] + turn, turn >= whole // 10))
            asks.add(task)
            task.add_done_callback(asks.discard)
    if asks:
        await asyncio.wait_for(asyncio.gather(*asks), 60)
    print(json.dumps({"latencies_s": latencies}), flush=True)


async def hold(order: dict[str, Any], target: Target) -> None:
    """Open streams and keep them; at each line on standard input tell how many events have come."""
    readers = []
    start_s = asyncio.get_running_loop().time()
    for place in range(order["streams"]):
        await asyncio.sleep(max(0.0, start_s + place / OPEN_PER_S - asyncio.get_running_loop().time()))
        reader = await connect(target)
        reader.send(target.request(order["start"] + place), is_streaming=True)
        readers.append(reader)
    await asyncio.wait([asyncio.create_task(reader.begun.wait()) for reader in readers], timeout=OPEN_S)
    begun = sum(reader.begun.is_set() for reader in readers)
    if begun < len(readers):
        raise TimeoutError(f"of {len(readers)} streams {begun} began within {OPEN_S:.0f} s")
    print(json.dumps({"open": len(readers)}), flush=True)
    while await asyncio.to_thread(sys.stdin.readline):
        broken = sum(reader.ended.done() for reader in readers)
        print(json.dumps({"events": sum(reader.events for reader in readers), "broken": broken}), flush=True)


async def main() -> None:
    """Do as told."""
    order = json.loads(await asyncio.to_thread(sys.stdin.readline))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 16_384)), hard))
    targets = []
    for one in order["targets"]:
        head, _, tail = one["request"].partition(NUMBER)
        targets.append(Target(one["name"], one["port"], head.encode(), tail.encode()))
    if order["kind"] == "pace":
        await pace(order, targets)
    else:
        await hold(order, targets[0])


if __name__ == "__main__":
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(main())
    except (OSError, TimeoutError) as exc:
        print(json.dumps({"refused": f"{type(exc).__name__} {exc}"}), flush=True)
