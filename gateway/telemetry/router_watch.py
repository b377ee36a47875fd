"""What is watched of the routers: drift of what they judge, and how far their chances hold against feedback.

Gauges are told by what each process has seen. With several workers the one that told last is shown: they share one
port's traffic, so each sees a fair sample of it, and prometheus_client can't add such figures up.
"""

import math
from collections.abc import Mapping

from prometheus_client import Counter, Gauge

from gateway.core.judgement import Judgement, Reference
from gateway.telemetry import names
from gateway.telemetry.calibration import Reliability
from gateway.telemetry.drift import LEAST, Drift
from gateway.telemetry.metrics import NONE, Metrics

TELL_EVERY = 500
"""Requests between two looks at the drift: 100 µs each with a dozen signals, 0.2 a request."""

GOOD = 0.5
"""The least mark that counts as good."""


class RouterMetrics:
    """The metrics of all routers."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._routes: frozenset[str] = frozenset()
        self._choosing: frozenset[str] = frozenset()
        self._feedback = metrics.families.counter(
            names.FEEDBACK, "Answers marked.", "route", "model", "tier", "verdict"
        )
        self._requests = metrics.families.counter(
            names.ROUTER_REQUESTS,
            "Requests judged, by their side.",
            "route",
            "router",
            "mode",
            "decision",
        )
        self._agreement = metrics.families.counter(
            names.ROUTER_AGREEMENT, "Shadows' sides against those decided.", "route", "router", "agrees"
        )
        self._dropped = metrics.families.counter(
            names.SHADOW_DROPPED, "Requests that a shadow did not get to.", "router"
        )
        # The log's own thread counts: only prometheus_client's counters take locks.
        self._rows = Counter(
            names.LEARNING_LOG_ROWS, "Rows for the learning log.", ("outcome",), registry=metrics.registry
        )
        self._drift = self._gauge(names.DRIFT, "Population stability index against training.", "router", "signal")
        self._wanted = self._gauge(names.STRONG_SHARE_WANTED, "Share of strong decisions that is held.", "route")
        self._error = self._gauge(names.CALIBRATION_ERROR, "Mean distance of chances to marks.", "router", "tier")
        self._bias = self._gauge(names.CALIBRATION_BIAS, "By how much chances are above marks.", "router", "tier")

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(name, text, labels, registry=self._metrics.registry, multiprocess_mode="livemostrecent")

    def count_mark(self, route: str, model: str, tier: str | None, mark: float) -> None:
        """Count an answer's first mark: `good` from one half on."""
        known = (self._metrics.label(route), self._metrics.label(model), tier or NONE)
        self._metrics.child(self._feedback, *known, "good" if mark >= GOOD else "bad").inc()

    def count_judged(self, route: str, router: str, mode: str, side: str | None) -> None:
        """Count a request that a router judged; no side: it had no judgement."""
        self._metrics.child(self._requests, self._metrics.label(route), router, mode, side or NONE).inc()

    def count_shadow(self, route: str, router: str, side: str | None, decided: str | None) -> None:
        """Count what a shadow would have decided, and whether that is what was decided."""
        self.count_judged(route, router, "shadow", side)
        if side is not None and decided is not None:
            agrees = "true" if side == decided else "false"
            self._metrics.child(self._agreement, self._metrics.label(route), router, agrees).inc()

    def observe_shadow(self, router: str, seconds: float) -> None:
        """Take down how long a shadow took."""
        self._metrics.child(self._metrics.classify, router).observe(seconds)

    def count_dropped(self, router: str) -> None:
        """Count a request that a shadow did not get to."""
        self._metrics.child(self._dropped, router).inc()

    def count_row(self, outcome: str) -> None:
        """Count a row of the learning log."""
        self._metrics.child(self._rows, outcome).inc()

    def tell_routes(self, thresholds: Mapping[str, float], wanted: Mapping[str, float]) -> None:
        """Show each route's threshold and the share that it holds, and nothing any more of routes that have none."""
        for gauge, told in ((self._metrics.threshold, thresholds), (self._wanted, wanted)):
            for route in self._routes - told.keys():
                self._metrics.drop(gauge, route)
            for route, value in told.items():
                self._metrics.child(gauge, route).set(value)
        self._routes = frozenset((*thresholds, *wanted))
        self._choosing = frozenset(thresholds)

    def tell_thresholds(self, thresholds: Mapping[str, float]) -> None:
        """Show where thresholds have moved to, of routes that have one to show."""
        for route in self._choosing & thresholds.keys():
            self._metrics.child(self._metrics.threshold, route).set(thresholds[route])

    def tell_drift(self, router: str, psi: Mapping[str, float]) -> None:
        """Show a router's drift."""
        for signal, value in psi.items():
            self._metrics.child(self._drift, router, signal).set(value)

    def tell_calibration(self, router: str, tier: str, reliability: Reliability) -> None:
        """Show how a router is calibrated, once there are enough marks to know."""
        error, bias = reliability.error(), reliability.bias()
        if error is not None and bias is not None:
            self._show(router, tier, error, bias)

    def withdraw(self, router: str, psi: Mapping[str, float], reliabilities: Mapping[str, Reliability]) -> None:
        """Show NaN in place of what was told; in the files of several workers nothing can be taken back."""
        self.tell_drift(router, dict.fromkeys(psi, math.nan))
        for tier, reliability in reliabilities.items():
            if reliability.error() is not None:
                self._show(router, tier, math.nan, math.nan)

    def _show(self, router: str, tier: str, error: float, bias: float) -> None:
        self._metrics.child(self._error, router, tier).set(error)
        self._metrics.child(self._bias, router, tier).set(bias)


class RouterWatch:
    """One version of a router, under the router's name in the configuration."""

    def __init__(self, router: str, version: str, reference: Reference | None, metrics: RouterMetrics) -> None:
        self.version = version
        self._router = router
        self._drift = None if reference is None else Drift(reference)
        self._reliabilities: dict[str, Reliability] = {}
        self._metrics = metrics

    def observe(self, judgement: Judgement) -> None:
        """Take in a judgement of live traffic."""
        drift = self._drift
        if drift is None:
            return
        drift.observe(judgement.score, judgement.signals)
        if (drift.count - LEAST) % TELL_EVERY == 0:
            self._metrics.tell_drift(self._router, drift.psi())

    def mark(self, tier: str, chance: float, mark: float) -> None:
        """Take in a mark of an answer that this router gave a chance."""
        reliability = self._reliabilities.get(tier)
        if reliability is None:
            reliability = self._reliabilities[tier] = Reliability()
        reliability.add(chance, mark)
        self._metrics.tell_calibration(self._router, tier, reliability)

    def retire(self) -> None:
        """Withdraw what was told: it was of a version that serves no more."""
        self._metrics.withdraw(self._router, {} if self._drift is None else self._drift.psi(), self._reliabilities)
