"""What is done when an upstream fails before its first byte: another replica, then another model, then an error.

After the first byte nothing is tried again: a second answer glued to half a first one is worse than an error.
"""

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence

from gateway.backends.backend import Backend, Call
from gateway.core.clock import Clock, monotonic_s
from gateway.core.errors import PosternError, UpstreamContextError, UpstreamError, UpstreamUnavailableError
from gateway.core.reply import Reply

COOLDOWN_S = 2.0
"""How long a replica that failed is asked last; long enough that most requests miss a dead one, short enough to notice
its return."""

CountAttempt = Callable[[str, str], None]
"""Told each attempt's model and outcome (`ok`, or the error's code)."""


Track = Callable[[int], None]
"""Told +1 and -1 as requests come to a model and leave it."""

CallOf = Callable[[float], Call]
"""Makes the call for a deadline on the event loop's clock."""


class Replicas:
    """The replicas of one model: the one with the fewest requests is asked first, one that just failed last."""

    def __init__(self, backends: Sequence[Backend], track: Track, clock: Clock = monotonic_s) -> None:
        self._backends = tuple(backends)
        self._track = track
        self._clock = clock
        self._in_flight = dict.fromkeys(self._backends, 0)
        self._failed_s: dict[Backend, float] = {}
        self._turn = 0

    def in_order(self) -> list[Backend]:
        """Return every replica, best first; equals take turns."""
        count = len(self._backends)
        self._turn = (self._turn + 1) % count
        turned = self._backends[self._turn :] + self._backends[: self._turn]
        return sorted(turned, key=lambda backend: (self._is_cooling(backend), self._in_flight[backend]))

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

    async def close(self) -> None:
        """Close every replica's connections."""
        for backend in self._backends:
            await backend.close()


class Dispatcher:
    """Make a bounded number of attempts along a plan of models."""

    def __init__(
        self, replicas: Mapping[str, Replicas], total_s: Mapping[str, float], count_attempt: CountAttempt
    ) -> None:
        self._replicas = replicas
        self._total_s = total_s
        self._count_attempt = count_attempt

    async def open(self, plan: Sequence[str], max_attempts: int, call_of: CallOf) -> Reply:
        """Return the first reply that begins; the plan's first model is the chosen one, the others its fallback.

        All attempts share one deadline, of the chosen model's `total_s`; once it is over none begins.
        Raises the last `UpstreamError`, or at once the error of a request that no server would take. `attempts` is
        set on whatever is raised.
        """
        failure: PosternError = UpstreamUnavailableError("No model's server can be reached.")
        loop = asyncio.get_running_loop()
        call = call_of(loop.time() + self._total_s[plan[0]])
        attempts = 0
        too_small = None
        for model, backend in self._attempts(plan, max_attempts):
            if model == too_small:
                continue
            if attempts and loop.time() >= call.deadline_s:
                break
            attempts += 1
            try:
                reply = await self._attempt(model, backend, call)
            except PosternError as exc:
                exc.attempts = attempts
                if not isinstance(exc, UpstreamError):
                    raise
                failure = exc
                too_small = model if isinstance(exc, UpstreamContextError) else None
                continue
            reply.attempts = attempts
            reply.is_fallback = model != plan[0]
            return reply
        raise failure

    def _attempts(self, plan: Sequence[str], max_attempts: int) -> Iterator[tuple[str, Backend]]:
        """Yield the attempts: of n models each gets its replicas, but the models after it keep one attempt each."""
        left = max_attempts
        for place, model in enumerate(plan):
            reserved = min(len(plan) - place - 1, left - 1)
            for backend in self._replicas[model].in_order()[: left - reserved]:
                left -= 1
                yield model, backend
            if left <= 0:
                return

    async def _attempt(self, model: str, backend: Backend, call: Call) -> Reply:
        outcome = "cancelled"
        try:
            reply = await self._replicas[model].open(backend, call)
            outcome = "ok"
        except PosternError as exc:
            outcome = exc.code
            raise
        finally:
            self._count_attempt(model, outcome)
        return reply

    async def close(self) -> None:
        """Close every connection of every model."""
        for replicas in self._replicas.values():
            await replicas.close()
