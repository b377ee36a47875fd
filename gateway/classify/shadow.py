"""Routers that judge along without deciding: behind the answer, each in a thread of its own, dropped when it lags.

In the process, so that a prompt goes nowhere it would not have gone. A router that hangs holds its own thread and
nothing else: the threads are daemons, and whatever waits for them is bounded.
"""

import asyncio
import queue
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

from gateway.core.judgement import Judgement
from gateway.schema.conversation import Conversation

MAX_WAITING = 32
"""Conversations that wait for one router. At 0.1 ms a judgement more than that is not a peak but overload."""

Told = Callable[[Judgement | None, float], None]
"""Told, on the event loop, the judgement (None after a fault) and the seconds it took."""


class BlockingJudge(Protocol):
    """A classifier that can be asked from a thread."""

    def judge_blocking(self, conversation: Conversation) -> Judgement | None:
        """Return the judgement, or None."""
        ...


class Shadows:
    """Threads by router."""

    def __init__(self, max_waiting: int = MAX_WAITING) -> None:
        self._max_waiting = max_waiting
        self._threads: dict[str, _Thread] = {}

    def offer(self, router: str, judge: BlockingJudge, conversation: Conversation, told: Told) -> bool:
        """Let a router judge when it gets to it; False when too many wait for it already. Never waits."""
        thread = self._threads.get(router)
        if thread is None:
            thread = self._threads[router] = _Thread(self._max_waiting, asyncio.get_running_loop())
        return thread.offer(judge, conversation, told)

    def close(self) -> None:
        """Take no more work."""
        for thread in self._threads.values():
            thread.close()
        self._threads = {}


class _Thread:
    def __init__(self, max_waiting: int, loop: asyncio.AbstractEventLoop) -> None:
        self._waiting: queue.Queue[tuple[BlockingJudge, Conversation, Told]] = queue.Queue(max_waiting)
        self._loop = loop
        self._is_closed = False
        threading.Thread(target=self._run, name="shadow", daemon=True).start()

    def offer(self, judge: BlockingJudge, conversation: Conversation, told: Told) -> bool:
        try:
            self._waiting.put_nowait((judge, conversation, told))
        except queue.Full:
            return False
        return True

    def _run(self) -> None:
        while not self._is_closed:
            judge, conversation, told = self._waiting.get()
            began_s = time.perf_counter()
            try:
                judgement = judge.judge_blocking(conversation)
            except Exception:  # noqa: BLE001 - a supervisor: no router's fault may end the thread
                judgement = None
            with suppress(RuntimeError):  # the loop is closed: nobody is left to tell
                self._loop.call_soon_threadsafe(told, judgement, time.perf_counter() - began_s)

    def close(self) -> None:
        self._is_closed = True
        # Wakes a thread that waits; one that works looks up by itself.
        self.offer(_Nobody(), Conversation(()), lambda *_: None)


class _Nobody:
    def judge_blocking(self, conversation: Conversation) -> Judgement | None:  # noqa: ARG002 - the protocol's shape
        return None
