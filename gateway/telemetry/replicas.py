"""Gauges of replicas: how each says that it is."""

from typing import Protocol

from prometheus_client import Gauge

from gateway.telemetry import names
from gateway.telemetry.metrics import Metrics


class Told(Protocol):
    """What a replica said of itself; None where it does not tell."""

    @property
    def is_ready(self) -> bool:
        """Whether it takes requests."""
        ...

    @property
    def waiting(self) -> int | None:
        """Requests that wait there."""
        ...

    @property
    def running(self) -> int | None:
        """Requests that run there."""
        ...

    @property
    def kv_cache_usage(self) -> float | None:
        """The share of its KV cache in use."""
        ...


class ReplicaMetrics:
    """Four gauges by model and url. What a replica does not tell, and one that is gone, has no series.

    With several workers each looks for itself; the latest look counts.
    """

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._ready = self._gauge(names.UPSTREAM_READY, "Whether a replica says that it takes requests: 1, or 0.")
        self._waiting = self._gauge(names.UPSTREAM_WAITING, "Requests that wait at a replica, as it says.")
        self._running = self._gauge(names.UPSTREAM_RUNNING, "Requests that run at a replica, as it says.")
        self._kv_cache = self._gauge(names.UPSTREAM_KV_CACHE, "Share of its KV cache that a replica uses, as it says.")

    def _gauge(self, name: str, text: str) -> Gauge:
        labels = ("model", "url")
        registry = self._metrics.registry
        return Gauge(name, text, labels, registry=registry, multiprocess_mode="livemostrecent")

    def show(self, model: str, url: str, told: Told | None) -> None:
        """Show what a replica said; None: it is not asked any more."""
        gauges = (self._ready, self._waiting, self._running, self._kv_cache)
        values: tuple[float | None, ...] = (None,) * len(gauges)
        if told is not None:
            values = float(told.is_ready), told.waiting, told.running, told.kv_cache_usage
        for gauge, value in zip(gauges, values, strict=True):
            self._set(gauge, model, url, value)

    def _set(self, gauge: Gauge, model: str, url: str, value: float | None) -> None:
        if value is not None:
            self._metrics.child(gauge, model, url).set(value)
        else:
            self._metrics.drop(gauge, model, url)
