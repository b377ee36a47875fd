"""Panels of *Service*: the gateway's link to Redis, its processes and their configuration."""

from deploy.grafana.board import Panel
from deploy.grafana.look import (
    BYTES,
    GREEN,
    NUMBER,
    RED,
    SECONDS,
    bounded,
    curves,
    figure,
    layers,
    now,
    query,
    size,
    states,
)
from deploy.grafana.scope import quantile, rate, series

REDIS = series("postern_redis_seconds_bucket")
LOOP_LAG = series("postern_event_loop_lag_seconds_bucket")


def redis_state() -> Panel:
    """Whether each gateway reaches Redis.

    Normal: up. Without Redis in the configuration there is nothing to show.

    Do: down: answers go on without a cache, and a share is held by each gateway alone. See the runbook.
    """
    names = {"1": ("up", GREEN), "0": ("down", RED)}
    return states("Redis", names, 8).with_target(query(series("postern_redis_up"), "{{instance}}"))


def redis_times() -> Panel:
    """How long Redis takes, half and 99 of a hundred operations, by operation.

    Normal: 0.1 to 1 ms in one data centre.

    Do: p99 near `redis.timeout_s` (0.2 s): operations are given up. Look at Redis' own slow log and its CPU.
    """
    return (
        curves("Redis times", SECONDS, 8)
        .with_target(query(quantile(0.99, REDIS, "operation"), "p99 {{operation}}"))
        .with_target(query(quantile(0.5, REDIS, "operation"), "p50 {{operation}}"))
    )


def redis_rate() -> Panel:
    """Operations of Redis a second.

    Normal: one or two a request, less what is batched.

    Do: nothing at all while requests come: the link is down, or nothing is configured that needs it.
    """
    asked = rate(series("postern_redis_seconds_count"), "operation")
    return layers("Redis operations", "ops", 8).with_target(query(asked, "{{operation}}"))


def cpu() -> Panel:
    """CPU of each gateway, in cores.

    Normal: 0.1 to 0.3 ms of CPU a request. A worker uses one core at most.

    Do: near 1 for each worker: add gateways; latency has risen already.
    """
    asked = f"sum by (instance) (rate({series('process_cpu_seconds_total')}[$__rate_interval]))"
    return curves("CPU", NUMBER, 8).decimals(2).with_target(query(asked, "{{instance}}"))


def memory() -> Panel:
    """Resident memory of each gateway.

    Normal: 70 to 150 MB a worker, and what the in-process cache takes (`cache.exact.max_bytes`).

    Do: steady growth over days is a leak: report it, with the number of open streams.
    """
    asked = series("process_resident_memory_bytes")
    return curves("Memory", BYTES, 8).with_target(query(f"sum by (instance) ({asked})", "{{instance}}"))


def open_files() -> Panel:
    """File descriptors of each gateway: a connection each, to clients, to models and to Redis.

    Normal: some 50, and two for each stream under way.

    Do: near the limit (`ulimit -n`) connections are refused: raise it, or add gateways.
    """
    asked = series("process_open_fds")
    return (
        curves("Open files", NUMBER, 8).decimals(0).with_target(query(f"sum by (instance) ({asked})", "{{instance}}"))
    )


def loop_lag() -> Panel:
    """How late the event loop comes to what is due: the time in which it answered nobody.

    Normal: under 5 ms for 99 of a hundred looks.

    Do: above 50 ms something blocks, or the CPU is throttled (Kubernetes: look at the container's CPU limit).
    """
    panel = bounded(curves("Event loop's lag", SECONDS, 8), {0.05: RED})
    return panel.with_target(query(quantile(0.99, LOOP_LAG), "p99")).with_target(query(quantile(0.5, LOOP_LAG), "p50"))


def reload_state() -> Panel:
    """Whether the last change of the configuration was taken over.

    Normal: taken over.

    Do: refused: the old one goes on; `reload_refused` in the log, and `postern check-config FILE`, say why.
    """
    names = {"1": ("taken over", GREEN), "0": ("refused", RED)}
    asked = query(series("postern_config_last_reload_successful"), "{{instance}}")
    return states("Configuration", names, 8).with_target(asked)


def reload_age() -> Panel:
    """How old the configuration is that each gateway serves by.

    Normal: the same for all gateways.

    Do: one that is older than the others has missed a change.
    """
    asked = f"time() - {series('postern_config_last_reload_success_timestamp_seconds')}"
    panel = figure("Configuration's age", "dtdurations").grid_pos(size(8, 8))
    return panel.with_target(now(asked, "{{instance}}"))
