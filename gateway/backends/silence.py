"""A bound for each of many waits, one after another, at the price of one timer for all of them.

A stream waits for every chunk; a deadline set and taken away each time costs more than the chunk's own reading. Here a
wait notes when it began, and a timer, set anew only when it has run out, looks whether one has lasted too long.
"""

import asyncio
from types import TracebackType
from typing import Self

from gateway.core.deadlines import Timer, Wheel, take_back


class Silence:
    """Ends a wait inside it by TimeoutError once it has lasted `most_s`, or `deadline_s` has come. For `with`.

    `deadline_s` is on the event loop's clock. Whoever has no wait left to bound says so by `end`.
    """

    __slots__ = (
        "_cancelling",
        "_deadline_s",
        "_has_passed",
        "_loop",
        "_most_s",
        "_since_s",
        "_task",
        "_timer",
        "_wheel",
    )

    def __init__(self, wheel: Wheel, most_s: float, deadline_s: float) -> None:
        self._wheel = wheel
        self._most_s = most_s
        self._deadline_s = deadline_s
        self._loop = wheel.loop
        self._task: asyncio.Task[object] | None = None
        self._timer: Timer | None = None
        self._since_s = 0.0
        self._cancelling = 0
        self._has_passed = False

    def __enter__(self) -> Self:
        self._task = asyncio.current_task(self._loop)
        self._since_s = self._loop.time()
        if self._timer is None:
            self._set_timer()
        return self

    def renew(self) -> None:
        """Begin another wait, without leaving the context."""
        self._since_s = self._loop.time()

    def _set_timer(self) -> None:
        left_s = min(self._since_s + self._most_s, self._deadline_s) - self._loop.time()
        self._timer = self._wheel.after(max(left_s, 0.0), self._look)

    def _look(self) -> None:
        self._timer = None
        if self._task is None:
            return
        if self._loop.time() < min(self._since_s + self._most_s, self._deadline_s):
            self._set_timer()
            return
        self._has_passed = True
        self._cancelling = self._task.cancelling()
        self._task.cancel()

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        task, self._task = self._task, None
        if self._has_passed and task is not None:
            self._has_passed = False
            if take_back(task, self._cancelling, kind):
                raise TimeoutError from exc

    def end(self) -> None:
        """Take the timer back."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
