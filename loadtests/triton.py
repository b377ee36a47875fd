"""What Postern adds to bare Triton: time to the first token and time a token, gRPC and HTTP, paired.

Each turn sends the same prompt to the same model by every way, in shuffled order: bare Triton by gRPC and by HTTP, and
through Postern by either. What is printed are medians of paired differences, with their 10th and 90th percentile. Two
paces: tokens that come slowly (what a user sees), and as fast as the server can (what the gateway's work costs).
"""

import argparse
import asyncio
import contextlib
import json
import random
import statistics
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

import httpx2
import msgspec
import numpy as np
import tritonclient.grpc.aio as triton_grpc

from deploy.demo.demo import gateway
from deploy.triton.serve_cpu import DIALECTS, CpuTriton, NotInstalledError, Options, serving

PACES = {"50 tokens, one in 10 ms": (50, 0.01), "200 tokens, unpaced": (200, 0.0)}
TEMPLATE = "{% for message in messages %}{{ message.content }}{% endfor %}"


class Timing(NamedTuple):
    """One answer: milliseconds to its first token, and from token to token after it."""

    first_ms: float
    each_ms: float


Ask = Callable[[str, int], Coroutine[Any, Any, Timing]]


def timing_of(started_s: float, arrivals_s: list[float], tokens: int) -> Timing:
    """Return the timing of an answer. Pieces may hold several tokens, so the mean is over tokens, not pieces."""
    first_s, last_s = arrivals_s[0], arrivals_s[-1]
    return Timing((first_s - started_s) * 1000, (last_s - first_s) * 1000 / (tokens - 1))


class BareGrpc:
    """Triton's own asyncio client, one decoupled request a stream."""

    def __init__(self, url: str, model: str) -> None:
        self._client = triton_grpc.InferenceServerClient(url)
        self._model = model

    async def ask(self, prompt: str, tokens: int) -> Timing:
        """Stream one answer."""
        started_s, arrivals_s = perf_counter(), []
        async for result, error in self._client.stream_infer(self._requests(prompt, tokens)):
            if error is not None:
                raise SystemExit(f"bare Triton failed: {error}")
            if result.as_numpy("text_output") is not None and result.as_numpy("text_output").item():
                arrivals_s.append(perf_counter())
        return timing_of(started_s, arrivals_s, tokens)

    async def _requests(self, prompt: str, tokens: int) -> AsyncIterator[dict[str, Any]]:
        sampling = json.dumps({"max_tokens": tokens})
        inputs = [
            text_input("text_input", prompt),
            text_input("sampling_parameters", sampling),
            flag_input("stream", is_set=True),
            flag_input("exclude_input_in_output", is_set=True),
        ]
        yield {"model_name": self._model, "inputs": inputs}

    async def close(self) -> None:
        """Close the channel."""
        await self._client.close()


def text_input(name: str, text: str) -> Any:
    """Return a BYTES input of one element."""
    found = triton_grpc.InferInput(name, [1], "BYTES")
    found.set_data_from_numpy(np.array([text.encode()], dtype=np.object_))
    return found


def flag_input(name: str, *, is_set: bool) -> Any:
    """Return a BOOL input of one element."""
    found = triton_grpc.InferInput(name, [1], "BOOL")
    found.set_data_from_numpy(np.array([is_set]))
    return found


async def ask_bare_http(client: httpx2.AsyncClient, url: str, prompt: str, tokens: int) -> Timing:
    """Stream one answer of `generate_stream`."""
    body = {"text_input": prompt, "stream": True, "exclude_input_in_output": True}
    body["sampling_parameters"] = json.dumps({"max_tokens": tokens})
    return await ask_events(client, url, body, tokens, lambda event: event["text_output"])


async def ask_postern(client: httpx2.AsyncClient, url: str, model: str, prompt: str, tokens: int) -> Timing:
    """Stream one answer through the gateway."""
    messages = [{"role": "user", "content": prompt}]
    body = {"model": model, "messages": messages, "max_tokens": tokens, "stream": True}

    def text_of(event: dict[str, Any]) -> str:
        return "".join(choice["delta"].get("content") or "" for choice in event["choices"])

    return await ask_events(client, f"{url}/chat/completions", body, tokens, text_of)


async def ask_events(
    client: httpx2.AsyncClient, url: str, body: dict[str, Any], tokens: int, text_of: Callable[[Any], str]
) -> Timing:
    """Time the events that hold text."""
    started_s, arrivals_s = perf_counter(), []
    async with client.stream("POST", url, json=body) as response:
        if response.status_code != 200:
            raise SystemExit(f"{url}: {(await response.aread()).decode()}")
        async for line in response.aiter_lines():
            if line.startswith("data: {") and text_of(msgspec.json.decode(line[6:])):
                arrivals_s.append(perf_counter())  # noqa: PERF401 - the moment counts, not the list
    return timing_of(started_s, arrivals_s, tokens)


def write_config(folder: Path, triton: CpuTriton, model: str) -> Path:
    """Write a configuration with the model behind both transports."""
    template = folder / "plain.jinja"
    template.write_text(TEMPLATE, encoding="utf-8")
    common = {
        "backend": "triton",
        "triton": {"dialect": "vllm", "model": model},
        "chat_template": str(template),
        "watch": {"metrics_urls": []},
    }
    urls = {"grpc": f"grpc://127.0.0.1:{triton.grpc_port}", "http": f"http://127.0.0.1:{triton.http_port}"}
    models = {way: {**common, "urls": [url]} for way, url in urls.items()}
    config = folder / "postern.yaml"
    config.write_text(json.dumps({"models": models, "routes": {"auto": {"models": ["grpc"]}}}), encoding="utf-8")
    return config


async def measure(ways: dict[str, Ask], turns: int, tokens: int, gap_s: float) -> dict[str, list[Timing]]:
    """Send `turns` prompts by every way, in an order drawn anew each turn; the first three warm up."""
    timings: dict[str, list[Timing]] = {way: [] for way in ways}
    chance = random.Random(1)
    for turn in range(turns + 3):
        prompt = f"[[tokens={tokens} ttft=0 gap={gap_s}]] turn {turn}"
        for way in chance.sample(list(ways), len(ways)):
            timing = await ways[way](prompt, tokens)
            if turn >= 3:
                timings[way].append(timing)
        show_progress(turn + 1, turns + 3)
    return timings


def show_progress(done: int, whole: int) -> None:
    """Say how far it is, on a terminal."""
    if sys.stderr.isatty():
        print(f"\r{done}/{whole}", end="\n" if done == whole else "", file=sys.stderr, flush=True)


def tell(timings: dict[str, list[Timing]]) -> None:
    """Print each transport's pair."""
    for transport in ("grpc", "http"):
        bare, through = timings[f"bare {transport}"], timings[f"postern {transport}"]
        for what, place in (("first token", 0), ("each token", 1)):
            added_ms = sorted(ours[place] - theirs[place] for ours, theirs in zip(through, bare, strict=True))
            bare_ms = statistics.median(timing[place] for timing in bare)
            low, high = added_ms[len(added_ms) // 10], added_ms[-1 - len(added_ms) // 10]
            median_ms = statistics.median(added_ms)
            print(
                f"  {transport}  {what:12} bare {bare_ms:8.3f} ms   "
                f"Postern adds {median_ms:+7.3f} ms [{low:+.3f}, {high:+.3f}]"
            )


async def main(options: argparse.Namespace) -> None:
    """Start both servers, run every pace, tell."""
    limits = httpx2.Limits(max_connections=4)
    async with contextlib.AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="postern-triton-")))
        model = DIALECTS["vllm"]
        triton = stack.enter_context(serving(Options(models=(model,))))
        config = write_config(folder, triton, model)
        url, _ = await stack.enter_async_context(gateway(config))
        client = await stack.enter_async_context(httpx2.AsyncClient(timeout=60, trust_env=False, limits=limits))
        bare = BareGrpc(f"127.0.0.1:{triton.grpc_port}", model)
        stack.push_async_callback(bare.close)
        stream_url = f"http://127.0.0.1:{triton.http_port}/v2/models/{model}/generate_stream"
        ways: dict[str, Ask] = {
            "bare grpc": bare.ask,
            "bare http": lambda prompt, tokens: ask_bare_http(client, stream_url, prompt, tokens),
            "postern grpc": lambda prompt, tokens: ask_postern(client, url, "grpc", prompt, tokens),
            "postern http": lambda prompt, tokens: ask_postern(client, url, "http", prompt, tokens),
        }
        for pace, (tokens, gap_s) in PACES.items():
            timings = await measure(ways, options.turns, tokens, gap_s)
            print(f"{pace}, {options.turns} turns:")
            tell(timings)


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="example: python -m loadtests.triton --turns 50",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--turns", type=int, default=100, help="prompts sent by each way (default 100)")
    return parser.parse_args()


if __name__ == "__main__":
    try:
        asyncio.run(main(arguments()))
    except NotInstalledError as missing:
        sys.exit(str(missing))
    except KeyboardInterrupt:
        sys.exit(130)
