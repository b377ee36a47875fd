"""True counts of what the mock does, on Triton's metrics page: its own, and the gauges of the backend that it mocks."""

from dataclasses import dataclass, field

import triton_python_backend_utils as pb_utils

PHASES = ("waiting", "generating", "unary")
BLOCK_TOKENS = 64


class Gauges:
    """The gauges of one family and what distinguishes them: `{label: value}` to a gauge."""

    def __init__(self, name: str, description: str, labels: dict[str, str]) -> None:
        self._family = pb_utils.MetricFamily(name=name, description=description, kind=pb_utils.MetricFamily.GAUGE)
        self._labels = labels
        self._metrics = {}

    def set(self, value: float, **labels: str) -> None:
        """Set the gauge of these labels."""
        key = tuple(labels.items())
        if key not in self._metrics:
            self._metrics[key] = self._family.Metric(labels={**self._labels, **labels})
        self._metrics[key].set(value)


class Own:
    """The mock's own counts: what tests ask for."""

    def __init__(self, labels: dict[str, str]) -> None:
        self.requests = counter("requests", "Requests begun.", labels)
        self.finished = counter("finished", "Requests answered to the end.", labels)
        self.failed = counter("failed", "Requests ended by an error.", labels)
        self.tokens = counter("tokens", "Tokens made, those of cancelled requests too.", labels)
        self.cancelled = counters(
            "cancelled", "Requests cancelled, by phase.", [{**labels, "phase": p} for p in PHASES]
        )
        self.cancelled_at = Gauges("mock_cancelled_at_seconds", "When a cancel was last seen, monotonic clock.", labels)


def counter(name: str, description: str, labels: dict[str, str]) -> "Counter":
    """Make a counter that stands on the page from the start."""
    return counters(name, description, [labels])[tuple(labels.values())[-1]]


def counters(name: str, description: str, labels: list[dict[str, str]]) -> dict[str, "Counter"]:
    """Make a family of counters, by the value of the last label."""
    family = pb_utils.MetricFamily(
        name=f"mock_{name}_total", description=description, kind=pb_utils.MetricFamily.COUNTER
    )
    return {tuple(one.values())[-1]: Counter(family, family.Metric(labels=one)) for one in labels}


@dataclass
class Counter:
    """A counter, and the family that it would vanish with."""

    family: object
    metric: object

    def add(self, value: float = 1) -> None:
        """Count."""
        if value:
            self.metric.increment(value)


@dataclass
class Load:
    """What is under way: requests that wait for a slot, that run, and the tokens that they hold."""

    waiting: int = 0
    running: int = 0
    held_tokens: int = 0
    capacity_tokens: int = 1
    slots: int = 1
    is_changed: bool = field(default=True, init=False)

    @property
    def kv_share(self) -> float:
        """The share of the KV cache in use."""
        return min(1.0, self.held_tokens / self.capacity_tokens)


class VllmGauges:
    """The gauges of vLLM's backend. `gpu_cache_usage_perc` is what it was called before vLLM 0.10."""

    def __init__(self, labels: dict[str, str]) -> None:
        self.running = Gauges("vllm:num_requests_running", "Number of requests currently running on GPU.", labels)
        self.waiting = Gauges("vllm:num_requests_waiting", "Number of requests waiting to be processed.", labels)
        self.kv = Gauges("vllm:kv_cache_usage_perc", "KV-cache usage. 1 means 100 percent usage.", labels)

    def show(self, load: Load) -> None:
        """Show the load."""
        self.running.set(load.running)
        self.waiting.set(load.waiting)
        self.kv.set(load.kv_share)


class TrtllmGauges:
    """The gauges of the TensorRT-LLM backend's batch manager."""

    def __init__(self, labels: dict[str, str]) -> None:
        self.requests = Gauges("nv_trt_llm_request_metrics", "TRT LLM request metrics", labels)
        self.blocks = Gauges("nv_trt_llm_kv_cache_block_metrics", "TRT LLM KV cache block metrics", labels)

    def show(self, load: Load) -> None:
        """Show the load."""
        self.requests.set(load.waiting, request_type="waiting")
        self.requests.set(load.running, request_type="scheduled")
        self.requests.set(load.running + load.waiting, request_type="active")
        self.requests.set(load.slots, request_type="max")
        most, used = load.capacity_tokens // BLOCK_TOKENS, -(-load.held_tokens // BLOCK_TOKENS)
        self.blocks.set(load.kv_share, kv_cache_block_type="fraction")
        self.blocks.set(used, kv_cache_block_type="used")
        self.blocks.set(max(0, most - used), kv_cache_block_type="free")
        self.blocks.set(most, kv_cache_block_type="max")
        self.blocks.set(BLOCK_TOKENS, kv_cache_block_type="tokens_per")


class NoGauges:
    """TensorRT-LLM's LLM API model shows none."""

    def show(self, load: Load) -> None:
        """Show nothing."""
