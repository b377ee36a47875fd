"""The page of all metrics says what a gateway tells: every name, its type and its labels."""

import re
from pathlib import Path

import pytest
from prometheus_client.registry import Collector

from gateway.telemetry.local import LocalFamily, Registry
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.replicas import ReplicaMetrics
from gateway.telemetry.router_watch import RouterMetrics
from gateway.telemetry.vitals import Vitals

PAGE = Path(__file__).parents[3] / "docs" / "metrics.md"
ROW = re.compile(r"^\| `(\w+)` \| (\w+) \| ([^|]*?) ?\| ([^|]+) \| ([^|]+) \|$", re.MULTILINE)


def told() -> dict[str, tuple[str, tuple[str, ...]]]:
    """Return every metric's type and labels, as they stand in a gateway's registry."""
    registry = Registry()
    metrics = Metrics(registry)
    ReplicaMetrics(metrics)
    RouterMetrics(metrics)
    Vitals(metrics).redis_teller(lambda is_open: None)
    found = {}
    for collector in registry.collectors:
        for family in collector.collect():
            name = f"{family.name}_total" if family.type == "counter" else family.name
            found[name] = (family.type, labels_of(collector))
    return found


def labels_of(collector: Collector) -> tuple[str, ...]:
    if isinstance(collector, LocalFamily):
        return collector.label_names
    return tuple(getattr(collector, "_labelnames", ()))


def written() -> dict[str, tuple[str, tuple[str, ...]]]:
    rows = ROW.findall(PAGE.read_text())
    return {name: (kind, tuple(re.findall(r"`(\w+)`", labels))) for name, kind, labels, _, _ in rows}


def test_the_page_names_every_metric_and_no_other():
    assert set(written()) == set(told())


@pytest.mark.parametrize("name", sorted(told()))
def test_the_page_has_a_metrics_type_and_labels(name):
    assert written()[name] == told()[name]
