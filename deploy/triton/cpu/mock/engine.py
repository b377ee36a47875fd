"""Generation: requests side by side on one event loop in a thread of its own, as the real backends have it."""

import asyncio
import threading
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from mock.counts import Load, Own
from mock.script import Order, Script, write_script
from mock.tokens import encode

POLL_S = 0.01
"""How often a pause asks whether the client has gone, where few run; each asking crosses to the server's process."""

POLL_S_EACH = 0.001
"""Added to that for each request under way, so that 200 streams don't spend the core on asking."""

SHOW_S = 0.05
"""Gauges are shown this often at most: nine of them after each change would cost more than the answer."""


class ScriptedError(Exception):
    """The error that `fail_at` asks for."""


class GoneError(Exception):
    """The client has gone."""


@dataclass(frozen=True)
class Step:
    """What is known after some tokens: all of them so far, how many are new, and at the end why it is the end."""

    ids: tuple[int, ...]
    new: int
    finish_reason: str | None
    stop_at: int | None


class Engine:
    """One model's engine."""

    def __init__(self, dialect: str, gauges: Any, parameters: dict[str, Any]) -> None:
        self._own = Own({"dialect": dialect})
        self._gauges = gauges
        self._load = Load(
            slots=int(read(parameters, "mock_slots", "256")),
            capacity_tokens=int(read(parameters, "mock_kv_tokens", "65536")),
        )
        self._loop = asyncio.new_event_loop()
        self._stopped = asyncio.Event()
        self._under_way = 0
        self._running_ids: set[str] = set()
        self._stopped_ids: set[str] = set()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._run(),))
        self._thread.start()

    async def _run(self) -> None:
        """Show the gauges; return once told to stop and nothing is under way."""
        while not self._stopped.is_set() or self._under_way:
            if self._load.is_changed:
                self._load.is_changed = False
                self._gauges.show(self._load)
            await asyncio.sleep(SHOW_S)

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        """Begin a request's work, from any thread."""
        asyncio.run_coroutine_threadsafe(self._count(work), self._loop)

    async def _count(self, work: Coroutine[Any, Any, None]) -> None:
        self._under_way += 1
        try:
            await work
        finally:
            self._under_way -= 1

    def stop(self) -> None:
        """Return once what is under way has ended, as the real backends do when they are unloaded."""
        self._loop.call_soon_threadsafe(self._stopped.set)
        self._thread.join()

    def stop_request(self, request_id: str) -> None:
        """End what runs under this id, as a request with the input `stop` asks; nothing where nothing does."""
        if request_id in self._running_ids:
            self._stopped_ids.add(request_id)

    async def generate(self, order: Order, is_cancelled: Callable[[], bool]) -> AsyncGenerator[Step, None]:
        """Yield steps. Raises ScriptedError, RefusedError, or GoneError once it has counted the cancel."""
        self._own.requests.add()
        made, phase = 0, "waiting"
        try:
            script = write_script(order)
            watch = Watch(lambda: order.request_id in self._stopped_ids or is_cancelled(), self._load)
            self._running_ids.add(order.request_id)
            async with self._slot(len(encode(order.prompt)), watch):
                await watch.pause(script.ttft_s)
                async for step in self._speak(script, watch):
                    made = len(step.ids)
                    self._load.held_tokens += step.new
                    yield step
                    phase = "generating" if order.is_streaming else "unary"
            self._own.finished.add()
        except GoneError:
            self._own.cancelled[phase].add()
            self._own.cancelled_at.set(time.monotonic())
            raise
        except Exception:
            self._own.failed.add()
            raise
        finally:
            self._running_ids.discard(order.request_id)
            self._stopped_ids.discard(order.request_id)
            self._load.held_tokens -= made
            self._own.tokens.add(made)

    async def _speak(self, script: Script, watch: "Watch") -> AsyncIterator[Step]:
        """Yield the answer's steps at their times."""
        total = len(script.ids)
        for begin in range(0, max(1, total), script.chunk):
            end = min(total, begin + script.chunk)
            if begin:
                await watch.pause(script.gap_s * script.chunk)
            if script.fail_at is not None and script.fail_at < max(1, end):
                raise ScriptedError(f"scripted failure at token {script.fail_at}")
            is_last = end == total
            yield Step(
                script.ids[:end],
                end - begin,
                script.finish_reason if is_last else None,
                script.stop_at if is_last else None,
            )

    @asynccontextmanager
    async def _slot(self, prompt_tokens: int, watch: "Watch") -> AsyncIterator[None]:
        """Wait for a slot, then hold it and the prompt's share of the KV cache."""
        load = self._load
        load.waiting += 1
        load.is_changed = True
        try:
            while load.running >= load.slots:
                await watch.pause(POLL_S)
        finally:
            load.waiting -= 1
            load.is_changed = True
        load.running += 1
        load.held_tokens += prompt_tokens
        try:
            yield
        finally:
            load.running -= 1
            load.held_tokens -= prompt_tokens
            load.is_changed = True


class Watch:
    """Asks whether the client has gone, not too often."""

    def __init__(self, is_cancelled: Callable[[], bool], load: Load) -> None:
        self._is_cancelled = is_cancelled
        self._load = load
        self._asked_s = time.monotonic()

    async def pause(self, seconds: float) -> None:
        """Sleep. Raises GoneError as soon as the client is seen to have gone."""
        until_s = time.monotonic() + seconds
        while True:
            poll_s = POLL_S + POLL_S_EACH * (self._load.running + self._load.waiting)
            now_s = time.monotonic()
            if now_s - self._asked_s >= poll_s:
                self._asked_s = now_s
                if self._is_cancelled():
                    raise GoneError
            if now_s >= until_s:
                await asyncio.sleep(0)
                return
            await asyncio.sleep(min(poll_s, until_s - now_s))


def read(parameters: dict[str, Any], name: str, default: str) -> str:
    """Return a parameter of config.pbtxt."""
    return parameters.get(name, {}).get("string_value", default)
