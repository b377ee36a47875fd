"""Makes the metrics of a process, and, where several share their files, pours them into those.

In such a file prometheus_client takes 1 to 2 µs a value, 42 a request; poured ten times a second, a request costs 5.
"""

import asyncio
from collections.abc import Iterable
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from gateway.telemetry.local import LocalCounter, LocalFamily, LocalGauge, LocalHistogram

POUR_S = 0.1
"""How old a worker's figures in the files are at most. One that is killed outright loses as much."""


class Families:
    """Metrics in one registry. `is_shared`: prometheus_client keeps its own in files, for several processes."""

    def __init__(self, registry: CollectorRegistry, *, is_shared: bool) -> None:
        self._registry = registry
        self._own = None if is_shared else registry
        self._pairs: list[tuple[LocalFamily[Any], Counter | Gauge | Histogram]] = []

    def counter(self, name: str, text: str, *labels: str) -> LocalCounter:
        """Return a new counter."""
        made = LocalCounter(name, text, labels, self._own)
        if self._own is None:
            self._pairs.append((made, Counter(name, text, labels, registry=self._registry)))
        return made

    def gauge(self, name: str, text: str, *labels: str) -> LocalGauge:
        """Return a new gauge, of which workers' values are added up."""
        made = LocalGauge(name, text, labels, self._own)
        if self._own is None:
            theirs = Gauge(name, text, labels, registry=self._registry, multiprocess_mode="livesum")
            self._pairs.append((made, theirs))
        return made

    def histogram(self, name: str, text: str, buckets: Iterable[float], *labels: str) -> LocalHistogram:
        """Return a new histogram."""
        bounds = tuple(buckets)
        made = LocalHistogram(name, text, labels, self._own, bounds)
        if self._own is None:
            self._pairs.append((made, Histogram(name, text, labels, registry=self._registry, buckets=bounds)))
        return made

    def pour(self) -> None:
        """Write what is new into the files; nothing where there are none."""
        for made, theirs in self._pairs:
            made.pour(theirs)

    async def keep_poured(self) -> None:
        """Pour every POUR_S, until cancelled; return at once where there are no files."""
        while self._pairs:
            self.pour()
            await asyncio.sleep(POUR_S)
