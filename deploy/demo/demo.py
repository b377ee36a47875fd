"""Send the bundled prompts through a gateway on its built-in fleet, and show what was decided and saved.

Run by `make demo`. The models are simulated: prices, paces and answers are made up, the decisions and the gateway's
own time are real.
"""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from time import perf_counter
from typing import Any

import httpx2
import msgspec

HERE = Path(__file__).parent
PROMPTS = HERE / "prompts.jsonl"
CONFIG = HERE.parent / "examples" / "simulated.yaml"
SHOWN_CHARACTERS = 46
START_S = 30.0


class Outcome(msgspec.Struct, frozen=True):
    """What one prompt came to. Times in milliseconds."""

    headers: dict[str, str]
    ttft_ms: float
    cost_usd: float
    overhead_ms: float


@asynccontextmanager
async def gateway() -> AsyncIterator[tuple[str, str]]:
    """Run a gateway; give its data and admin URLs."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gateway", "serve", "--config", str(CONFIG), "--port", "0", "--admin-port", "0"),
        env={name: value for name, value in os.environ.items() if name != "OPENAI_API_KEY"},
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stderr is not None
    drain = None
    try:
        async with asyncio.timeout(START_S):
            started = await read_start(process.stderr)
        drain = asyncio.create_task(process.stderr.read())
        yield started["url"], started["admin_url"]
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        await process.wait()
        if drain is not None:
            await drain


async def read_start(stderr: asyncio.StreamReader) -> dict[str, str]:
    """Return the event that tells where the gateway listens."""
    lines = []
    async for line in stderr:
        lines.append(line.decode())
        event = json.loads(line) if line.startswith(b"{") else {}
        if event.get("event") == "serving":
            return event
    raise SystemExit("the gateway did not start:\n" + "".join(lines))


async def ask(client: httpx2.AsyncClient, url: str, messages: list[dict[str, Any]]) -> Outcome:
    """Ask one prompt, streamed."""
    body = {"model": "auto", "messages": messages, "stream": True, "stream_options": {"include_usage": True}}
    started_s, ttft_ms, cost_usd = perf_counter(), 0.0, 0.0
    async with client.stream("POST", f"{url}/chat/completions", json=body) as response:
        response.raise_for_status()
        async for line in response.aiter_lines():
            ttft_ms = ttft_ms or (perf_counter() - started_s) * 1000
            if '"usage"' in line:
                cost_usd = json.loads(line.removeprefix("data: "))["usage"]["cost_usd"]
    headers = dict(response.headers)
    return Outcome(headers, ttft_ms, cost_usd, overhead_ms(headers["server-timing"]))


def overhead_ms(server_timing: str) -> float:
    """Return the gateway's own time."""
    parts = dict(part.strip().split(";dur=") for part in server_timing.split(","))
    return float(parts["gateway"])


async def counter(client: httpx2.AsyncClient, admin_url: str, name: str) -> float:
    """Return a counter's sum over its labels, as Prometheus would scrape it."""
    text = (await client.get(f"{admin_url}/metrics")).text
    return sum(float(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith(name + "{"))


def describe(row: dict[str, Any], outcome: Outcome) -> str:
    """Return the line of one prompt."""
    text = " ".join(row["messages"][-1]["content"].split())
    text = text if len(text) <= SHOWN_CHARACTERS else text[: SHOWN_CHARACTERS - 3] + "..."
    headers = outcome.headers
    return (
        f"{row['language']:2} {row['difficulty']:7} {text:{SHOWN_CHARACTERS}} {float(headers['x-postern-score']):.2f}  "
        f"{headers['x-postern-tier']:6} {headers['x-postern-model']:15} "
        f"{outcome.ttft_ms:6.0f} ms  ${outcome.cost_usd:.6f}"
    )


def percentile(values: list[float], share: float) -> float:
    """Return the value below which `share` of the values lie."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


async def main() -> None:
    """Run the demo."""
    rows = [json.loads(line) for line in PROMPTS.read_text(encoding="utf-8").splitlines()]
    async with gateway() as (url, admin_url), httpx2.AsyncClient(timeout=60, trust_env=False) as client:
        print(f"Postern at {url}, model `auto`; the fleet is simulated, the decisions are real.\n")
        print(f"{'':2} {'':7} {'prompt':{SHOWN_CHARACTERS}} score tier   model               TTFT  cost")
        outcomes = []
        for row in rows:
            outcomes.append(await ask(client, url, row["messages"]))
            print(describe(row, outcomes[-1]), flush=True)
        baseline_usd = await counter(client, admin_url, "postern_baseline_cost_usd_total")
    tell_totals(outcomes, baseline_usd)


def tell_totals(outcomes: list[Outcome], baseline_usd: float) -> None:
    """Print the totals."""
    weak = sum(outcome.headers["x-postern-tier"] == "weak" for outcome in outcomes)
    cost_usd = sum(outcome.cost_usd for outcome in outcomes)
    overheads_ms = [outcome.overhead_ms for outcome in outcomes]
    saved_usd = baseline_usd - cost_usd
    print(
        f"\n{len(outcomes)} prompts, {weak} ({weak / len(outcomes):.0%}) answered by the weak model\n"
        f"cost                                 ${cost_usd:.6f}\n"
        f"cost had the strong model served all ${baseline_usd:.6f}\n"
        f"saved                                ${saved_usd:.6f} ({saved_usd / baseline_usd:.0%})\n"
        f"gateway overhead                     p50 {percentile(overheads_ms, 0.5):.2f} ms, "
        f"p99 {percentile(overheads_ms, 0.99):.2f} ms"
    )


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except KeyboardInterrupt:
        sys.exit(130)
