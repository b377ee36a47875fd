"""The gauges of replicas: what they tell, and that nothing is told of what is gone."""

import subprocess
import sys

import pytest
from prometheus_client import CollectorRegistry

from gateway.backends.backend import Health
from gateway.telemetry.metrics import Metrics, merged_registry, render
from gateway.telemetry.replicas import ReplicaMetrics


@pytest.fixture
def metrics():
    return Metrics(CollectorRegistry())


def told(registry):
    return {
        (sample.name.removeprefix("postern_upstream_"), *sample.labels.values()): sample.value
        for family in registry.collect()
        for sample in family.samples
        if sample.name.startswith("postern_upstream_")
    }


def test_what_a_replica_says_is_shown_and_what_it_does_not_say_is_not(metrics):
    gauges = ReplicaMetrics(metrics)
    gauges.show("m", "u", Health(waiting=3, running=7, kv_cache_usage=0.4))
    gauges.show("m", "v", Health(is_ready=False))
    assert told(metrics.registry) == {
        ("ready", "m", "u"): 1.0,
        ("waiting_requests", "m", "u"): 3.0,
        ("running_requests", "m", "u"): 7.0,
        ("kv_cache_usage_ratio", "m", "u"): 0.4,
        ("ready", "m", "v"): 0.0,
    }


def test_a_gauge_that_is_no_longer_told_and_a_replica_that_is_gone_have_no_series(metrics):
    gauges = ReplicaMetrics(metrics)
    gauges.show("m", "u", Health(waiting=3))
    gauges.show("m", "v", Health(waiting=0))
    gauges.show("m", "u", Health())
    gauges.show("m", "v", None)
    gauges.show("m", "never", None)
    assert told(metrics.registry) == {("ready", "m", "u"): 1.0}
    gauges.show("m", "v", Health(waiting=5))
    assert told(metrics.registry)["waiting_requests", "m", "v"] == 5.0
    assert b'postern_upstream_waiting_requests{model="m",url="v"} 5.0' in render(metrics.registry)[0]


WORKER = """
from gateway.backends.backend import Health
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.replicas import ReplicaMetrics
gauges = ReplicaMetrics(Metrics())
{script}
"""


def work(folder, script):
    """Run lines in a worker's process, whose metrics are files."""
    environ = {"PROMETHEUS_MULTIPROC_DIR": str(folder), "PYTHONPATH": ":".join(sys.path)}
    code = WORKER.format(script=script)
    subprocess.run([sys.executable, "-W", "error", "-c", code], env=environ, check=True)


def test_of_several_workers_the_latest_look_counts_and_what_is_gone_is_gone(tmp_path):
    work(tmp_path, 'gauges.show("m", "u", Health(waiting=3)); gauges.show("m", "v", Health(waiting=1))')
    work(tmp_path, 'gauges.show("m", "u", Health(waiting=4))')
    found = told(merged_registry(str(tmp_path)))
    assert (found["waiting_requests", "m", "u"], found["waiting_requests", "m", "v"]) == (4.0, 1.0)
    work(tmp_path, 'gauges.show("m", "v", Health(waiting=9)); gauges.show("m", "v", None)')
    assert set(told(merged_registry(str(tmp_path)))) == {("ready", "m", "u"), ("waiting_requests", "m", "u")}
    work(tmp_path, 'gauges.show("m", "v", Health()); gauges.show("m", "v", None); gauges.show("m", "v", Health())')
    assert ("ready", "m", "v") in told(merged_registry(str(tmp_path)))
