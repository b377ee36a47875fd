"""Durations of a request's stages, on the monotonic clock."""

import time
from collections.abc import Callable
from enum import StrEnum
from typing import Final, NamedTuple

Clock = Callable[[], float]
"""Seconds on a monotonic clock."""

monotonic_s: Clock = time.perf_counter


class Stage(StrEnum):
    """The parts of a request that are timed, by their names in `Server-Timing`."""

    AUTH = "auth"
    LIMITS = "limits"
    CACHE = "cache"
    CLASSIFY = "classify"
    UPSTREAM = "upstream"
    GATEWAY = "gateway"
    """Whatever else the gateway does; in `Server-Timing` it stands for all that is not upstream."""


class Stopwatch:
    """Measure stages one after the other: `lap` ends the stage that began at the lap before."""

    __slots__ = ("_at_s", "_clock", "durations_s", "ended_s", "started_s")

    def __init__(self, clock: Clock = monotonic_s) -> None:
        self._clock = clock
        self.started_s = self._at_s = clock()
        self.ended_s: float | None = None
        self.durations_s: dict[Stage, float] = {}

    def skip(self) -> None:
        """Leave the time since the last lap out of every stage."""
        self._at_s = self._clock()

    def lap(self, stage: Stage, name: str = "") -> None:  # noqa: ARG002 - a LapRecorder's
        """Give the time since the last lap to `stage`. `name`: which part of it, where it has several."""
        now_s = self._clock()
        self.durations_s[stage] = self.durations_s.get(stage, 0.0) + now_s - self._at_s
        self._at_s = now_s

    def stop(self) -> None:
        """Take note that the request has ended; no stage comes after it."""
        self.ended_s = self._clock()

    def elapsed_s(self) -> float:
        """Return the time since the start, up to the end if there was one."""
        return (self._clock() if self.ended_s is None else self.ended_s) - self.started_s


_GATEWAY: Final = Stage.GATEWAY


class Lap(NamedTuple):
    """A stage, or the part of it that has a name, from when to when."""

    name: str
    began_s: float
    ended_s: float


class LapRecorder(Stopwatch):
    """A stopwatch that also keeps when each stage began and ended: for requests whose trace is recorded."""

    __slots__ = ("laps",)

    def __init__(self, begun: Stopwatch) -> None:
        """Go on with a stopwatch that has timed no stage yet."""
        super().__init__(begun._clock)  # noqa: SLF001 - a stopwatch's own
        self.started_s = self._at_s = begun.started_s
        self.laps: list[Lap] = []

    def lap(self, stage: Stage, name: str = "") -> None:
        """Give the time since the last lap to `stage`, and keep it; what the gateway does besides only by its name."""
        began_s, now_s = self._at_s, self._clock()
        self.durations_s[stage] = self.durations_s.get(stage, 0.0) + now_s - began_s
        self._at_s = now_s
        if name or stage is not _GATEWAY:
            self.laps.append(Lap(name or stage, began_s, now_s))
