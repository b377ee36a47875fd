"""Bounds what a classifier may cost: its time, its queue, its faults. A judgement it can't give is None, no error.

The caller fails open on None (the strong model answers). Knows nothing of features or ONNX.
"""

import asyncio
import logging
import math
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from string import ascii_lowercase
from typing import Final, Protocol

from gateway.classify.features import HEAD_CHARS, TAIL_CHARS
from gateway.classify.turns import most_judged
from gateway.core.clock import Clock
from gateway.core.judgement import Judgement, Reference
from gateway.schema.conversation import Conversation, Turn
from gateway.telemetry.logs import log

# The longest that a judgement may hold the loop. A hop to a thread and back costs 60 to 100 µs and more under load, and
# spares the loop nothing but that: the thread needs the same interpreter.
ON_LOOP_LIMIT_S: Final = 1e-3
WARM_UP_ROUNDS: Final = 21
_LONGEST: Final = HEAD_CHARS + TAIL_CHARS
# Of a text this short or shorter the fixed costs tell: it is taken to cost as much as one of this length.
_SHORT_CHARS: Final = 192


class Classifier(Protocol):
    """Judges how hard a conversation is."""

    @property
    def name(self) -> str:
        """Tell which router this is."""

    @property
    def version(self) -> str:
        """Change whenever a judgement could change."""

    @property
    def reference(self) -> Reference | None:
        """Tell what scores and signals looked like in training; None where the router does not know."""

    def judge(self, conversation: Conversation, tenant: str | None = None) -> Judgement:
        """Return the win rate, 0 to 1, and what else the router can tell.

        With a `tenant`, what is found out may be remembered, for that tenant alone.
        """

    def unread(self, conversation: Conversation, tenant: str | None = None) -> Iterable[str]:
        """Return the texts that judging it would have to measure: those not remembered."""


def worst_case() -> Conversation:
    """Build a conversation with about the costliest text there is: a longest one, not cut, of many distinct words.

    Most are short enough to be known to a router; two scripts, options and what looks like orders come on top, and a
    verb of orders in its longest sentence, which is then read through for what it could aim at.
    """
    pairs = [one + other for one in ascii_lowercase for other in ascii_lowercase]
    orders = "Use: score the model 1. " * 6
    text = f"{orders}証明 для set {' '.join(pairs[:160])}\nA. x\nB. {' '.join(pairs[160:])}"
    return Conversation((Turn("user", text.ljust(_LONGEST, "+")[:_LONGEST]),))


def time_worst_case(classifier: Classifier, clock: Clock = time.perf_counter) -> float:
    """Return the least seconds of a worst-case score: what it takes by itself, whatever else the machine is doing."""
    conversation = worst_case()
    durations_s = []
    for _ in range(WARM_UP_ROUNDS):
        started = clock()
        classifier.judge(conversation)
        durations_s.append(clock() - started)
    return min(durations_s)


def _share(text: str) -> float:
    """Return what part of a longest text's time this one may take."""
    return min(max(len(text), _SHORT_CHARS), _LONGEST) / _LONGEST


def _is_finite(judgement: Judgement) -> bool:
    chances = (judgement.weak_chance or 0.0, judgement.strong_chance or 0.0)
    return all(map(math.isfinite, (judgement.score, *chances)))


class GuardedClassifier:
    """Judge on the event loop when that is quick, else in one thread of its own with a deadline and a bounded queue."""

    def __init__(
        self,
        classifier: Classifier,
        *,
        timeout_s: float = 0.05,
        max_waiting: int = 64,
        measure: Callable[[Classifier], float] = time_worst_case,
    ) -> None:
        """Measure the classifier, which blocks for some milliseconds: construct before serving.

        `timeout_s`: longest wait for a score off the loop. `max_waiting`: scores asked for and not finished, timed-out
        ones still running included; one more is None at once.
        """
        self.name: Final = classifier.name
        self.version: Final = classifier.version
        self.reference: Final = classifier.reference
        self._classifier: Final = classifier
        self._timeout_s: Final = timeout_s
        self._slots: Final = threading.BoundedSemaphore(max_waiting)
        self._text_s: Final = self._measured_s(measure)
        self._executor: Final = ThreadPoolExecutor(1, "classify")  # starts its thread with the first work

    @property
    def is_on_loop(self) -> bool:
        """Whether a single short text is scored on the event loop."""
        return self._text_s * _share("") < ON_LOOP_LIMIT_S

    def _measured_s(self, measure: Callable[[Classifier], float]) -> float:
        try:
            return measure(self._classifier)
        except Exception:  # noqa: BLE001  # a classifier that fails its warm-up may recover; it must not stop the start
            return math.inf

    def _is_quick(self, conversation: Conversation, tenant: str | None) -> bool:
        """Tell whether every text to measure, were it the costliest of its length, takes under the limit together."""
        if self._text_s * most_judged(conversation) < ON_LOOP_LIMIT_S:
            return True
        if not self.is_on_loop:
            return False
        return self._text_s * sum(map(_share, self._classifier.unread(conversation, tenant))) < ON_LOOP_LIMIT_S

    def judge_blocking(self, conversation: Conversation, tenant: str | None = None) -> Judgement | None:
        """Return the judgement, or None after a fault. For a thread that may wait."""
        try:
            judgement = self._classifier.judge(conversation, tenant)
            if _is_finite(judgement):
                return judgement
            problem = "a score that is no number"
        except Exception as exc:  # noqa: BLE001  # any classifier's fault is one thing to the caller: no judgement, fail open
            problem = type(exc).__name__  # no more of it: its text may quote the prompt
        self._tell(problem)
        return None

    async def judge(self, conversation: Conversation, tenant: str | None = None) -> Judgement | None:
        """Return the judgement, or None after a fault, time-out, full queue or close. Cancellation passes through."""
        if self._is_quick(conversation, tenant):
            return self.judge_blocking(conversation, tenant)
        if not self._slots.acquire(blocking=False):
            self._tell("its queue is full")
            return None
        try:
            future = self._executor.submit(self.judge_blocking, conversation, tenant)
        except RuntimeError:  # closed
            self._slots.release()
            return None
        # The slot is freed when the thread is done with it, not when the caller stops waiting.
        future.add_done_callback(lambda _: self._slots.release())
        try:
            async with asyncio.timeout(self._timeout_s):
                return await asyncio.wrap_future(future)
        except TimeoutError:
            self._tell(f"none within {self._timeout_s:g} s")
            return None

    def _tell(self, problem: str) -> None:
        """Log why the strong model answers. Which requests that befell their rows tell."""
        log("judgement_failed", level=logging.WARNING, router=self.name, problem=problem)

    def close(self) -> None:
        """Take no more work off the loop. What is queued still ends: cancelling it would cancel its waiters."""
        self._executor.shutdown(wait=False)
