"""How spans get to a collector: in batches, by one task, past a bounded queue. A request never waits for any of it.

Retries as https://opentelemetry.io/docs/specs/otlp/#failures has it. Knows neither HTTP nor how spans are encoded.
"""

import asyncio
import logging
import random
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Final, NamedTuple

from gateway.telemetry.logs import log
from gateway.telemetry.spans import Batch, Encoding, Span

BATCH_S: Final = 1.0
"""How long spans wait for others. OpenTelemetry's SDKs take 5 s; traces are looked at while something is tried out."""
BATCH_SPANS: Final = 512
GIVE_UP_S: Final = 60.0
"""How long one batch is tried again: what comes after it waits in the queue."""
FIRST_PAUSE_S, LAST_PAUSE_S = 1.0, 16.0
FLUSH_S: Final = 2.0
"""How long a gateway that stops waits for the collector: pods are killed after their grace."""
UNREACHABLE: Final = 0
"""The status where nobody has answered."""
RETRYABLE: Final = frozenset({UNREACHABLE, 429, 502, 503, 504})
EXPORTED, QUEUE, COLLECTOR, STOPPED = "exported", "queue_full", "collector", "stopped"
"""What becomes of spans: taken, or dropped as there was no room, as the collector did not want them, or at a stop."""


class Told(NamedTuple):
    """A collector's answer. `status`: UNREACHABLE where there was none; `wait_s`: how long it wants not to be asked."""

    status: int
    body: bytes = b""
    wait_s: float | None = None

    @property
    def has_taken(self) -> bool:
        """Tell whether it has taken the request."""
        return 200 <= self.status < 300


Send = Callable[[bytes], Awaitable[Told]]
"""Sends a request's body, within a deadline of its own. Never raises but for a cancellation."""

CountSpans = Callable[[str, int], None]
"""Told what became of so many spans."""


class _Sealed(NamedTuple):
    body: bytes
    span_count: int


class SpanExporter:
    """Sends spans to one collector."""

    def __init__(self, encoding: Encoding, send: Send, count: CountSpans, max_queued_spans: int) -> None:
        self._encoding = encoding
        self._send = send
        self._count = count
        self._max_queued_spans = max_queued_spans
        self._batch: Batch = encoding.open_batch()
        self._sealed: deque[_Sealed] = deque()
        self._queued_spans = 0
        self._has_sealed = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        self._is_failing = self._is_closed = False

    def offer(self, trace_id: str, spans: Sequence[Span]) -> None:
        """Take the spans of one request, all or none: half a trace misleads."""
        if self._is_closed or self._queued_spans + len(spans) > self._max_queued_spans:
            self._count(STOPPED if self._is_closed else QUEUE, len(spans))
            return
        loop = asyncio.get_running_loop()
        if self._task is None:
            self._task = loop.create_task(self._run())
        self._batch.add(trace_id, spans)
        self._queued_spans += len(spans)
        if self._batch.span_count >= BATCH_SPANS:
            self._seal()
        elif self._timer is None:
            self._timer = loop.call_later(BATCH_S, self._seal)

    def _seal(self) -> None:
        """Have what has gathered sent."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._batch.span_count:
            self._sealed.append(_Sealed(self._batch.encode(), self._batch.span_count))
            self._batch = self._encoding.open_batch()
            self._has_sealed.set()

    async def _run(self) -> None:
        while True:
            await self._has_sealed.wait()
            self._has_sealed.clear()
            while self._sealed:
                self._settle(await self._deliver(self._sealed[0]))

    async def _deliver(self, sealed: _Sealed) -> Told:
        """Send until it is taken, refused or given up; return the last answer."""
        loop = asyncio.get_running_loop()
        until_s, pause_s = loop.time() + GIVE_UP_S, FIRST_PAUSE_S
        while True:
            told = await self._send(sealed.body)
            self._tell(told)
            # A collector may ask for a longer pause, not for a shorter one: `Retry-After: 0` would be asked for ever.
            wait_s = max(pause_s * random.uniform(0.8, 1.2), told.wait_s or 0.0)  # noqa: S311 - no secret
            if told.status not in RETRYABLE or loop.time() + wait_s > until_s:
                return told
            await asyncio.sleep(wait_s)
            pause_s = min(2 * pause_s, LAST_PAUSE_S)

    def _settle(self, told: Told) -> None:
        """Forget what was sent last, and count what became of it."""
        span_count = self._sealed.popleft().span_count
        self._queued_spans -= span_count
        if not told.has_taken:
            self._count(COLLECTOR, span_count)
            return
        rejected = min(max(self._encoding.count_rejected(told.body), 0), span_count)
        self._count(EXPORTED, span_count - rejected)
        if rejected:
            self._count(COLLECTOR, rejected)

    def _tell(self, told: Told) -> None:
        """Log that the collector began to fail, or to take again; not each time."""
        if told.has_taken is not self._is_failing:
            return
        self._is_failing = not told.has_taken
        if told.has_taken:
            log("tracing_recovered")
        else:
            problem = f"status {told.status}" if told.status else "nobody answers"
            log("tracing_failing", level=logging.WARNING, problem=problem)

    async def close(self) -> None:
        """Send what is left, once and not for long; what does not get through is dropped and counted."""
        self._is_closed = True
        self._seal()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
        with suppress(TimeoutError):
            async with asyncio.timeout(FLUSH_S):
                await self._flush()
        if self._sealed:
            self._count(STOPPED, sum(sealed.span_count for sealed in self._sealed))
            self._sealed.clear()

    async def _flush(self) -> None:
        while self._sealed:
            told = await self._send(self._sealed[0].body)
            if told.status in RETRYABLE:
                return
            self._settle(told)
