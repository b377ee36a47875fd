"""Panels of *Upstreams*: what Triton, TensorRT-LLM, vLLM and GPUs tell of themselves."""

from deploy.grafana.board import Panel
from deploy.grafana.look import (
    BYTES,
    NUMBER,
    PER_S,
    RED,
    REQUESTS_PER_S,
    SECONDS,
    SHARE,
    WATTS,
    YELLOW,
    bounded,
    curves,
    layers,
    query,
)
from deploy.grafana.scope import foreign, quantile, rate, ratio, total

US_PER_S = 1_000_000
MIB = 1_048_576


def triton_rate() -> Panel:
    """Triton: requests a second by model, those that failed by their reason.

    Normal: no failures but `CANCELED`, which are clients that went away.

    Do: `REJECTED`: a queue is full. `BACKEND`: the model's own log.
    """
    failed = rate(foreign("nv_inference_request_failure"), "model, reason")
    return (
        curves("Triton: requests", REQUESTS_PER_S, 8)
        .with_target(query(rate(foreign("nv_inference_request_success"), "model"), "{{model}}"))
        .with_target(query(f"{failed} > 0 or 0 * sum by (model) ({failed})", "{{model}} failed {{reason}}"))
    )


def triton_queue() -> Panel:
    """Triton: how long a request waits before its model runs, in the mean.

    Normal: under a millisecond; with dynamic batching up to `max_queue_delay_microseconds`.

    Do: this is what to scale on: at a tenth of a second add a replica (the chart's `triton.autoscaling` can).
    """
    queued = rate(foreign("nv_inference_queue_duration_us"), "model")
    asked = f"{ratio(queued, rate(foreign('nv_inference_request_success'), 'model'))} / {US_PER_S}"
    return bounded(curves("Triton: time in the queue", SECONDS, 8), {0.1: RED}).with_target(query(asked, "{{model}}"))


def triton_pending() -> Panel:
    """Triton: requests that wait for their model to run.

    Normal: 0 for models with a scheduler of their own (vLLM, TensorRT-LLM): they wait inside, see below.

    Do: growing: more arrive than the instances serve.
    """
    asked = f"sum by (model) ({foreign('nv_inference_pending_request_count')})"
    return curves("Triton: pending", NUMBER, 8).with_target(query(asked, "{{model}}"))


def triton_compute() -> Panel:
    """Triton: how long a model computes for a request, in the mean; of decoupled models until it has handed them over.

    Normal: level; ensembles show the sum of their steps.

    Do: rising at the same requests: the GPU is shared, throttled, or the inputs have grown.
    """
    computed = rate(foreign("nv_inference_compute_infer_duration_us"), "model")
    asked = f"{ratio(computed, rate(foreign('nv_inference_request_success'), 'model'))} / {US_PER_S}"
    return curves("Triton: time to compute", SECONDS, 8).with_target(query(asked, "{{model}}"))


def triton_batch() -> Panel:
    """Triton: inferences an execution, the size of the mean batch.

    Normal: 1 for models that batch by themselves; else near the preferred size under load.

    Do: 1 under load with dynamic batching: the queue delay is too short for batches to gather.
    """
    ran = rate(foreign("nv_inference_exec_count"), "model")
    asked = ratio(rate(foreign("nv_inference_count"), "model"), ran)
    return curves("Triton: batch size", NUMBER, 8).with_target(query(asked, "{{model}}"))


def tensorrt_requests() -> Panel:
    """TensorRT-LLM: requests in its batch manager: waiting, scheduled, and the most there may be.

    Normal: scheduled under the maximum, none waiting.

    Do: waiting with a full KV cache: fewer tokens a request, or more memory for it.
    """
    asked = f"sum by (model, request_type) ({foreign('nv_trt_llm_request_metrics')})"
    return curves("TensorRT-LLM: requests", NUMBER).with_target(query(asked, "{{model}} {{request_type}}"))


def tensorrt_kv_cache() -> Panel:
    """TensorRT-LLM: the share of its KV cache's blocks that is in use.

    Normal: under 0.8.

    Do: near 1: `kv_cache_free_gpu_mem_fraction`, shorter contexts, or a replica more.
    """
    fraction = foreign("nv_trt_llm_kv_cache_block_metrics", 'kv_cache_block_type="fraction"')
    panel = bounded(curves("TensorRT-LLM: KV cache", SHARE).max(1), {0.8: YELLOW, 0.95: RED})
    return panel.with_target(query(f"max by (model, instance) ({fraction})", "{{model}} {{instance}}"))


def vllm_requests() -> Panel:
    """vLLM: requests that run and that wait, all engines together.

    Normal: waiting near 0.

    Do: waiting for minutes: more replicas, or `--max-num-seqs` if the KV cache has room.
    """
    return (
        layers("vLLM: requests", NUMBER, 8)
        .with_target(query(total(foreign("vllm:num_requests_running"), "instance"), "running {{instance}}"))
        .with_target(query(total(foreign("vllm:num_requests_waiting"), "instance"), "waiting {{instance}}"))
    )


def vllm_kv_cache() -> Panel:
    """vLLM: the share of each engine's KV cache that is in use.

    Normal: under 0.9; it is filled on purpose.

    Do: at 1 with preemptions (beside it): `--gpu-memory-utilization`, shorter contexts, a replica more.
    """
    panel = bounded(curves("vLLM: KV cache", SHARE, 8).max(1), {0.9: YELLOW, 0.98: RED})
    # Its name, and the one that it had until vLLM 0.11.
    used = f"{foreign('vllm:kv_cache_usage_perc')} or {foreign('vllm:gpu_cache_usage_perc')}"
    return panel.with_target(query(f"max by (instance) ({used})", "{{instance}}"))


def vllm_preemptions() -> Panel:
    """vLLM: requests a second that were thrown out of a full KV cache, to be begun again.

    Normal: 0.

    Do: each costs its prompt once more: see the KV cache.
    """
    asked = rate(foreign("vllm:num_preemptions_total"), "instance")
    return curves("vLLM: preemptions", PER_S, 8).with_target(query(asked, "{{instance}}"))


def vllm_latency() -> Panel:
    """vLLM: time of a whole request, and its time to the first token, that 95 of a hundred stay under.

    Normal: the time to the first token close to the gateway's in *Service*.

    Do: the gateway's much above it: the network between, or the gateway's own time.
    """
    return (
        curves("vLLM: latency, p95", SECONDS, 8)
        .with_target(query(quantile(0.95, foreign("vllm:e2e_request_latency_seconds_bucket")), "whole request"))
        .with_target(query(quantile(0.95, foreign("vllm:time_to_first_token_seconds_bucket")), "first token"))
    )


def vllm_tokens() -> Panel:
    """vLLM: tokens a second that are read and written.

    Normal: several times more read than written.

    Do: written tokens at a flat top are the engine's capacity with this traffic.
    """
    return (
        curves("vLLM: tokens", PER_S, 8)
        .with_target(query(rate(foreign("vllm:prompt_tokens_total")), "read"))
        .with_target(query(rate(foreign("vllm:generation_tokens_total")), "written"))
    )


def vllm_prefix_cache() -> Panel:
    """vLLM: the share of the prompts' tokens that its prefix cache had already.

    Normal: 0.3 to 0.9 with long system prompts or conversations.

    Do: near 0 with conversations: they change replicas; `kind: [complexity, session]` keeps them with their model.
    """
    hits, asked = (
        rate(foreign("vllm:prefix_cache_hits_total"), "instance"),
        rate(foreign("vllm:prefix_cache_queries_total"), "instance"),
    )
    panel = curves("vLLM: prefix cache hits", SHARE, 8).max(1)
    return panel.with_target(query(ratio(hits, asked), "{{instance}}"))


def gpu_utilization() -> Panel:
    """How busy each GPU is, as Triton tells, or the DCGM exporter where that is installed.

    Normal: 0.6 to 0.95 under load.

    Do: low while requests wait: the bottleneck is elsewhere (CPU, batch size, KV cache).
    """
    return (
        curves("GPU: utilization", SHARE, 8)
        .max(1)
        .with_target(query(f"avg by (gpu_uuid) ({foreign('nv_gpu_utilization')})", "{{gpu_uuid}}"))
        .with_target(query(f"avg by (UUID) ({foreign('DCGM_FI_DEV_GPU_UTIL')}) / 100", "{{UUID}} (DCGM)"))
    )


def gpu_memory() -> Panel:
    """Memory in use on each GPU; weights and the KV cache's pool are taken at the start.

    Normal: level, near what the server was told to take.

    Do: rising: something else runs on this GPU.
    """
    return (
        curves("GPU: memory", BYTES, 8)
        .with_target(query(f"max by (gpu_uuid) ({foreign('nv_gpu_memory_used_bytes')})", "{{gpu_uuid}}"))
        .with_target(query(f"max by (UUID) ({foreign('DCGM_FI_DEV_FB_USED')}) * {MIB}", "{{UUID}} (DCGM)"))
    )


def gpu_power() -> Panel:
    """Power that each GPU draws.

    Normal: near its limit under load.

    Do: compare with the power in *Money*, which is reckoned from tokens: set `models.*.energy` by it.
    """
    return (
        curves("GPU: power", WATTS, 8)
        .with_target(query(f"max by (gpu_uuid) ({foreign('nv_gpu_power_usage')})", "{{gpu_uuid}}"))
        .with_target(query(f"max by (UUID) ({foreign('DCGM_FI_DEV_POWER_USAGE')})", "{{UUID}} (DCGM)"))
    )
