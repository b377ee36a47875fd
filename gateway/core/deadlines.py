"""Deadlines by the thousand, in slots that share one timer each. Knows nothing of what it ends.

`asyncio.timeout` costs 4.3 µs. Nearly every deadline is met, so setting one and taking it away must be cheap, and
running out may be dear. A deadline runs out up to one slot late, never early.
Source: Varghese and Lauck, "Hashed and hierarchical timing wheels" (1987); the event loop's heap turns the wheel.
"""

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self

LONG_S: Final = 4.0
"""From here on a deadline is a long one."""
SLOT_S: Final = 0.01
LONG_SLOT_S: Final = 0.25
"""How late a deadline may run out, and how late a long one: 600 s of them are 2,400 slots, not 60,000."""


def _nothing() -> None:
    pass


class Timer:
    """A callback in a slot. It lets go of what it would have called: else each deadline met is a cycle of garbage."""

    __slots__ = ("_slot", "callback")

    def __init__(self, slot: "set[Timer]", callback: Callable[[], object]) -> None:
        self.callback = callback
        self._slot = slot
        slot.add(self)

    def cancel(self) -> None:
        """Take it back; one that has run out takes no notice."""
        self._slot.discard(self)
        self.callback = _nothing

    def run_out(self) -> None:
        """Call back."""
        callback, self.callback = self.callback, _nothing
        callback()


class Wheel:
    """Every deadline of one event loop. It binds itself to the loop that runs when it is first used."""

    __slots__ = ("_loop", "_slots")

    def __init__(self) -> None:
        self._slots: dict[float, set[Timer]] = {}
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """Return the loop; to ask asyncio for the one that runs takes a system call (until Python 3.12)."""
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
        return self._loop

    def within(self, seconds: float) -> "Deadline":
        """Return a context that is left by TimeoutError once `seconds` are over: `asyncio.timeout`, but for `with`."""
        return Deadline(self, seconds)

    def after(self, seconds: float, callback: Callable[[], object]) -> Timer:
        """Call back once `seconds` are over, unless the timer is cancelled first."""
        return Timer(self._slot_in(seconds), callback)

    def _slot_in(self, seconds: float) -> set[Timer]:
        loop = self.loop
        width_s = SLOT_S if seconds < LONG_S else LONG_SLOT_S
        # One slot on: the one that the end falls into may be nearly over.
        ends_s = ((loop.time() + seconds) // width_s + 1) * width_s
        slot = self._slots.get(ends_s)
        if slot is None:
            slot = self._slots[ends_s] = set()
            loop.call_at(ends_s, self._end, ends_s)
        return slot

    def _end(self, ends_s: float) -> None:
        slot = self._slots.pop(ends_s)
        while slot:
            # One by one: what runs out may cancel others of its slot.
            slot.pop().run_out()


class Deadline:
    """Cancels the task that entered it, and turns that cancellation, and no other, into TimeoutError."""

    __slots__ = ("_cancelling", "_has_passed", "_seconds", "_task", "_timer", "_wheel")

    def __init__(self, wheel: Wheel, seconds: float) -> None:
        self._wheel = wheel
        self._seconds = seconds

    def __enter__(self) -> Self:
        task = asyncio.current_task(self._wheel.loop)
        if task is None:
            raise RuntimeError("a deadline needs a task to end")
        self._task = task
        self._cancelling = task.cancelling()
        self._has_passed = False
        self._timer = self._wheel.after(self._seconds, self._pass)
        return self

    def _pass(self) -> None:
        self._has_passed = True
        self._task.cancel()

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._has_passed:
            self._timer.cancel()
        elif take_back(self._task, self._cancelling, kind):
            raise TimeoutError from exc


def take_back(task: "asyncio.Task[object]", cancelling: int, kind: type[BaseException] | None) -> bool:
    """Take back a cancellation of ours; tell whether it ended the context, and nobody else wants the task to end.

    As `asyncio.timeout`: who was cancelled from elsewhere too stays cancelled. `cancelling`: its count before.
    """
    return task.uncancel() <= cancelling and kind is asyncio.CancelledError
