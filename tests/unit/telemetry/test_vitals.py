"""A process tells of its version, configuration, Redis, event loop and of what it uses."""

import asyncio
import math
import multiprocessing
import os
import time

import pytest
from prometheus_client import CollectorRegistry

from gateway import __version__
from gateway.telemetry import vitals as vitals_module
from gateway.telemetry.local import Registry
from gateway.telemetry.metrics import Metrics, render
from gateway.telemetry.vitals import ProcessFigures, Vitals

LAG = "postern_event_loop_lag_seconds"
RELOADED, RELOADED_AT = "postern_config_last_reload_successful", "postern_config_last_reload_success_timestamp_seconds"


@pytest.fixture
def metrics():
    return Metrics(Registry())


@pytest.fixture
def vitals(metrics):
    return Vitals(metrics)


def sample(metrics, name, **labels):
    return metrics.registry.get_sample_value(name, labels)


@pytest.mark.usefixtures("vitals")
def test_the_version_is_told(metrics):
    assert sample(metrics, "postern_build_info", version=__version__) == 1


def test_a_refused_reload_is_told_until_one_is_taken_and_keeps_the_time_of_the_last(metrics, vitals):
    began_s = time.time()
    first_s = sample(metrics, RELOADED_AT)
    assert sample(metrics, RELOADED) == 1
    assert began_s - 60 < first_s <= began_s
    vitals.tell_reload(is_taken=False)
    assert (sample(metrics, RELOADED), sample(metrics, RELOADED_AT)) == (0, first_s)
    vitals.tell_reload(is_taken=True)
    assert sample(metrics, RELOADED) == 1
    assert sample(metrics, RELOADED_AT) > first_s


def test_redis_is_told_of_only_where_there_is_one(metrics, vitals):
    heard = []
    assert "postern_redis_up" not in render(metrics.registry)[0].decode()
    vitals.forget_redis()
    assert "postern_redis_up" not in render(metrics.registry)[0].decode()
    tell = vitals.redis_teller(heard.append)
    assert sample(metrics, "postern_redis_up") == 1
    for is_open in (True, False, True):
        tell(is_open)
        assert sample(metrics, "postern_redis_up") == (not is_open)
    assert heard == [True, False, True]
    vitals.forget_redis()
    assert math.isnan(sample(metrics, "postern_redis_up"))
    vitals.redis_teller(heard.append)
    assert sample(metrics, "postern_redis_up") == 1


async def test_a_loop_that_stands_still_is_told_by_how_long(metrics, vitals, monkeypatch):
    monkeypatch.setattr(vitals_module, "LAG_S", 0.01)
    watch = asyncio.create_task(vitals.watch_loop())
    await asyncio.sleep(0.005)
    time.sleep(0.3)  # noqa: ASYNC251 - this is the fault
    await asyncio.sleep(0.05)
    watch.cancel()
    assert sample(metrics, f"{LAG}_sum") >= 0.29
    count = sample(metrics, f"{LAG}_count")
    assert count - sample(metrics, f"{LAG}_bucket", le="0.25") == 1


@pytest.mark.usefixtures("vitals")
def test_one_process_tells_what_it_uses(metrics):
    assert sample(metrics, "process_resident_memory_bytes") > 1_000_000
    assert sample(metrics, "process_cpu_seconds_total") > 0
    assert 0 < sample(metrics, "process_open_fds") < sample(metrics, "process_max_fds")


def test_what_children_use_is_added_and_their_cpu_time_stays_when_they_are_gone():
    registry = CollectorRegistry()
    registry.register(ProcessFigures())
    alone = registry.get_sample_value("process_resident_memory_bytes")
    child = multiprocessing.get_context("spawn").Process(target=time.sleep, args=(60,))
    child.start()
    try:
        deadline_s = time.monotonic() + 20
        while registry.get_sample_value("process_resident_memory_bytes") < alone + 5_000_000:
            assert time.monotonic() < deadline_s
            time.sleep(0.05)
        assert registry.get_sample_value("process_open_fds") > len(os.listdir("/proc/self/fd"))  # noqa: PTH208
        cpu_s = registry.get_sample_value("process_cpu_seconds_total")
    finally:
        child.kill()
        child.join()
    assert registry.get_sample_value("process_cpu_seconds_total") >= cpu_s
    assert registry.get_sample_value("process_resident_memory_bytes") < alone + 5_000_000
