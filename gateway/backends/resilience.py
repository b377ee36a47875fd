"""What is done when an upstream fails before its first byte: another replica, then another model, then an error.

After the first byte nothing is tried again: a second answer glued to half a first one is worse than an error.
"""

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import overload

import msgspec

from gateway.backends.backend import Backend, Call, Health
from gateway.core.clock import Clock, monotonic_s
from gateway.core.errors import (
    PosternError,
    UpstreamContextError,
    UpstreamError,
    forget_frames,
    internal_error,
)
from gateway.core.reply import Reply
from gateway.telemetry.logs import log, log_failure

COOLDOWN_S = 2.0
"""How long a replica that failed is asked last; long enough that most requests miss a dead one, short enough to notice
its return."""

CLOSE_S = 5.0
"""How long a replica may take to let go of its connections; then it is left as it is."""

FULL_KV_CACHE = 0.95
"""From this share on a server preempts what it runs, or lets new requests wait: others are asked first."""

CountAttempt = Callable[[str, str], None]
"""Told each attempt's model and outcome (`ok`, or the error's code)."""


Track = Callable[[int], None]
"""Told +1 and -1 as requests come to a model and leave it."""

CallOf = Callable[[float], Call]
"""Makes the call for a deadline on the event loop's clock."""


class Plan(Sequence[str]):
    """The chosen model, then its fallbacks, which are looked for once somebody asks for more than the first."""

    __slots__ = ("_chosen", "_find_fallbacks", "_models")

    def __init__(self, chosen: str, find_fallbacks: Callable[[], Sequence[str]]) -> None:
        self._chosen = chosen
        self._find_fallbacks = find_fallbacks
        self._models: Sequence[str] | None = None

    @overload
    def __getitem__(self, place: int) -> str: ...

    @overload
    def __getitem__(self, place: slice) -> Sequence[str]: ...

    def __getitem__(self, place: int | slice) -> str | Sequence[str]:
        return self._chosen if place == 0 else self._known()[place]

    def __len__(self) -> int:
        return len(self._known())

    def _known(self) -> Sequence[str]:
        if self._models is None:
            self._models = (self._chosen, *self._find_fallbacks())
        return self._models


class Replicas:
    """The replicas of one model: the one with the fewest requests is asked first, one that just failed last.

    What a replica says of itself counts for `stale_s`; one that is not ready is asked last of all, but asked: what it
    said may be wrong, or over.
    """

    def __init__(
        self, backends: Sequence[Backend], track: Track, clock: Clock = monotonic_s, *, stale_s: float = 6.0
    ) -> None:
        self.backends = tuple(backends)
        self._track = track
        self._clock = clock
        self._stale_s = stale_s
        self._in_flight = dict.fromkeys(self.backends, 0)
        self._failed_s: dict[Backend, float] = {}
        self._said: dict[Backend, tuple[Health, float]] = {}
        self._turn = 0
        self._holders = 0
        self.is_closed = False

    def note(self, backend: Backend, health: Health) -> None:
        """Take down what a replica said of itself."""
        self._said[backend] = health, self._clock()

    def in_order(self) -> list[Backend]:
        """Return every replica, best first; equals take turns."""
        count = len(self.backends)
        if count == 1:
            return [*self.backends]
        self._turn = (self._turn + 1) % count
        turned = self.backends[self._turn :] + self.backends[: self._turn]
        return sorted(turned, key=self._rank)

    def _rank(self, backend: Backend) -> tuple[bool, bool, bool, int]:
        """Return what replicas are sorted by: readiness, failures, room in the KV cache, then requests."""
        is_cooling, in_flight = self._is_cooling(backend), self._in_flight[backend]
        health, said_s = self._said.get(backend, (None, 0.0))
        if health is None or self._clock() - said_s > self._stale_s:
            return False, is_cooling, False, in_flight
        is_full = (health.kv_cache_usage or 0.0) >= FULL_KV_CACHE
        return not health.is_ready, is_cooling, is_full, in_flight + (health.waiting or 0)

    def _is_cooling(self, backend: Backend) -> bool:
        failed_s = self._failed_s.get(backend)
        return failed_s is not None and self._clock() - failed_s < COOLDOWN_S

    async def open(self, backend: Backend, call: Call) -> Reply:
        """Call one replica and count it until its reply is closed."""
        self._count(backend, 1)
        try:
            reply = await backend.open(call)
        except BaseException as exc:
            self._count(backend, -1)
            if isinstance(exc, UpstreamError) and not isinstance(exc, UpstreamContextError):
                self._failed_s[backend] = self._clock()
            raise
        self._failed_s.pop(backend, None)
        if backend in self._said and not self._said[backend][0].is_ready:
            del self._said[backend]  # it has just answered
        return self._counted(backend, reply)

    def _counted(self, backend: Backend, reply: Reply) -> Reply:
        close, is_open = reply.close, True

        async def close_once() -> None:
            nonlocal is_open
            if is_open:
                is_open = False
                self._count(backend, -1)
                await close()

        reply.close = close_once
        return reply

    def _count(self, backend: Backend, change: int) -> None:
        self._in_flight[backend] += change
        self._track(change)

    def hold(self) -> "Replicas":
        """Count one more that asks these replicas, and must close them."""
        self._holders += 1
        return self

    async def close(self) -> None:
        """Let go. Whoever is the last to do so closes every replica's connections."""
        self._holders -= 1
        if self._holders <= 0:
            await self.close_now()

    async def close_now(self) -> None:
        """Close every replica's connections, whoever may still ask them. One that can't be closed keeps none open."""
        if self.is_closed:
            return
        self.is_closed = True
        await asyncio.gather(*(_close(backend) for backend in self.backends))


async def _close(backend: Backend) -> None:
    try:
        async with asyncio.timeout(CLOSE_S):
            await backend.close()
    except Exception as exc:  # noqa: BLE001 - a supervisor: one replica's fault must not hold up the others, nor a stop
        log_failure(internal_error(exc))


def tell_attempt(request_id: str, model: str, failure: UpstreamError) -> None:
    """Log a failure that another attempt makes up for: nobody else hears of it."""
    log(
        "attempt_failed",
        level=logging.WARNING,
        request_id=request_id,
        model=model,
        code=failure.code,
        detail=failure.detail,
    )


class Dispatcher:
    """Make a bounded number of attempts along a plan of models."""

    def __init__(
        self, replicas: Mapping[str, Replicas], total_s: Mapping[str, float], count_attempt: CountAttempt
    ) -> None:
        self._replicas = replicas
        self._total_s = total_s
        self._count_attempt = count_attempt
        self._loop: asyncio.AbstractEventLoop | None = None

    async def open(self, plan: Sequence[str], max_attempts: int, call_of: CallOf) -> Reply:
        """Return the first reply that begins; the plan's first model is the chosen one, the others its fallback.

        All attempts share one deadline, of the chosen model's `total_s`; once it is over none begins.
        Raises the last `UpstreamError`, or at once the error of a request that no server would take. `attempts` is
        set on whatever is raised.
        """
        chosen = plan[0]
        replicas = self._replicas[chosen].in_order()
        if self._loop is None:
            self._loop = asyncio.get_running_loop()  # a system call, until Python 3.12
        call = call_of(self._loop.time() + self._total_s[chosen])
        try:
            return await self._attempt(chosen, replicas[0], call)
        except PosternError as exc:
            exc.attempts = 1
            if not isinstance(exc, UpstreamError):
                raise
            forget_frames(exc)
            failure = exc
        # Nearly never: what comes after the first attempt is thought of once that has failed.
        further = islice(self._attempts(plan, replicas, max_attempts), 1, None)
        return await self._go_on(chosen, further, call, failure)

    async def _go_on(
        self, chosen: str, further: Iterator[tuple[str, Backend]], call: Call, failure: UpstreamError
    ) -> Reply:
        """Make the attempts after the first, which has failed."""
        loop = asyncio.get_running_loop()
        attempts = 1
        too_small = chosen if isinstance(failure, UpstreamContextError) else None
        failed = chosen
        for model, backend in further:
            if model == too_small:
                continue
            if loop.time() >= call.deadline_s:
                break
            tell_attempt(call.request_id, failed, failure)
            attempts, failed = attempts + 1, model
            try:
                reply = await self._attempt(model, backend, call)
            except PosternError as exc:
                exc.attempts = attempts
                if not isinstance(exc, UpstreamError):
                    raise
                forget_frames(exc)
                failure = exc
                too_small = model if isinstance(exc, UpstreamContextError) else None
                continue
            reply.attempts = attempts
            reply.is_fallback = model != chosen
            return reply
        try:
            raise failure
        finally:
            del failure  # its traceback holds this frame: a cycle

    def _attempts(
        self, plan: Sequence[str], replicas: Sequence[Backend], max_attempts: int
    ) -> Iterator[tuple[str, Backend]]:
        """Yield the attempts: of n models each gets its replicas, but the models after it keep one attempt each.

        `replicas`: of the first model, in their order.
        """
        left = max_attempts
        for place, model in enumerate(plan):
            reserved = min(len(plan) - place - 1, left - 1)
            in_order = self._replicas[model].in_order() if place else replicas
            for backend in in_order[: left - reserved]:
                left -= 1
                yield model, backend
            if left <= 0:
                return

    async def _attempt(self, model: str, backend: Backend, call: Call) -> Reply:
        attempt = None
        if call.trace is not None:
            attempt = call.trace.begin(model, backend.url)
            headers = call.trace.headers(None if attempt is None else attempt.span_id)
            call = msgspec.structs.replace(call, trace_headers=headers)
        try:
            reply = await self._replicas[model].open(backend, call)
        except BaseException as exc:
            outcome = exc.code if isinstance(exc, PosternError) else "cancelled"
            self._count_attempt(model, outcome)
            if attempt is not None:
                attempt.fail(outcome)
            raise
        self._count_attempt(model, "ok")
        if attempt is not None:
            reply.close = attempt.answer(reply.close, reply.finish_reasons)
        return reply

    async def close(self) -> None:
        """Let go of every model's replicas."""
        for replicas in self._replicas.values():
            await replicas.close()
