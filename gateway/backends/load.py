"""How loaded a replica is, from the Prometheus page of its server. Knows no backend; a page is never trusted.

A page that hangs, is too long or tells nonsense tells nothing: it costs a look, never a request. Names and meanings:
https://docs.vllm.ai/en/latest/usage/metrics.html (the same on Triton, with its label `model`),
https://github.com/triton-inference-server/tensorrtllm_backend#triton-metrics, and
https://docs.nvidia.com/deeplearning/triton-inference-server/user-guide/docs/user_guide/metrics.html.
"""

import asyncio
import math
import re
from collections.abc import Iterable
from itertools import islice

import msgspec

from gateway.backends.http import HttpClient, HttpError, HttpHead, HttpRequest
from gateway.settings.models import ModelSettings

FETCH_S = 1.0
"""How long a page may take: half of the usual interval between two looks."""
MAX_PAGE_BYTES = 1024 * 1024
"""vLLM's page has some 100 KB, read in 0.5 ms; one of Triton with many models and histograms, a few times that."""
MAX_SAMPLES = 200
"""Of gauges that tell a load a page has a dozen; more of them, or longer ones than the patterns take, are a fault."""

_SAMPLE = re.compile(
    rb"^(vllm:num_requests_waiting|vllm:num_requests_running|vllm:kv_cache_usage_perc|vllm:gpu_cache_usage_perc"
    rb"|nv_trt_llm_request_metrics|nv_trt_llm_kv_cache_block_metrics|nv_inference_pending_request_count)"
    rb"(?:\{([^\n]{0,1000})\})?[ \t]+([^ \t\n]+)",
    re.MULTILINE,
)
_LABEL = re.compile(rb'([A-Za-z_][A-Za-z0-9_]{0,63})="((?:[^"\\]|\\.)*)"')
_MOST = 1e9
"""No server has so many requests: a count above is nonsense."""

_WAITING = {"vllm:num_requests_waiting": "", "nv_trt_llm_request_metrics": "waiting"}
_RUNNING = {"vllm:num_requests_running": "", "nv_trt_llm_request_metrics": "scheduled"}
_KV_CACHE = {
    "vllm:kv_cache_usage_perc": "",
    "vllm:gpu_cache_usage_perc": "",  # its name until vLLM 0.11, and that of Triton's vLLM backend
    "nv_trt_llm_kv_cache_block_metrics": "fraction",
}
_PENDING = {"nv_inference_pending_request_count": ""}
"""Gauges of one meaning, each with the kind among its labels that is meant."""
_KINDS = ("request_type", "kv_cache_block_type")


class Load(msgspec.Struct, frozen=True):
    """What a page told; None where it told nothing. `kv_cache_usage` is a share, 0 to 1."""

    waiting: int | None = None
    running: int | None = None
    kv_cache_usage: float | None = None


class _Sample(msgspec.Struct, frozen=True, gc=False):
    name: str
    kind: str
    model: str | None
    value: float


def parse_load(page: bytes, model: str | None = None) -> Load:
    """Read a page. `model`, on a server of several, is the one meant.

    Where a gauge names models and none is ours, all of it counts: an ensemble's gauges stand under the name of the
    model inside. Engines of one server add up; their caches count as the fullest of them.
    """
    samples = [sample for found in islice(_SAMPLE.finditer(page), MAX_SAMPLES) if (sample := _read(found)) is not None]
    waiting = _values(samples, _WAITING, model)
    # Triton's own queue stands before the engine's; its page has it for every model, busy or not.
    pending = [one.value for one in samples if one.name in _PENDING and (model is None or one.model == model)]
    running = _values(samples, _RUNNING, model)
    usage = [value for value in _values(samples, _KV_CACHE, model) if value <= 1]
    return Load(
        waiting=round(sum(waiting + pending)) if waiting or pending else None,
        running=round(sum(running)) if running else None,
        kv_cache_usage=max(usage, default=None),
    )


def _values(samples: Iterable[_Sample], meant: dict[str, str], model: str | None) -> list[float]:
    found = [one for one in samples if meant.get(one.name) == one.kind]
    ours = [one for one in found if one.model == model]
    return [one.value for one in ours or found]


def _read(found: re.Match[bytes]) -> _Sample | None:
    try:
        value = float(found[3])
    except ValueError:
        return None
    if not (math.isfinite(value) and 0 <= value <= _MOST):
        return None
    labels = {name.decode(): text.decode(errors="replace") for name, text in _LABEL.findall(found[2] or b"")}
    kind = next((labels[name] for name in _KINDS if name in labels), "")
    return _Sample(found[1].decode(), kind, labels.get("model"), value)


def page_of(settings: ModelSettings, url: str) -> str | None:
    """Return the metrics page that the configuration names for a replica, None where it names none."""
    pages = settings.watch.metrics_urls
    return pages[settings.urls.index(url)] if pages and url in settings.urls else None


async def fetch_load(client: HttpClient, page: str, model: str | None = None) -> Load:
    """Read a page within FETCH_S; what can't be read tells nothing. Raises nothing but a cancellation."""
    try:
        async with asyncio.timeout(FETCH_S):
            return parse_load(await _fetch(client, page), model)
    except (TimeoutError, HttpError):
        return Load()


async def _fetch(client: HttpClient, page: str) -> bytes:
    """Return the page; nothing of one that is not there or too long, as half of it would tell half a load."""
    head = HttpHead(page, {"accept": "text/plain", "accept-encoding": "identity", "user-agent": "postern"}, "GET")
    response = await client.send(HttpRequest(head))
    try:
        found = await response.read(MAX_PAGE_BYTES)
        return found if found is not None and response.status == 200 else b""
    finally:
        await response.close()
