"""The dashboard *Upstreams*: the model servers, as the gateway sees them and as they tell of themselves."""

from deploy.grafana.board import Board, Panel
from deploy.grafana.engines import (
    gpu_memory,
    gpu_power,
    gpu_utilization,
    tensorrt_kv_cache,
    tensorrt_requests,
    triton_batch,
    triton_compute,
    triton_pending,
    triton_queue,
    triton_rate,
    vllm_kv_cache,
    vllm_latency,
    vllm_preemptions,
    vllm_prefix_cache,
    vllm_requests,
    vllm_tokens,
)
from deploy.grafana.look import (
    GREEN,
    NUMBER,
    ORANGE,
    RED,
    REQUESTS_PER_S,
    SHARE,
    YELLOW,
    bounded,
    curves,
    figure,
    layers,
    query,
    states,
)
from deploy.grafana.scope import MODEL, NO_FAILURE, or_zero, rate, ratio, series

READY = series("postern_upstream_ready", MODEL)
CALLS = series("postern_upstream_attempts_total", MODEL)
ATTEMPTS = series("postern_upstream_attempts_total", MODEL, 'outcome!="cancelled"')
FAILED = series("postern_upstream_attempts_total", MODEL, f'outcome!~"{NO_FAILURE}"')
WAITING = series("postern_upstream_waiting_requests", MODEL)
RUNNING = series("postern_upstream_running_requests", MODEL)
KV_CACHE = series("postern_upstream_kv_cache_usage_ratio", MODEL)
REPLICA = "cluster, namespace, model, url"
"""What makes a replica one: every gateway tells of it, and it is there once."""
FALLBACKS = series("postern_requests_total", MODEL, 'reason="fallback"')


def ready_now() -> Panel:
    """Replicas that say that they take requests, to every gateway.

    Normal: all that are configured.

    Do: fewer: the states below name them. A replica that is not ready is asked last, not never.
    """
    return (
        figure("Replicas ready", NUMBER, {1.0: GREEN}, RED)
        .decimals(0)
        .with_target(query(f"sum(min by ({REPLICA}) ({READY}))"))
    )


def unready_now() -> Panel:
    """Replicas that say that they take no requests, or don't answer, to at least one gateway.

    Normal: 0, and 1 for minutes while a model is loaded.

    Do: look at that server's own log first; then at the way there (network policy, DNS).
    """
    panel = figure("Replicas not ready", NUMBER, {1.0: RED}).decimals(0)
    return panel.with_target(query(f"sum(1 - min by ({REPLICA}) ({READY}))"))


def failed_now() -> Panel:
    """The share of calls to model servers that failed; many of them cost a fallback only, and no client sees them.

    Normal: under 1 %.

    Do: which model and which fault: below.
    """
    panel = figure("Calls failed", SHARE, {0.01: YELLOW, 0.05: RED})
    return panel.with_target(query(ratio(or_zero(rate(FAILED)), rate(ATTEMPTS))))


def waiting_now() -> Panel:
    """Requests that wait in model servers' queues.

    Normal: near 0.

    Do: more than run there: a server is full. Add a replica, or send less to it.
    """
    return (
        figure("Waiting", NUMBER, {1.0: YELLOW, 50.0: RED})
        .decimals(0)
        .with_target(query(f"sum(max by ({REPLICA}) ({WAITING}))"))
    )


def running_now() -> Panel:
    """Requests that model servers work at, as they say; it counts other clients' than the gateway too.

    Normal: up to the size of their batches.

    Do: far above what is in flight in *Service*: someone goes past the gateway.
    """
    return figure("Running", NUMBER).decimals(0).with_target(query(f"sum(max by ({REPLICA}) ({RUNNING}))"))


def kv_now() -> Panel:
    """The fullest KV cache of all replicas.

    Normal: up to 0.8 under load.

    Do: near 1 requests are put off or thrown out and begun again: shorten contexts, or add memory or a replica.
    """
    panel = figure("Fullest KV cache", SHARE, {0.8: YELLOW, 0.95: RED}).max(1)
    return panel.with_target(query(f"max({KV_CACHE})"))


def fallback_now() -> Panel:
    """Requests a second that another model than the chosen one answered, because that one failed.

    Normal: 0.

    Do: it keeps clients served, by a dearer or a weaker model: mend the one that fails.
    """
    panel = figure("Fallbacks", REQUESTS_PER_S, {0.000001: ORANGE})
    return panel.with_target(query(or_zero(rate(FALLBACKS))))


def cancelled_now() -> Panel:
    """Calls a second that were called off, because the client had gone or another model took over.

    Normal: as many as clients go away, and escalations of cascades.

    Do: nothing: it is work that a GPU was spared.
    """
    calls = series("postern_upstream_attempts_total", MODEL, 'outcome="cancelled"')
    return figure("Calls called off", REQUESTS_PER_S).with_target(query(or_zero(rate(calls))))


def ready() -> Panel:
    """Each replica over time: whether it says that it takes requests.

    Normal: ready throughout.

    Do: short gaps at one replica: it restarts (memory?). All of a model at once: its deployment, or the network.
    """
    names = {"1": ("ready", GREEN), "0": ("not ready", RED)}
    return states("Replicas", names, 8).with_target(query(f"min by (model, url) ({READY})", "{{model}} {{url}}"))


def attempts() -> Panel:
    """Calls a second by what became of them.

    Normal: nearly all `ok`.

    Do: `upstream_timeout`: too slow or hung. `upstream_unavailable`: no connection. `upstream_rate_limited`: the
    provider's limits. `upstream_model_unavailable`: the server has not loaded the model.
    """
    return layers("Calls by outcome", REQUESTS_PER_S, 8).with_target(query(rate(CALLS, "outcome"), "{{outcome}}"))


def failed_by_model() -> Panel:
    """The share of calls that failed, model by model.

    Normal: under the first line, 1 %.

    Do: one model above it: its replicas. All: what they share, most often the network or the provider.
    """
    failed = f"({rate(FAILED, 'model')} or 0 * {rate(ATTEMPTS, 'model')})"
    panel = bounded(curves("Failed calls by model", SHARE, 8), {0.01: YELLOW, 0.05: RED})
    return panel.with_target(query(ratio(failed, rate(ATTEMPTS, "model")), "{{model}}"))


def queues() -> Panel:
    """Requests that wait at each replica, as the gateway reads them and weighs replicas by.

    Normal: short, and alike for replicas of one model.

    Do: one replica's long and another's empty: it is slower than its siblings; look at its GPU.
    """
    return curves("Waiting by replica", NUMBER, 8).with_target(
        query(f"max by (model, url) ({WAITING})", "{{model}} {{url}}")
    )


def running() -> Panel:
    """Requests that run at each replica.

    Normal: alike for replicas of one model.

    Do: at a flat top the batch is full, and waiting begins.
    """
    return curves("Running by replica", NUMBER, 8).with_target(
        query(f"max by (model, url) ({RUNNING})", "{{model}} {{url}}")
    )


def kv_cache() -> Panel:
    """The share of its KV cache that each replica uses.

    Normal: under 0.8.

    Do: above 0.95 servers throw requests out and begin them again: latency doubles at the same load.
    """
    panel = bounded(curves("KV cache by replica", SHARE, 8).max(1), {0.8: YELLOW, 0.95: RED})
    return panel.with_target(query(f"max by (model, url) ({KV_CACHE})", "{{model}} {{url}}"))


UPSTREAMS = Board(
    name="upstreams",
    title="Upstreams",
    description="The model servers: their health and load as the gateway sees it, and what Triton, vLLM and GPUs tell.",
    shown="now-1h",
    rows=[
        (
            "At a glance",
            [ready_now, unready_now, failed_now, fallback_now, waiting_now, running_now, kv_now, cancelled_now],
        ),
        ("As the gateway sees them", [ready, attempts, failed_by_model, queues, running, kv_cache]),
        ("Triton", [triton_rate, triton_queue, triton_pending, triton_compute, triton_batch]),
        ("TensorRT-LLM on Triton", [tensorrt_requests, tensorrt_kv_cache]),
        ("vLLM", [vllm_requests, vllm_kv_cache, vllm_preemptions, vllm_latency, vllm_tokens, vllm_prefix_cache]),
        ("GPUs", [gpu_utilization, gpu_memory, gpu_power]),
    ],
)
