"""Several serving processes on one port: the parent binds, starts and restarts them, and serves the admin port.

Metrics are added up from files (prometheus_client's multiprocess mode). They cost more there: one worker a pod is the
better default.
"""

import asyncio
import logging
import multiprocessing
import os
import shutil
import signal
import socket
import tempfile
import time
from collections.abc import Callable
from multiprocessing.context import SpawnProcess

from gateway.api.server import QuietServer, make_server
from gateway.app import make_admin
from gateway.settings.faults import SettingsError
from gateway.settings.root import Settings
from gateway.telemetry.logs import log, set_up_logs
from gateway.telemetry.metrics import METRICS_FOLDER, Metrics, forget_worker

WATCH_S = 0.5
YOUNG_S = 10.0
"""Who dies sooner has a fault that a new start may not mend: each takes a second of CPU, which others could use."""
FIRST_PAUSE_S, LAST_PAUSE_S = 1.0, 30.0
"""How long the place of one that died young stays empty; twice as long each time."""

LoadSettings = Callable[[], Settings]
Work = Callable[..., None]
"""A worker's whole life, given its socket, the settings and arguments. Importable, as workers are spawned."""


class _Place:
    """One worker's place: the process that has it, and from when on another may."""

    def __init__(self, process: SpawnProcess) -> None:
        self.pause_s = 0.0
        self.fill(process)

    def fill(self, process: SpawnProcess) -> None:
        """Give it to a process that has just been started."""
        self.process = process
        self._started_s = time.monotonic()
        self._free_s: float | None = None

    def is_free(self) -> bool:
        """Tell whether it may be given to another process."""
        if self.process.is_alive():
            return False
        now_s = time.monotonic()
        if self._free_s is None:
            is_young = now_s - self._started_s < YOUNG_S
            self.pause_s = min(2 * self.pause_s or FIRST_PAUSE_S, LAST_PAUSE_S) if is_young else 0.0
            self._free_s = now_s + self.pause_s
            self._bury()
        return now_s >= self._free_s

    def _bury(self) -> None:
        pid, exit_code = self.process.pid, self.process.exitcode
        log("worker_died", level=logging.ERROR, pid=pid, exit_code=exit_code, pause_s=self.pause_s)
        forget_worker(pid)


class Workers:
    """Keep `server.workers` processes alive until told to stop."""

    def __init__(self, settings: Settings, load: LoadSettings, work: Work, arguments: tuple[object, ...]) -> None:
        self._settings = settings
        self._load = load
        self._work = work
        self._arguments = arguments
        self._places: list[_Place] = []
        self._is_stopping = False

    async def run(self, data: socket.socket, admin: socket.socket, announce: Callable[[], None]) -> None:
        """Serve until SIGINT or SIGTERM; SIGHUP is passed on. `announce` is called once signals are heeded."""
        folder = tempfile.mkdtemp(prefix="postern-metrics-")
        os.environ[METRICS_FOLDER] = folder
        admin_server = make_server(make_admin(Metrics(), self._current), self._settings.server)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._stop, number, data)
        loop.add_signal_handler(signal.SIGHUP, self._pass_on, signal.SIGHUP)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})
        self._places = [_Place(self._start(data)) for _ in range(self._settings.server.workers)]
        announce()
        try:
            await asyncio.gather(admin_server.serve(sockets=[admin]), self._keep(data, admin_server))
        finally:
            await asyncio.to_thread(self._wait)
            shutil.rmtree(folder, ignore_errors=True)

    def _start(self, data: socket.socket) -> SpawnProcess:
        arguments = (data, self._current(), *self._arguments)
        process = multiprocessing.get_context("spawn").Process(target=self._work, args=arguments)
        # Until it has a handler of its own, a worker would be ended by what means reload: held back, it comes then.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
        process.start()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})
        return process

    def _current(self) -> Settings:
        """Return the configuration as it stands now; while that is unsound, the last sound one, as the workers do."""
        old = self._settings
        try:
            self._settings = self._load()
        except SettingsError as exc:
            log("reload_refused", level=logging.WARNING, problem=str(exc))
        if self._settings.logs != old.logs:
            set_up_logs(self._settings.logs)
        return self._settings

    async def _keep(self, data: socket.socket, admin_server: QuietServer) -> None:
        """Keep the workers until told to stop; let the admin port go once they have ended, with all their numbers."""
        try:
            await self._watch(data)
            await asyncio.to_thread(self._wait)
        finally:
            admin_server.should_exit = True

    async def _watch(self, data: socket.socket) -> None:
        while not self._is_stopping:
            await asyncio.sleep(WATCH_S)
            for place in self._places:
                if not self._is_stopping and place.is_free():
                    place.fill(self._start(data))

    def _stop(self, number: signal.Signals, data: socket.socket) -> None:
        self._is_stopping = True
        log("stopping_workers", reason=number.name, workers=len(self._places))
        # The workers close theirs, but while this one is open the kernel takes connections that nobody will serve.
        data.close()
        self._pass_on(signal.SIGTERM)

    def _pass_on(self, number: signal.Signals) -> None:
        for place in self._places:
            if place.process.is_alive() and place.process.pid is not None:
                os.kill(place.process.pid, number)

    def _wait(self) -> None:
        for process in [place.process for place in self._places]:
            process.join(self._settings.server.shutdown_grace_s + 5)
            if process.is_alive():
                process.kill()
                process.join()
