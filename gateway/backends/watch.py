"""Looks after replicas: each is asked how it is, every so often; that orders them and is shown in the metrics."""

import asyncio
import logging
from collections.abc import Callable, Mapping

from gateway.backends.backend import Backend, Health
from gateway.backends.resilience import Replicas
from gateway.core.errors import internal_error
from gateway.settings.engines import WatchSettings
from gateway.telemetry.logs import log, log_failure

LOOK_S = 4.0
"""How long a replica may take to say how it is, beyond its backend's own bounds; one that takes longer is not ready."""
UNREADY_S = 0.5
"""How soon one that is not ready is looked at again, where `watch.interval_s` is longer: it may be back at any time."""

Show = Callable[[str, str, Health | None], None]
"""Told how the replica of a model at a url is; None: it is looked at no more."""


class Watch:
    """Owns one task a replica. Replicas that say nothing of themselves are asked once."""

    def __init__(self, show: Show) -> None:
        self._show = show
        self._wanted: dict[Backend, tuple[str, Replicas, WatchSettings]] = {}
        self._tasks: dict[Backend, asyncio.Task[None]] = {}
        self._has_turned = asyncio.Event()

    def turn_to(self, models: Mapping[str, tuple[Replicas, WatchSettings]]) -> None:
        """Look after the replicas of exactly these models from now on."""
        self._wanted = {
            backend: (name, replicas, settings)
            for name, (replicas, settings) in models.items()
            for backend in replicas.backends
        }
        self._has_turned.set()

    async def run(self) -> None:
        """Look after whatever is wanted, until cancelled."""
        try:
            while True:
                self._has_turned.clear()
                await self._end(set(self._tasks) - set(self._wanted))
                for backend in self._wanted.keys() - self._tasks.keys():
                    self._tasks[backend] = asyncio.create_task(self._look_after(backend, *self._wanted[backend]))
                await self._has_turned.wait()
        finally:
            await self._end(set(self._tasks))

    async def _end(self, backends: set[Backend]) -> None:
        tasks = [self._tasks.pop(backend) for backend in backends]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _look_after(self, backend: Backend, name: str, replicas: Replicas, settings: WatchSettings) -> None:
        was_ready = True
        try:
            while (health := await self._look(backend)) is not None:
                replicas.note(backend, health)
                self._show(name, backend.url, health)
                if health.is_ready != was_ready:
                    _tell_turn(name, backend.url, health)
                was_ready = health.is_ready
                interval_s = settings.interval_s
                await asyncio.sleep(interval_s if was_ready else min(interval_s, UNREADY_S))
        finally:
            self._show(name, backend.url, None)

    async def _look(self, backend: Backend) -> Health | None:
        try:
            async with asyncio.timeout(LOOK_S):
                return await backend.look()
        except TimeoutError:
            return Health(is_ready=False, problem=f"it did not say within {LOOK_S:g} s how it is")
        except Exception as exc:  # noqa: BLE001 - a supervisor: no fault of one look may end the others
            log_failure(internal_error(exc))
            return Health()


def _tell_turn(model: str, url: str, health: Health) -> None:
    if health.is_ready:
        log("replica_ready", model=model, url=url)
    else:
        log("replica_not_ready", level=logging.WARNING, model=model, url=url, problem=health.problem)
