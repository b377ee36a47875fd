"""Bounds how often one fault is told: a dead upstream at 1,000 requests a second must not write 1,000 lines a second.

What is no fault passes: rows of the access log, and what is told once by its nature.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Final

from gateway.core.clock import Clock
from gateway.telemetry.log_writer import FIELDS

BURST: Final = 20
"""Lines of one event in a window. More of them say nothing new, and each takes 30 µs."""
WINDOW_S: Final = 10.0
MAX_KEYS: Final = 512
"""Events told apart. Names and codes are closed sets; libraries' messages may not be: those beyond count as one."""
OTHERS: Final = "others"
APART: Final = ("code", "model", "problem")
"""Fields by which an event counts as another one, as each may have another cause."""


TellSuppressed = Callable[[str, int], None]
"""Told an event's name and how many of it were not written."""


class _Window:
    """One event's lines since the window began."""

    __slots__ = ("began_s", "count", "suppressed")

    def __init__(self, began_s: float) -> None:
        self.began_s = began_s
        self.count = self.suppressed = 0


class Repeats(logging.Filter):
    """Lets BURST lines of an event through in WINDOW_S; what was held back is told once, at the window's end."""

    def __init__(self, tell: TellSuppressed, clock: Clock = time.monotonic) -> None:
        super().__init__()
        self._tell = tell
        self._clock = clock
        self._windows: dict[tuple[str, ...], _Window] = {}
        self._swept_s = -WINDOW_S

    def filter(self, record: logging.LogRecord) -> bool:
        """Tell whether a line may be written."""
        if record.levelno < logging.WARNING:
            return True
        key, now_s = _key_of(record), self._clock()
        if key not in self._windows and not self._has_room(now_s):
            key = (OTHERS,)
        window = self._windows.get(key)
        if window is None or now_s - window.began_s >= WINDOW_S:
            if window is not None and window.suppressed:
                self._tell_suppressed(key, window)
            window = self._windows[key] = _Window(now_s)
        window.count += 1
        if window.count <= BURST:
            return True
        window.suppressed += 1
        if window.suppressed == 1:
            self._tell_at_the_end(key, window, window.began_s + WINDOW_S - now_s)
        return False

    def _has_room(self, now_s: float) -> bool:
        """Tell whether one more event can be told apart; where none can, see once a window which are over."""
        if len(self._windows) < MAX_KEYS:
            return True
        if now_s - self._swept_s < WINDOW_S:
            return False
        self._swept_s = now_s
        for key, window in [*self._windows.items()]:
            if now_s - window.began_s >= WINDOW_S:
                self._end(key, window)
        return len(self._windows) < MAX_KEYS

    def _tell_at_the_end(self, key: tuple[str, ...], window: _Window, in_s: float) -> None:
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:  # a thread: it is told with the next such event
            return
        loop.call_later(in_s, self._end, key, window)

    def _end(self, key: tuple[str, ...], window: _Window) -> None:
        if self._windows.get(key) is window:
            del self._windows[key]
            if window.suppressed:
                self._tell_suppressed(key, window)

    def _tell_suppressed(self, key: tuple[str, ...], window: _Window) -> None:
        count, window.suppressed = window.suppressed, 0
        self._tell(key[0], count)


def _key_of(record: logging.LogRecord) -> tuple[str, ...]:
    fields = getattr(record, FIELDS, {})
    return (str(record.msg), record.name, *(str(fields[name]) for name in APART if name in fields))
