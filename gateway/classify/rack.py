"""The routers of one process, by their names in the configuration: loaded once, swapped when their folders change.

A changed folder is read in a thread and checked as at the start; until it is sound, the version in place goes on. A
folder is looked at, not watched: what `postern train`, `kubectl cp` or a mounted volume do to it comes to the same.
"""

import asyncio
import logging
import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Protocol

from gateway.classify.absent import AbsentClassifier
from gateway.classify.guard import Classifier, GuardedClassifier, time_worst_case, worst_case
from gateway.classify.onnx import ClassifierLoadError
from gateway.core.judgement import Judgement, Reference
from gateway.schema.conversation import Conversation
from gateway.telemetry.logs import log

Load = Callable[[Path], Classifier]
Guarded = GuardedClassifier | AbsentClassifier
Mark = tuple[tuple[str, int, int, int], ...]
"""What changes when a folder's files do."""


class Slot:
    """A router as the walk sees it: whatever version of it is in place now."""

    def __init__(self, folder: Path, mark: Mark, classifier: Guarded) -> None:
        self.folder = folder
        self.tried = self.seen = mark
        self.classifier = classifier

    @property
    def version(self) -> str:
        """Change whenever a judgement could."""
        return self.classifier.version

    @property
    def reference(self) -> Reference | None:
        """Tell what scores and signals looked like in training."""
        return self.classifier.reference

    async def judge(self, conversation: Conversation, tenant: str | None = None) -> Judgement | None:
        """Return the judgement, or None. With a `tenant`, earlier turns are remembered, for that tenant alone."""
        return await self.classifier.judge(conversation, tenant)

    def judge_blocking(self, conversation: Conversation) -> Judgement | None:
        """Return the judgement, or None. For a thread that may wait."""
        return self.classifier.judge_blocking(conversation)

    def swap(self, classifier: Guarded) -> None:
        """Put another version in place. The old one still ends what it has begun."""
        old, self.classifier = self.classifier, classifier
        old.close()

    def is_settled(self, mark: Mark) -> bool:
        """Tell whether the folder has changed since it was tried, and is written: the same as at the last look."""
        is_settled = mark not in (self.tried, ()) and mark == self.seen
        self.seen = mark
        return is_settled


class Watcher(Protocol):
    """Whoever wants to know which version of a router judges."""

    def __call__(self, router: str, judge: Slot) -> None:
        """Take note of a router's version."""


class Rack:
    """Load routers, keep them over reloads, swap them."""

    def __init__(self, load: Load, folder_of: Callable[[str], Path], watcher: Watcher) -> None:
        self._load = load
        self._folder_of = folder_of
        self._watcher = watcher
        self._slots: dict[str, Slot] = {}
        self._replaced: list[Slot] = []
        self._prepared: dict[str, Slot] = {}

    def open(self, routers: Iterable[str], *, is_strict: bool) -> dict[str, Slot]:
        """Return these routers, those that are there already as they are.

        One that can't be loaded has no judgement; `is_strict` raises ClassifierLoadError for it instead.
        """
        prepared, self._prepared = self._prepared, {}
        known = {**prepared, **self._slots}
        return {router: known.get(router) or self._open(router, is_strict=is_strict) for router in routers}

    def prepare(self, routers: Iterable[str]) -> None:
        """Load what the next `open` will lack; blocks, for a thread. Raises ClassifierLoadError."""
        self._prepared = {router: self._open(router, is_strict=True) for router in routers if router not in self._slots}

    def keep(self, slots: dict[str, Slot]) -> None:
        """Put what was opened in place of all that was there before."""
        self._replaced += [slot for slot in self._slots.values() if slot not in slots.values()]
        self._slots = slots
        for router, slot in slots.items():
            self._watcher(router, slot)

    def _open(self, router: str, *, is_strict: bool) -> Slot:
        folder = self._folder_of(router)
        mark = mark_of(folder)
        try:
            return Slot(folder, mark, self._guard(folder))
        except ClassifierLoadError as exc:
            if is_strict:
                raise
            log("classifier_unavailable", level=logging.ERROR, router=router, problem=str(exc))
            return Slot(folder, mark, AbsentClassifier())

    async def refresh(self) -> None:
        """Look at every folder; swap the routers of those that have changed and are sound."""
        for router, slot in list(self._slots.items()):
            mark = mark_of(slot.folder)
            if slot.is_settled(mark):
                slot.tried = mark
                await self._renew(router, slot)

    async def _renew(self, router: str, slot: Slot) -> None:
        began_s = time.perf_counter()
        try:
            found = await asyncio.to_thread(self._check, slot.folder)
        except ClassifierLoadError as exc:
            log("router_refused", level=logging.WARNING, router=router, problem=str(exc), kept=slot.version)
            return
        except Exception as exc:  # noqa: BLE001 - a supervisor: no file may end the watching of files
            log("router_refused", level=logging.ERROR, exc_info=exc, router=router, kept=slot.version)
            return
        if self._slots.get(router) is not slot or found.version == slot.version:
            found.close()
            return
        old = slot.version
        slot.swap(found)
        self._watcher(router, slot)
        took_ms = round((time.perf_counter() - began_s) * 1000, 1)
        log("router_swapped", router=router, version=found.version, old=old, took_ms=took_ms)

    def _check(self, folder: Path) -> GuardedClassifier:
        """Load a router and let it judge once."""
        found = self._guard(folder)
        if found.judge_blocking(worst_case()) is None:
            found.close()
            raise ClassifierLoadError(f"{folder}: gives no score; restore the folder")
        return found

    def _guard(self, folder: Path) -> GuardedClassifier:
        # Beside a busy loop only a thread's own clock tells what a judgement takes; it runs on one thread.
        return GuardedClassifier(self._load(folder), measure=lambda one: time_worst_case(one, time.thread_time))

    def close_replaced(self) -> None:
        """Close the routers that no configuration names any more; no request may still use them."""
        replaced, self._replaced = self._replaced, []
        for slot in replaced:
            slot.classifier.close()

    def close(self) -> None:
        """Close every router."""
        self.close_replaced()
        for slot in self._slots.values():
            slot.classifier.close()


def mark_of(folder: Path) -> Mark:
    """Return the mark of a folder's files; a mounted volume changes by links' targets, so links are followed."""
    try:
        with os.scandir(folder) as entries:
            return tuple(sorted(_entry_mark(entry) for entry in entries if not entry.name.startswith(".")))
    except (OSError, ValueError):  # ValueError: a name that no folder can have
        return ()


def _entry_mark(entry: os.DirEntry[str]) -> tuple[str, int, int, int]:
    try:
        found = entry.stat()
    except OSError:  # a dangling link, or gone since
        return entry.name, 0, 0, 0
    return entry.name, found.st_mtime_ns, found.st_size, found.st_ino
