"""What the gateway asked of its worker and nobody took up yet, and when it is time to."""

import threading
from collections.abc import Sequence
from itertools import takewhile
from typing import Final

from gateway.backends.engine import Sampling
from gateway.backends.onnx.wire import BEAT_S, Begin, Cancel

MAX_TOGETHER: Final = 4
"""Requests in one engine: `static_batch_size` in onnxruntime-genai's src/engine/scheduler.cpp, and no setting."""


def needs_solitude(sampling: Sampling) -> bool:
    """Tell whether a task can't share an engine."""
    return sampling.seed is not None or sampling.schema is not None


def pick(waiting: Sequence[Begin], room: int, max_batch: int) -> Sequence[Begin]:
    """Return the tasks to begin now, oldest first, of which `room` at most have a place.

    Whoever comes while there is a place begins at once. Where more wait than have one, places are given a whole
    engine's at a time: one by one each would compute alone, at half the speed.
    """
    sharing = sum(not needs_solitude(begin.sampling) for begin in waiting)
    if sharing > room and room < min(MAX_TOGETHER, max_batch):
        waiting = list(takewhile(lambda begin: needs_solitude(begin.sampling), waiting))
    return waiting[:room]


class Inbox:
    """Tasks that wait, oldest first. The gateway bounds it: it lets in no more than may wait.

    Filled by the thread that listens, emptied by the one that works.
    """

    def __init__(self, max_batch: int) -> None:
        self._max_batch = max_batch
        self._changed = threading.Condition()
        self._waiting: dict[int, Begin] = {}
        self._cancelled: set[int] = set()

    def put(self, order: Begin | Cancel) -> None:
        """Add a task, or give one up."""
        with self._changed:
            if isinstance(order, Begin):
                self._waiting[order.task] = order
            elif self._waiting.pop(order.task, None) is None:
                self._cancelled.add(order.task)
            self._changed.notify()

    def take(self, running: int) -> tuple[Sequence[Begin], frozenset[int]]:
        """Return tasks to begin, and all that were given up while under way; waits a while where none runs."""
        with self._changed:
            if not running and not self._waiting:
                self._changed.wait_for(lambda: self._waiting, BEAT_S)
                self._cancelled.clear()
            begun = pick(list(self._waiting.values()), self._max_batch - running, self._max_batch)
            for begin in begun:
                del self._waiting[begin.task]
            cancelled, self._cancelled = frozenset(self._cancelled), set()
            return begun, cancelled
