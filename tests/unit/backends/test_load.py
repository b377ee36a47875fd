"""How loaded a replica is, as its Prometheus page tells it; pages that hang or lie cost nothing but a look."""

import asyncio
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.backends import load as load_module
from gateway.backends.http import HttpError, IteratedResponse
from gateway.backends.load import MAX_PAGE_BYTES, Load, fetch_load, page_of, parse_load
from gateway.settings.engines import WatchSettings
from gateway.settings.models import BackendKind
from tests.builders import model, nothing

VLLM = b"""# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="meta-llama/Llama-3.1-8B"} 7.0
# HELP vllm:num_requests_waiting Number of requests waiting to be processed.
vllm:num_requests_waiting{engine="0",model_name="meta-llama/Llama-3.1-8B"} 3.0
vllm:kv_cache_usage_perc{engine="0",model_name="meta-llama/Llama-3.1-8B"} 0.42
vllm:num_requests_waiting_total{engine="0"} 99
xvllm:num_requests_waiting 99
vllm:time_to_first_token_seconds_bucket{engine="0",le="0.001"} 99
"""
OLD_VLLM = b"""vllm:num_requests_running{model_name="m"} 1
vllm:num_requests_waiting{model_name="m"} 2
vllm:gpu_cache_usage_perc{model_name="m"} 0.9
vllm:cpu_cache_usage_perc{model_name="m"} 0.1
"""
TRTLLM = b"""nv_trt_llm_request_metrics{model="tensorrt_llm",request_type="waiting",version="1"} 3
nv_trt_llm_request_metrics{model="tensorrt_llm",request_type="context",version="1"} 1
nv_trt_llm_request_metrics{model="tensorrt_llm",request_type="scheduled",version="1"} 4
nv_trt_llm_request_metrics{model="tensorrt_llm",request_type="max",version="1"} 512
nv_trt_llm_request_metrics{model="tensorrt_llm",request_type="active",version="1"} 7
nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type="fraction",model="tensorrt_llm",version="1"} 0.6
nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type="used",model="tensorrt_llm",version="1"} 2000
nv_inference_pending_request_count{model="ensemble",version="1"} 5
nv_inference_pending_request_count{model="tensorrt_llm",version="1"} 50
nv_inference_pending_request_count{model="another",version="1"} 500
"""
VLLM_ON_TRITON = b"""vllm:num_requests_running{model="llama",version="1"} 2
vllm:num_requests_running{model="qwen",version="1"} 200
vllm:num_requests_waiting{model="llama",version="1"} 1
vllm:num_requests_waiting{model="qwen",version="1"} 100
vllm:gpu_cache_usage_perc{model="llama",version="1"} 0.25
vllm:gpu_cache_usage_perc{model="qwen",version="1"} 0.99
"""


@pytest.mark.parametrize(
    ("page", "name", "told"),
    [
        (VLLM, None, Load(3, 7, 0.42)),
        (VLLM, "llama", Load(3, 7, 0.42)),
        (OLD_VLLM, None, Load(2, 1, 0.9)),
        (TRTLLM, "ensemble", Load(8, 4, 0.6)),
        (VLLM_ON_TRITON, "llama", Load(1, 2, 0.25)),
        (VLLM_ON_TRITON, "qwen", Load(100, 200, 0.99)),
        (b'nv_inference_pending_request_count{model="m",version="1"} 4\n', "m", Load(4)),
        (b'nv_inference_pending_request_count{model="m",version="1"} 4\n', "other", Load()),
        (b"vllm:num_requests_waiting 2", None, Load(2)),
        (b"vllm:num_requests_waiting 2 1700000000000\r\n", None, Load(2)),
        (b'vllm:num_requests_waiting{engine="0"} 2\nvllm:num_requests_waiting{engine="1"} 3\n', None, Load(5)),
        (b'vllm:kv_cache_usage_perc{e="0"} 0.2\nvllm:kv_cache_usage_perc{e="1"} 0.3\n', None, Load(None, None, 0.3)),
        (b'vllm:num_requests_waiting{model_name="a\\"}b\\\\"} 2\n', None, Load(2)),
        (b"", None, Load()),
        (b"<html>", None, Load()),
    ],
)  # fmt: skip
def test_a_page_tells_what_waits_what_runs_and_how_full_the_cache_is(page, name, told):
    assert parse_load(page, name) == told


@pytest.mark.parametrize("value", [b"NaN", b"+Inf", b"-Inf", b"-1", b"1e30", b"many", b"0x10", b"1_0e99", b"\xff"])
def test_a_gauge_that_lies_tells_nothing(value):
    assert parse_load(b"vllm:num_requests_waiting " + value + b"\nvllm:num_requests_running 1\n") == Load(None, 1)


def test_a_share_above_one_tells_nothing():
    assert parse_load(b"vllm:kv_cache_usage_perc 42\n") == Load()


@given(st.binary(max_size=300), st.sampled_from([VLLM, TRTLLM, VLLM_ON_TRITON]), st.integers(0, 600), st.text())
def test_no_page_breaks_the_reading_of_it(noise, page, place, name):
    told = parse_load(page[:place] + noise + page[place:], name)
    assert told.kv_cache_usage is None or 0 <= told.kv_cache_usage <= 1


class Page:
    """An HttpClient with one page."""

    def __init__(self, *chunks, status=200, fault=None, hangs=False):
        self.asked, self.is_closed = [], False
        self._chunks, self._status, self._fault, self._hangs = chunks, status, fault, hangs

    async def send(self, request):
        self.asked.append(request)
        if self._fault is not None:
            raise self._fault
        return IteratedResponse(self._status, {}, self._read(), self._close)

    async def _read(self):
        for chunk in self._chunks:
            await asyncio.sleep(0)
            yield chunk
        if self._hangs:
            await asyncio.Event().wait()

    async def _close(self):
        self.is_closed = True

    close = nothing


async def test_a_page_is_asked_for_without_anybodys_key():
    client = Page(VLLM[:100], VLLM[100:])
    assert await fetch_load(client, "http://h/metrics") == Load(3, 7, 0.42)
    (asked,) = client.asked
    assert (asked.head.method, asked.head.url, client.is_closed) == ("GET", "http://h/metrics", True)
    assert "authorization" not in {name.lower() for name in {**asked.head.headers, **asked.headers}}


@pytest.mark.parametrize(
    "client",
    [
        Page(VLLM, status=500),
        Page(fault=HttpError("gone", is_connecting=True)),
        Page(VLLM, *[b"#" * 65_536] * (MAX_PAGE_BYTES // 65_536 + 1)),
    ],
    ids=["an error", "nobody there", "too long"],
)
async def test_a_page_that_cannot_be_had_tells_nothing(client):
    assert await fetch_load(client, "http://h/metrics") == Load()


async def test_a_page_that_never_ends_is_left_in_time_and_its_connection_let_go(monkeypatch):
    monkeypatch.setattr(load_module, "FETCH_S", 0.05)
    client = Page(VLLM, hangs=True)
    async with asyncio.timeout(2):
        assert await fetch_load(client, "http://h/metrics") == Load()
    assert client.is_closed


async def test_a_look_that_is_cancelled_is_cancelled():
    client = Page(VLLM, hangs=True)
    task = asyncio.create_task(fetch_load(client, "http://h/metrics"))
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert client.is_closed


def test_pages_belong_to_replicas_in_their_order():
    settings = model(
        backend=BackendKind.OPENAI,
        urls=("http://a", "http://b"),
        watch=WatchSettings(metrics_urls=("http://a/metrics", "http://b/metrics")),
    )
    assert page_of(settings, "http://b") == "http://b/metrics"
    assert page_of(model(urls=("http://a",)), "http://a") is None
    assert page_of(model(urls=("http://a",), watch=WatchSettings(metrics_urls=())), "http://a") is None


@pytest.mark.parametrize("inside", [b"a", b"}", b'a="', b'a="\\', b"} "])
@pytest.mark.parametrize("line_bytes", [950, MAX_PAGE_BYTES])
def test_a_page_made_to_be_slow_is_read_at_once(inside, line_bytes):
    line = (b"vllm:num_requests_waiting{" + inside * line_bytes)[:line_bytes] + b"} 1\n"
    page = b"vllm:num_requests_running 1\n" + line * (MAX_PAGE_BYTES // line_bytes)
    began_s = time.monotonic()
    assert parse_load(page).running == 1
    assert time.monotonic() - began_s < 1
