"""A circuit breaker for the link to a store: a dead one is asked seldom, not by every request."""

import logging
import random
from collections.abc import Callable

from gateway.core.clock import Clock, monotonic_s
from gateway.telemetry.logs import log


class Breaker:
    """Open after `threshold` failures in a row; after `pause_s` let one caller through to try.

    `jitter`, from 0 to 1, says how much of half a pause more it waits: gateways that lost one server at the same moment
    should not all try it at the same moment. `tell` hears of each change once: whether it is open now.
    """

    def __init__(
        self,
        threshold: int = 3,
        pause_s: float = 2.0,
        clock: Clock = monotonic_s,
        jitter: Callable[[], float] = lambda: 0.0,
        tell: Callable[[bool], None] = lambda is_open: None,  # noqa: ARG005 - nobody wants to know
    ) -> None:
        self._threshold = threshold
        self._pause_s = pause_s
        self._clock = clock
        self._jitter = jitter
        self._tell = tell
        self._failures = 0
        self._quiet_until_s = 0.0

    def allows(self) -> bool:
        """Tell whether a call may be made now; when open, one caller a pause gets a yes."""
        if self._failures < self._threshold:
            return True
        now_s = self._clock()
        if now_s < self._quiet_until_s:
            return False
        self._quiet_until_s = now_s + self._next_pause_s()
        return True

    def succeeded(self) -> None:
        """Close."""
        was_open = self._failures >= self._threshold
        self._failures = 0
        if was_open:
            self._tell(False)

    def failed(self) -> None:
        """Count a failure; open when there were too many in a row."""
        self._failures += 1
        if self._failures >= self._threshold:
            self._quiet_until_s = self._clock() + self._next_pause_s()
        if self._failures == self._threshold:
            self._tell(True)

    def _next_pause_s(self) -> float:
        return self._pause_s * (1 + self._jitter() / 2)


def store_breaker(tell: Callable[[bool], None] | None = None) -> Breaker:
    """Return what stands before a store: its changes are logged, unless another is to hear of them."""
    return Breaker(jitter=random.random, tell=tell or tell_in_log)


def tell_in_log(is_open: bool) -> None:
    """Log that the store is not asked any more, or again."""
    if is_open:
        log("store_failing", level=logging.WARNING, note="asked seldom until it answers; what it kept is missed")
    else:
        log("store_answers")
