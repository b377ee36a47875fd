"""Everything at once: a gateway with all that can be watched of it, under traffic of every kind, and a real Prometheus.

Real are the gateway, Redis, Triton (with its mocked models) and Prometheus. Made up are the other model servers, which
speak OpenAI's protocol, their vLLM pages, counted from what they served, and the page of a GPU: there is none here.
"""

import asyncio
import contextlib
import hashlib
import json
import math
import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import onnx
from onnx import numpy_helper

from tests.faults.wire import Response, Wire, call, post, scrape
from tests.integration.redis_server import RedisServer
from tests.prometheus import Prometheus
from tests.routers import copy_router
from tests.running import RunningGateway
from tests.triton_server import TritonServer
from tests.upstream import Answer, Error, Received, Upstream

ROOT = Path(__file__).parents[1]
RULES = sorted((ROOT / "helm" / "postern" / "files" / "rules").glob("*.yaml"))
PROMPTS = [
    json.loads(line)["messages"]
    for line in (ROOT / "deploy" / "demo" / "prompts.jsonl").read_text("utf-8").splitlines()
]
TEAMS = {"alice": "search", "bob": "support", "carol": "research"}
KEYS = {name: f"sk-{name}" for name in TEAMS}
TEMPLATE = "{% for one in messages %}{{ one.content }}\n{% endfor %}"
ASIDES = (
    *("Thanks!", "Please.", "No rush.", "I need it today.", "It is for a friend.", "Keep it simple.", "Be precise."),
    *("I am new to this.", "Two lines will do.", "Tell me why, too.", "An example would help.", "In plain words."),
    *("We talk about it tomorrow.", "My colleague disagrees.", "I have tried already.", "It must be right."),
)
"""What people add: it makes prompts differ, and no harder."""
TTFT_BOUNDS = (0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)


class Speaker:
    """A model server: what it says and how long it thinks comes from the prompt: the same again."""

    def __init__(self, ttft_s: float, gap_s: float, words: int) -> None:
        self._ttft_s, self._gap_s, self._words = ttft_s, gap_s, words
        self.durations_s: list[float] = []
        self.running = 0
        self.failing = 0.0
        self.slower = 1.0
        self._dice = random.Random(7)

    async def __call__(self, request: Received, writer: asyncio.StreamWriter) -> None:
        if self._dice.random() < self.failing:
            await Error(503)(request, writer)
            return
        asked = request.json
        seed = hashlib.sha256(json.dumps(asked["messages"]).encode()).digest()
        doubt = -0.02 - 4 * (seed[1] / 255) ** 3
        answer = Answer(
            text=" ".join(["word"] * (self._words // 2 + seed[0] % self._words)),
            prompt_tokens=sum(len(str(turn["content"])) for turn in asked["messages"]) // 4 + 4,
            ttft_s=self.slower * self._ttft_s * (0.5 + seed[2] / 255),
            gap_s=self.slower * self._gap_s,
            logprobs=[-0.05, -0.1, doubt, doubt, doubt, -0.05],
        )
        began_s = time.monotonic()
        self.running += 1
        try:
            await answer(request, writer)
        finally:
            self.running -= 1
            self.durations_s.append(time.monotonic() - began_s)

    def vllm_page(self) -> str:
        """Tell as vLLM does what was served here; what an engine alone knows (its KV cache) is made up of that."""
        count, labels = len(self.durations_s), 'engine="0",model_name="phi-4-mini"'
        lines = [
            f"vllm:num_requests_running{{{labels}}} {self.running}",
            f"vllm:num_requests_waiting{{{labels}}} {max(0, self.running - 8)}",
            f"vllm:kv_cache_usage_perc{{{labels}}} {min(1.0, self.running / 16):.3f}",
            f"vllm:num_preemptions_total{{{labels}}} {count // 200}",
            f"vllm:prompt_tokens_total{{{labels}}} {count * 60}",
            f"vllm:generation_tokens_total{{{labels}}} {count * self._words}",
            f"vllm:prefix_cache_queries_total{{{labels}}} {count * 60}",
            f"vllm:prefix_cache_hits_total{{{labels}}} {count * 21}",
        ]
        for name, scale in (("e2e_request_latency_seconds", 1.0), ("time_to_first_token_seconds", 0.4)):
            for bound in (*TTFT_BOUNDS, math.inf):
                below = sum(scale * one <= bound for one in self.durations_s)
                le = "+Inf" if bound == math.inf else f"{bound:g}"
                lines.append(f'vllm:{name}_bucket{{{labels},le="{le}"}} {below}')
            lines.append(f"vllm:{name}_count{{{labels}}} {count}")
            lines.append(f"vllm:{name}_sum{{{labels}}} {scale * sum(self.durations_s):.3f}")
        return "\n".join(lines) + "\n"


GPU_PAGE = """\
nv_gpu_utilization{gpu_uuid="GPU-5f1b"} 0.82
nv_gpu_memory_total_bytes{gpu_uuid="GPU-5f1b"} 85899345920
nv_gpu_memory_used_bytes{gpu_uuid="GPU-5f1b"} 77309411328
nv_gpu_power_usage{gpu_uuid="GPU-5f1b"} 412.5
DCGM_FI_DEV_GPU_UTIL{gpu="0",UUID="GPU-5f1b",modelName="NVIDIA H100 80GB HBM3"} 82
DCGM_FI_DEV_FB_USED{gpu="0",UUID="GPU-5f1b",modelName="NVIDIA H100 80GB HBM3"} 73728
DCGM_FI_DEV_POWER_USAGE{gpu="0",UUID="GPU-5f1b",modelName="NVIDIA H100 80GB HBM3"} 412.5
"""
"""Written down by hand in the form of Triton's page and of the DCGM exporter's: no GPU stands behind it."""


@asynccontextmanager
async def pages(texts: dict[str, Callable[[], str]]) -> AsyncIterator[str]:
    """Serve texts by path; give the address."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, EOFError):
            path = (await reader.readuntil(b"\r\n\r\n")).split(b" ", 2)[1].decode()
            body = texts[path]().encode()
            head = (
                f"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: {len(body)}\r\nconnection: close\r\n"
            )
            writer.write(f"{head}\r\n".encode() + body)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


@dataclass
class World:
    """What runs. `speakers`: the made-up servers by name, to make one fail or slow."""

    gateway: RunningGateway
    prometheus: Prometheus
    redis: RedisServer
    speakers: dict[str, Speaker]
    config: dict[str, Any]
    began_s: float = field(default_factory=time.time)


@asynccontextmanager
async def world(folder: Path, triton: TritonServer, scrape_s: int = 1) -> AsyncIterator[World]:
    """Start everything, and stop it again."""
    async with AsyncExitStack() as stack:
        redis = stack.enter_context(RedisServer(folder))
        speakers = {
            "phi-a": Speaker(0.03, 0.004, 16),
            "phi-b": Speaker(0.03, 0.004, 16),
            "qwen": Speaker(0.06, 0.008, 20),
            "gpt": Speaker(0.12, 0.012, 24),
            "flaky": Speaker(0.03, 0.004, 12),
        }
        speakers["flaky"].failing = 0.5
        urls = {}
        for name, speaker in speakers.items():
            upstream = await stack.enter_async_context(Upstream())
            upstream.script(speaker)
            urls[name] = upstream.url
        texts = {f"/{name}/metrics": speakers[name].vllm_page for name in ("phi-a", "phi-b")}
        page = await stack.enter_async_context(pages({**texts, "/gpu/metrics": lambda: GPU_PAGE}))
        config = configuration(folder, urls, page, triton, redis)
        gateway = await stack.enter_async_context(RunningGateway(config, folder))
        jobs = {
            "postern": [f"{gateway.admin_url}/metrics"],
            "triton": [triton.metrics_url],
            "vllm-a": [f"{page}/phi-a/metrics"],
            "vllm-b": [f"{page}/phi-b/metrics"],
            "gpu": [f"{page}/gpu/metrics"],
        }
        prometheus = Prometheus(folder, jobs, RULES, scrape_s=scrape_s)
        await asyncio.to_thread(prometheus.__enter__)
        stack.callback(prometheus.__exit__)
        yield World(gateway, prometheus, redis, speakers, config)


def configuration(
    folder: Path, urls: dict[str, str], page: str, triton: TritonServer, redis: RedisServer
) -> dict[str, Any]:
    """Write a configuration with everything in it that can be watched."""
    (folder / "chat.jinja").write_text(TEMPLATE)
    shadow = harsher_router(folder / "next")
    on_triton = {
        "backend": "triton",
        "urls": [triton.grpc_url],
        "chat_template": "./chat.jinja",
        "context_tokens": 32_000,
        "watch": {"interval_s": 1, "metrics_urls": [triton.metrics_url]},
    }
    models = {
        "phi-4-mini": {
            **openai(urls["phi-a"], urls["phi-b"], price=(0.05, 0.10), energy=(0.02, 0.2)),
            "watch": {"interval_s": 1, "metrics_urls": [f"{page}/phi-a/metrics", f"{page}/phi-b/metrics"]},
        },
        "qwen-32b": openai(urls["qwen"], price=(0.20, 0.60), energy=(0.08, 0.9)),
        "gpt-5": openai(urls["gpt"], price=(1.25, 10.0), energy=(0.25, 2.5)),
        "flaky-7b": openai(urls["flaky"], price=(0.05, 0.15), energy=(0.02, 0.3)),
        "mistral-vllm": {
            **on_triton,
            "triton": {"dialect": "vllm", "model": triton.models["vllm"]},
            "price": {"input": 0.1, "output": 0.3},
        },
        "llama-trtllm": {
            **on_triton,
            "triton": {"dialect": "trtllm", "model": triton.models["trtllm"]},
            "price": {"input": 0.6, "output": 1.2},
        },
    }
    two = ["phi-4-mini", "gpt-5"]
    routes = {
        "auto": {
            "models": two,
            "policy": {"threshold": 0.3, "routers": {str(shadow): {"shadow": True}}},
            "fallback": [*reversed(two)],
        },
        "held": {"models": ["phi-4-mini", "qwen-32b", "gpt-5"], "policy": {"strong_share": 0.3}},
        "careful": {
            "models": two,
            "policy": {"kind": ["complexity", "cascade"], "threshold": 0.6, "cascade": {"tokens": 8, "quantile": 0.3}},
        },
        "shaky": {"models": ["flaky-7b", "gpt-5"], "policy": {"threshold": 0.9}, "fallback": ["gpt-5"]},
        "on-triton": {"models": ["mistral-vllm", "llama-trtllm"]},
        "strong-only": {"models": two, "policy": {"threshold": 0}},
        "weak-only": {"models": two, "policy": {"threshold": 1}},
    }
    clients = {
        name: {"sha256": hashlib.sha256(key.encode()).hexdigest(), "team": TEAMS[name]} for name, key in KEYS.items()
    }
    return {
        "redis": {"url": redis.url},
        "models": models,
        "routes": routes,
        "cache": {"exact": {"ttl_s": 60}},
        "learning_log": {"path": str(folder / "learning.jsonl")},
        "keys": {"required": True, "clients": clients},
        "limits": {"max_in_flight": 25},
    }


def harsher_router(folder: Path) -> Path:
    """Write a router that finds everything a little harder than the one that ships."""
    copy_router(folder)
    model = onnx.load(folder / "model.onnx")
    (offset,) = [one for one in model.graph.initializer if one.name == "offset"]
    values = numpy_helper.to_array(offset).copy()
    values[0] += 0.15
    offset.CopyFrom(numpy_helper.from_array(values, "offset"))
    onnx.save(model, folder / "model.onnx")
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["sha256"] = hashlib.sha256((folder / "model.onnx").read_bytes()).hexdigest()
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def openai(*urls: str, price: tuple[float, float], energy: tuple[float, float]) -> dict[str, Any]:
    """Describe a model on servers that speak OpenAI's protocol."""
    return {
        "backend": "openai",
        "urls": list(urls),
        "price": {"input": price[0], "output": price[1]},
        "energy": {"input": energy[0], "output": energy[1]},
        "context_tokens": 32_000,
        "capabilities": ["tools", "json_schema", "logprobs"],
    }


class Traffic:
    """Clients of every kind."""

    def __init__(self, world: World, seed: int = 1) -> None:
        self._world = world
        self._dice = random.Random(seed)
        self._answers: list[Any] = []
        self.sent = 0
        self.hard = 0.5
        """The share of the prompts from the harder half of the demo's."""
        self._kinds: dict[Callable[[], Any], float] = {
            self._chat: 50,
            self._stream: 40,
            self._leave: 3,
            self._pin: 3,
            self._ask_unknown: 2,
            self._ask_without_key: 1,
            self._send_nonsense: 1,
        }

    async def one(self) -> None:
        """Let one client, of any kind, do what it does."""
        self.sent += 1
        (kind,) = self._dice.choices([*self._kinds], [*self._kinds.values()])
        await kind()

    async def burst(self, count: int) -> None:
        """Ask so often at once."""
        await asyncio.gather(*(self._chat() for _ in range(count)))

    async def clients(self, count: int, until: Callable[[], bool], pause_s: float = 0.0) -> None:
        """Keep so many clients busy."""

        async def run() -> None:
            while not until():
                await self.one()
                await asyncio.sleep(pause_s)

        await asyncio.gather(*(run() for _ in range(count)))

    def _body(self, route: str | None = None, **fields: Any) -> bytes:
        half = len(PROMPTS) // 2
        place = self._dice.randrange(half) + (half if self._dice.random() < self.hard else 0)
        turns = [dict(turn) for turn in BY_LENGTH[place]]
        if self._dice.random() < 0.85:  # the others are asked again and again: the cache's part
            turns[-1]["content"] += " ".join(["", *self._dice.sample(ASIDES, self._dice.randint(1, 3))])
        routes = ("auto", "held", "careful", "shaky", "on-triton", "strong-only", "weak-only")
        model = route or self._dice.choices(routes, (53, 20, 10, 5, 10, 1, 1))[0]
        return json.dumps({"model": model, "messages": turns, **fields}, ensure_ascii=False).encode()

    def _key(self) -> dict[str, str]:
        name = self._dice.choices([*KEYS], (60, 30, 10))[0]
        return {"authorization": f"Bearer {KEYS[name]}"}

    async def _ask(self, body: bytes, **headers: str) -> Response:
        return await call(self._world.gateway.url, body, **headers)

    async def _chat(self) -> None:
        await self._ask_and_mark(self._body())

    async def _ask_and_mark(self, body: bytes) -> None:
        key = self._key()
        answer = await self._ask(body, **key)
        if answer.status == 200 and self._dice.random() < 0.8:
            await self._mark(answer.headers, key)

    async def _mark(self, headers: dict[str, str], key: dict[str, str]) -> None:
        """Say whether the answer was good: of a strong model nearly always, of a weak one as the prompt is hard."""
        score = float(headers.get("x-postern-score", 0.2))
        chance = 0.72 if headers["x-postern-tier"] == "strong" else 0.7 - 0.3 * score
        body = json.dumps({"request_id": headers["x-request-id"], "good": self._dice.random() < chance}).encode()
        await call(self._world.gateway.url, body, path="/v1/feedback", **key)

    async def _stream(self) -> None:
        await self._ask_and_mark(self._body(stream=True, stream_options={"include_usage": True}))

    async def _leave(self) -> None:
        async with await Wire.connect(self._world.gateway.url) as wire:
            await wire.send(post(self._body("auto", stream=True), **self._key(), cache_control="no-cache"))
            await asyncio.sleep(self._dice.uniform(0.01, 0.15))
            wire.leave()

    async def _pin(self) -> None:
        await self._ask(self._body("gpt-5"), **self._key())

    async def _ask_unknown(self) -> None:
        await self._ask(self._body("gpt-17"), **self._key())

    async def _ask_without_key(self) -> None:
        await self._ask(self._body(), authorization="Bearer sk-nobody")

    async def _send_nonsense(self) -> None:
        await self._ask(b'{"model": "auto", "messages": [', **self._key())


BY_LENGTH = sorted(PROMPTS, key=lambda turns: sum(len(turn["content"]) for turn in turns))


async def is_calibrated(world: World) -> bool:
    """Tell whether both tiers have been marked often enough for the gateway to tell of them."""
    metrics = await scrape(world.gateway.admin_url)
    return {"weak", "strong"} <= metrics.by("tier", "postern_calibration_error").keys()
