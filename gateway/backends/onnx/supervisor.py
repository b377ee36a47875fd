"""Keeps one worker alive: starts it when it is first needed, again when it died, slower each time it fails at once."""

import asyncio
import logging
from enum import Enum, auto
from typing import Final

from gateway.backends.engine import Sampling
from gateway.backends.onnx.mailbox import Mailbox
from gateway.backends.onnx.process import WorkerProcess
from gateway.backends.onnx.wire import Alive, Begin, Cancel, Failed, Fault, Options, Ready, Said, Unready
from gateway.core.clock import Clock, monotonic_s
from gateway.core.errors import (
    PosternError,
    UpstreamContextError,
    UpstreamFailureError,
    UpstreamInterruptedError,
    UpstreamModelUnavailableError,
    UpstreamRejectionError,
)
from gateway.telemetry.logs import log

FIRST_PAUSE_S: Final = 0.5
LONGEST_PAUSE_S: Final = 30.0
"""Between lives that did no work: the first restart is at once, the next after half a second, then twice that."""
FAULTS: Final[dict[Fault, type[PosternError]]] = {
    Fault.REQUEST: UpstreamRejectionError,
    Fault.WINDOW: UpstreamContextError,
    Fault.MODEL: UpstreamFailureError,
}


class Life(Enum):
    """How far a worker came."""

    UNREADY = auto()
    IDLE = auto()
    WORKED = auto()


class Link:
    """A worker that is ready, and the tasks it holds."""

    def __init__(self, name: str, process: WorkerProcess, clock: Clock) -> None:
        self._name = name
        self._process = process
        self._clock = clock
        self._heard_s = clock()
        self._mailboxes: dict[int, Mailbox] = {}
        self._last_task = 0
        self.life = Life.UNREADY

    @property
    def pid(self) -> int:
        """The worker's process id."""
        return self._process.pid

    def begin(self, prompt: str, sampling: Sampling, *, is_streaming: bool) -> tuple[int, Mailbox]:
        """Hand a task over; give its number and where its answer arrives."""
        self._last_task += 1
        mailbox = self._mailboxes[self._last_task] = Mailbox()
        self._process.send(Begin(self._last_task, prompt, sampling, is_streaming))
        return self._last_task, mailbox

    def end(self, task: int) -> None:
        """Forget a task, and have it stopped where it is not over."""
        mailbox = self._mailboxes.pop(task, None)
        if mailbox is not None and not mailbox.is_over:
            self._process.send(Cancel(task))

    @property
    def silence_s(self) -> float:
        """How long the worker has said nothing."""
        return self._clock() - self._heard_s

    def hear(self) -> None:
        """Note that the worker says something."""
        self._heard_s = self._clock()

    def kill(self) -> None:
        """Kill the worker."""
        self._process.kill()

    def take(self, report: Said | Failed) -> None:
        """Put a report where it belongs; nobody waits for that of a task given up."""
        mailbox = self._mailboxes.get(report.task)
        if mailbox is None:
            return
        if isinstance(report, Said):
            mailbox.put(report)
            if mailbox.is_over:
                self.life = Life.WORKED
        elif mailbox.is_begun and report.fault is Fault.MODEL:
            mailbox.fail(UpstreamInterruptedError(f"{self._name}: {report.message}"))
        else:
            mailbox.fail(FAULTS[report.fault](f"{self._name}: {report.message}"))

    def lose(self) -> None:
        """Fail every task: the worker is gone."""
        for mailbox in self._mailboxes.values():
            gone = f"The process of {self._name} died"
            if mailbox.is_begun:
                mailbox.fail(UpstreamInterruptedError(f"{gone} in the middle of its answer."))
            else:
                mailbox.fail(UpstreamFailureError(f"{gone} before it answered."))


class Supervisor:
    """Owner of the task that starts, reads and restarts the worker. One silent for `patience_s` counts as hanging."""

    def __init__(self, name: str, options: Options, patience_s: float, clock: Clock = monotonic_s) -> None:
        self._name = name
        self._options = options
        self._patience_s = patience_s
        self._clock = clock
        self._task: asyncio.Task[None] | None = None
        self._settled = asyncio.Event()
        self.ready: Link | None = None
        self.problem: str | None = None

    def start(self) -> None:
        """Have a worker started, unless one is kept alive already."""
        if self._task is None:
            self._task = asyncio.create_task(self._keep(), name=f"onnx {self._name}")

    async def link(self) -> Link:
        """Return a worker that is ready, waiting while one starts; whoever calls bounds the wait.

        Raises UpstreamModelUnavailableError where the model can't be loaded.
        """
        self.start()
        await self._settled.wait()
        if self.ready is None:
            raise UpstreamModelUnavailableError(f"{self._name} can't be run here.", detail=self.problem)
        return self.ready

    def check(self) -> None:
        """Kill a worker that hangs; another is started in its place."""
        link = self.ready
        if link is not None and link.silence_s > self._patience_s:
            log("onnx_worker_hangs", level=logging.WARNING, model=self._name, silence_s=round(link.silence_s, 1))
            link.kill()

    async def close(self) -> None:
        """End the worker, and what it holds."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _keep(self) -> None:
        failures = 0
        while True:
            life = await self._live()
            failures = 0 if life is Life.WORKED else failures + 1
            if life is Life.UNREADY or failures > 1:
                # Nobody waits for a worker that does not come: calls fail at once, and others serve.
                self._settled.set()
                await asyncio.sleep(min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2 ** (failures - 1)))

    async def _live(self) -> Life:
        """See a worker through its life."""
        try:
            process = await WorkerProcess.start(self._options)
        except OSError as exc:
            self.problem = f"no process could be started: {exc}"
            return Life.UNREADY
        link, told = Link(self._name, process, self._clock), None
        try:
            async for report in process.reports():
                link.hear()
                match report:
                    case Ready():
                        self._open(link)
                    case Unready():
                        told = report.problem
                    case Alive():
                        pass
                    case _:
                        link.take(report)
        finally:
            how = await self._bury(link, process)
        self.problem = told or f"its process {how}"
        log("onnx_worker_ended", level=logging.WARNING, model=self._name, how=how, problem=self.problem)
        return link.life

    def _open(self, link: Link) -> None:
        link.life = Life.IDLE
        self.ready, self.problem = link, None
        self._settled.set()

    async def _bury(self, link: Link, process: WorkerProcess) -> str:
        if self.ready is not None:
            # Whoever calls now waits for the next life.
            self._settled.clear()
        self.ready = None
        link.lose()
        return await process.end()
