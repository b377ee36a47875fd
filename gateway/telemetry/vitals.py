"""How the process itself does: its version and configuration, its event loop, its link to Redis, what it uses."""

import asyncio
import math
import multiprocessing
import os
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Literal

from prometheus_client import Gauge, ProcessCollector
from prometheus_client import Metric as Family
from prometheus_client.registry import Collector

from gateway import __version__
from gateway.telemetry import names
from gateway.telemetry.metrics import METRICS_FOLDER, Metrics

LAG_S = 0.25
"""How often the loop is looked at: 10 µs each. A stall is seen when it outlasts that, and one in so many if shorter."""

_CPU, _START, _LIMIT = "process_cpu_seconds", "process_start_time_seconds", "process_max_fds"


class Vitals:
    """The metrics of one serving process. With several, the worst of them is told."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._redis: Gauge | None = None
        version = self._gauge(names.BUILD_INFO, "The version that serves.", "livemostrecent", "version")
        version.labels(__version__).set(1)
        text = "Whether the configuration in force is the one last asked for: 1, or 0 after a refused reload."
        self._is_reloaded = self._gauge(names.RELOAD_SUCCESSFUL, text, "livemin")
        self._reloaded_at = self._gauge(names.RELOADED_AT, "When the configuration in force was taken.", "livemin")
        self._lag = metrics.families.histogram(
            names.LOOP_LAG, "By how much the event loop was late.", names.LOOP_LAG_BUCKETS
        ).labels()
        if METRICS_FOLDER not in os.environ:
            ProcessCollector(registry=metrics.registry)
        self.tell_reload(is_taken=True)

    def _gauge(self, name: str, text: str, mode: Literal["livemin", "livemostrecent"], *labels: str) -> Gauge:
        return Gauge(name, text, labels, registry=self._metrics.registry, multiprocess_mode=mode)

    def tell_reload(self, *, is_taken: bool) -> None:
        """Tell whether a configuration was taken, or refused and the old one kept."""
        self._is_reloaded.set(is_taken)
        if is_taken:
            self._reloaded_at.set(time.time())

    def redis_teller(self, also: Callable[[bool], None]) -> Callable[[bool], None]:
        """Tell that Redis answers, and return what tells, here and to `also`, whether the breaker before it is open."""
        if self._redis is None:  # unlabelled, it would tell 0 where there is no Redis at all
            text = "Whether Redis answers: 1, or 0 while it is asked seldom."
            self._redis = self._gauge(names.REDIS_UP, text, "livemin")
        up = self._redis
        up.set(1)

        def tell(is_open: bool) -> None:
            also(is_open)
            up.set(not is_open)

        return tell

    def forget_redis(self) -> None:
        """Tell nothing of Redis any more: the configuration names none."""
        if self._redis is not None:
            self._redis.set(math.nan)  # in files of several workers nothing can be taken back

    async def watch_loop(self) -> None:
        """Observe, until cancelled, how late the loop wakes whoever sleeps: so late is every request's next step."""
        loop = asyncio.get_running_loop()
        while True:
            due_s = loop.time() + LAG_S
            await asyncio.sleep(LAG_S)
            self._lag.observe(max(0.0, loop.time() - due_s))


class ProcessFigures(Collector):
    """What this process and its children use: CPU, memory and descriptors added up, a limit as the lowest is.

    prometheus_client tells none of them where several processes share their files.
    """

    def __init__(self) -> None:
        self._cpu_s: dict[int, float] = {}

    def collect(self) -> Iterable[Family]:
        """Return what prometheus_client tells of one process, of all together."""
        found: dict[str, tuple[Family, dict[int, float]]] = {}
        for pid in (os.getpid(), *(child.pid for child in multiprocessing.active_children())):
            for family in ProcessCollector(pid=partial(str, pid), registry=None).collect():
                found.setdefault(family.name, (family, {}))[1][pid or 0] = family.samples[0].value
        for name, (family, values) in found.items():
            value = self._together(name, values)
            sample = family.samples[0]
            family.samples = [sample._replace(value=value)]
        return [family for family, _ in found.values()]

    def _together(self, name: str, values: Mapping[int, float]) -> float:
        if name == _CPU:  # what those used that are gone still counts: a counter never falls
            self._cpu_s.update(values)
            return sum(self._cpu_s.values())
        return min(values.values()) if name in (_START, _LIMIT) else sum(values.values())
