"""A circuit breaker for the link to a store: a dead one is asked seldom, not by every request. Pure."""

from collections.abc import Callable

from gateway.core.clock import Clock, monotonic_s


class Breaker:
    """Open after `threshold` failures in a row; after `pause_s` let one caller through to try.

    `jitter`, from 0 to 1, says how much of half a pause more it waits: gateways that lost one server at the same moment
    should not all try it at the same moment.
    """

    def __init__(
        self,
        threshold: int = 3,
        pause_s: float = 2.0,
        clock: Clock = monotonic_s,
        jitter: Callable[[], float] = lambda: 0.0,
    ) -> None:
        self._threshold = threshold
        self._pause_s = pause_s
        self._clock = clock
        self._jitter = jitter
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
        self._failures = 0

    def failed(self) -> None:
        """Count a failure; open when there were too many in a row."""
        self._failures += 1
        if self._failures >= self._threshold:
            self._quiet_until_s = self._clock() + self._next_pause_s()

    def _next_pause_s(self) -> float:
        return self._pause_s * (1 + self._jitter() / 2)
