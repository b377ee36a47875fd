"""The life of one serving process: start, reload, drain, stop. Knows signals and files, not requests."""

import asyncio
import gc
import logging
import multiprocessing
import signal
import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from gateway.api.front import Front
from gateway.api.live import Live
from gateway.api.server import QuietServer, make_server
from gateway.app import Factory, make_admin, make_data_app
from gateway.classify.onnx import ClassifierLoadError
from gateway.core.clock import monotonic_s
from gateway.pipeline import Pipeline
from gateway.settings.faults import SettingsError
from gateway.settings.root import Settings
from gateway.settings.watch import ConfigFiles
from gateway.telemetry.logs import log, set_up_logs
from gateway.telemetry.metrics import Metrics

WATCH_S = 1.0
"""How often the configuration's files are looked at. A stat costs 2 µs; Kubernetes takes a minute to show a change."""

ECHO_S = 1.0
"""How soon a worker is told to stop again without its being meant: systemd tells every process, and the parent too."""

YOUNG = 20_000
"""New objects that have the collector look for cycles, not Python's 700. Requests leave none; with 2,000 in flight the
looking took a third of a request's CPU."""

LoadSettings = Callable[[], Settings]


class Process:
    """Serve one configuration until told to stop; take over a changed one when it is sound."""

    def __init__(self, settings: Settings, load: LoadSettings, watched: Path | None) -> None:
        self._load = load
        self._files = ConfigFiles(watched)
        self._seen = self._files.marks()  # before models are loaded: what changes meanwhile is a change
        self._factory = Factory(Metrics())
        self._live = Live(self._factory.build(settings), settings)
        self._servers: list[QuietServer] = []
        self._retiring: set[asyncio.Task[None]] = set()
        self._is_asked = asyncio.Event()
        self._stopping_s = 0.0
        self._is_worker = False

    async def run(self, data: socket.socket, admin: socket.socket | None, announce: Callable[[], None]) -> None:
        """Serve on bound sockets until SIGINT or SIGTERM; SIGHUP and a changed file reload.

        `announce` is called once signals are heeded: who reads of a serving gateway may stop it.
        """
        server = self._live.settings.server
        hot = Front(self._live, self._factory.tracing.begin).open
        self._servers = [make_server(make_data_app(self._live), server, hot, self._factory.wheel)]
        if admin is not None:
            admin_app = make_admin(self._factory.metrics, lambda: self._live.settings)
            self._servers.append(make_server(admin_app, server))
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self.stop, "SIGTERM")
        if admin is None:
            # A worker: the terminal sends its Ctrl-C to the parent too, which passes it on as SIGTERM. Two would mean
            # "at once".
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            self._is_worker = True
            self._watch_parent()
        else:
            loop.add_signal_handler(signal.SIGINT, self.stop, "SIGINT")
        loop.add_signal_handler(signal.SIGHUP, self._is_asked.set)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})
        tasks = [asyncio.create_task(self._watch()), asyncio.create_task(self._factory.tend())]
        _spare_collector()
        announce()
        try:
            await asyncio.gather(
                self._serve_data(data), *(one.serve(sockets=[admin]) for one in self._servers[1:] if admin is not None)
            )
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._close()
            if self._live.is_draining:
                log("stopped", took_s=round(monotonic_s() - self._stopping_s, 3), cut=self._live.cut)

    def stop(self, reason: str) -> None:
        """Finish what is in flight and stop; at the second call, stop at once."""
        is_second = self._live.is_draining
        if is_second and self._is_worker and monotonic_s() - self._stopping_s < ECHO_S:
            return
        self._servers[0].should_exit = True
        for server in self._servers:
            server.force_exit = is_second
        self._live.drain()
        if not is_second:
            self._stopping_s = monotonic_s()
        grace_s = 0.0 if is_second else self._live.settings.server.shutdown_grace_s
        log("stopping", reason=reason, requests=self._live.pipeline.parts.in_flight.count, grace_s=grace_s)

    async def _serve_data(self, data: socket.socket) -> None:
        """Serve the data port; let the admin port go after it: what streams cost is known when they have ended."""
        try:
            await self._servers[0].serve(sockets=[data])
        finally:
            for server in self._servers[1:]:
                server.should_exit = True

    async def _reload(self) -> None:
        """Validate the configuration anew, then swap it whole; keep the old one on any fault.

        Files are read and routers loaded in a thread, models in processes of their own: meanwhile requests go on. A
        gateway that drains keeps what it has: a new pipeline would take requests again.
        """
        try:
            settings = await asyncio.to_thread(self._load)
            await asyncio.to_thread(self._factory.prepare, settings)
            await self._factory.load()
            if self._live.is_draining:
                return
            pipeline = self._factory.build(settings, is_strict=True)
        except (SettingsError, ClassifierLoadError) as exc:
            self._factory.vitals.tell_reload(is_taken=False)
            log("reload_refused", level=logging.WARNING, problem=str(exc))
            return
        except Exception as exc:  # noqa: BLE001 - a supervisor: no file may end the watching of files
            self._factory.vitals.tell_reload(is_taken=False)
            log("reload_refused", level=logging.ERROR, exc_info=exc, problem=type(exc).__name__)
            return
        if settings.server != self._live.settings.server:
            log("restart_needed", level=logging.WARNING, section="server")
        if settings.logs != self._live.settings.logs:
            set_up_logs(settings.logs)
        old = self._live.swap(pipeline, settings)
        task = asyncio.create_task(self._retire(old))
        self._retiring.add(task)
        task.add_done_callback(self._retiring.discard)
        self._factory.vitals.tell_reload(is_taken=True)
        log("reloaded", routes=len(settings.routes), models=len(settings.models))

    def _watch_parent(self) -> None:
        """Stop when the parent dies: nobody would ever stop or restart an orphan, and it keeps the port taken."""
        parent = multiprocessing.parent_process()
        if parent is None:
            return
        loop, sentinel = asyncio.get_running_loop(), parent.sentinel

        def stop() -> None:
            loop.remove_reader(sentinel)
            log("parent_died", level=logging.ERROR)
            self.stop("parent died")

        loop.add_reader(sentinel, stop)

    async def _watch(self) -> None:
        """Reload when asked to, or when a file of the configuration has changed; look after the routers."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(WATCH_S):
                    await self._is_asked.wait()
            now = self._files.marks()
            has_changed = now is not None and now != self._seen
            if has_changed or self._is_asked.is_set():
                self._seen = now or self._seen
                self._is_asked.clear()
                await self._reload()
            await self._factory.rack.refresh()

    async def _retire(self, pipeline: Pipeline) -> None:
        """Close a pipeline once the last request that began with it has ended."""
        await pipeline.wait_ended()
        await pipeline.close()
        if len(self._retiring) == 1:  # this one is the last: nobody uses a replaced store any more
            await self._factory.close_replaced()
            _spare_collector()

    async def _close(self) -> None:
        for task in self._retiring:
            task.cancel()
        await asyncio.gather(*self._retiring, return_exceptions=True)
        await self._live.pipeline.close()
        await self._factory.close()


def _spare_collector() -> None:
    """Have the garbage collector pass by whatever is there now, until it is told again.

    A full collection looks at every import and every cached answer: 15 ms at the start, 65 more with a million answers.
    Frozen, the stores are never looked into. What is dropped is freed as ever; only cycles wait for the next time.
    """
    gc.set_threshold(YOUNG, *gc.get_threshold()[1:])
    gc.unfreeze()
    gc.collect()
    gc.freeze()
