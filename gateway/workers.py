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
from collections.abc import Callable
from multiprocessing.context import SpawnProcess

from gateway.api.server import QuietServer, make_server
from gateway.app import make_admin
from gateway.settings.faults import SettingsError
from gateway.settings.root import Settings
from gateway.telemetry.logs import log, set_up_logs
from gateway.telemetry.metrics import METRICS_FOLDER, Metrics, forget_worker

WATCH_S = 0.5

LoadSettings = Callable[[], Settings]
Work = Callable[..., None]
"""A worker's whole life, given its socket, the settings and arguments. Importable, as workers are spawned."""


class Workers:
    """Keep `server.workers` processes alive until told to stop."""

    def __init__(self, settings: Settings, load: LoadSettings, work: Work, arguments: tuple[object, ...]) -> None:
        self._settings = settings
        self._load = load
        self._work = work
        self._arguments = arguments
        self._processes: list[SpawnProcess] = []
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
        self._processes = [self._start(data) for _ in range(self._settings.server.workers)]
        announce()
        try:
            await asyncio.gather(admin_server.serve(sockets=[admin]), self._keep(data, admin_server))
        finally:
            await asyncio.to_thread(self._wait)
            shutil.rmtree(folder, ignore_errors=True)

    def _start(self, data: socket.socket) -> SpawnProcess:
        arguments = (data, self._current(), *self._arguments)
        process = multiprocessing.get_context("spawn").Process(target=self._work, args=arguments)
        process.start()
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
            for place, process in enumerate(self._processes):
                if not process.is_alive() and not self._is_stopping:
                    log("worker_died", level=logging.ERROR, pid=process.pid, exit_code=process.exitcode)
                    forget_worker(process.pid)
                    self._processes[place] = self._start(data)

    def _stop(self, number: signal.Signals, data: socket.socket) -> None:
        self._is_stopping = True
        log("stopping_workers", reason=number.name, workers=len(self._processes))
        # The workers close theirs, but while this one is open the kernel takes connections that nobody will serve.
        data.close()
        self._pass_on(signal.SIGTERM)

    def _pass_on(self, number: signal.Signals) -> None:
        for process in self._processes:
            if process.is_alive() and process.pid is not None:
                os.kill(process.pid, number)

    def _wait(self) -> None:
        for process in self._processes:
            process.join(self._settings.server.shutdown_grace_s + 5)
            if process.is_alive():
                process.kill()
                process.join()
