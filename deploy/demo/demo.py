"""Send the bundled prompts through a gateway, and show what was decided and saved.

Run by `make demo` on the built-in fleet. Its models are simulated: prices, paces and answers are made up, the decisions
and the gateway's own time are real. `--config FILE` sends them through the route `auto` of a fleet of your own.
"""

import argparse
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
SIMULATED = HERE.parent / "examples" / "simulated.yaml"
SHOWN_CHARACTERS = 46
START_S = 30.0


class Outcome(msgspec.Struct, frozen=True):
    """What one prompt came to. Times in milliseconds."""

    headers: dict[str, str]
    ttft_ms: float
    cost_usd: float
    overhead_ms: float
    text: str


@asynccontextmanager
async def gateway(config: Path) -> AsyncIterator[tuple[str, str]]:
    """Run a gateway; give its data and admin URLs."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gateway", "serve", "--config", str(config), "--port", "0", "--admin-port", "0"),
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
    started_s, ttft_ms, cost_usd, text = perf_counter(), 0.0, 0.0, ""
    async with client.stream("POST", f"{url}/chat/completions", json=body) as response:
        response.raise_for_status()
        async for line in response.aiter_lines():
            ttft_ms = ttft_ms or (perf_counter() - started_s) * 1000
            if not line.startswith("data: {"):
                continue
            chunk = json.loads(line.removeprefix("data: "))
            if "error" in chunk:
                raise SystemExit(f"the answer broke off: {chunk['error']['message']}")
            text += "".join(choice["delta"].get("content") or "" for choice in chunk["choices"])
            cost_usd = (chunk.get("usage") or {}).get("cost_usd", cost_usd)
    headers = dict(response.headers)
    return Outcome(headers, ttft_ms, cost_usd, overhead_ms(headers["server-timing"]), text)


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


async def run(config: Path, fleet: str) -> list[Outcome]:
    """Run the demo on a configuration; `fleet` says in words what it holds."""
    rows = [json.loads(line) for line in PROMPTS.read_text(encoding="utf-8").splitlines()]
    async with gateway(config) as (url, admin_url), httpx2.AsyncClient(timeout=60, trust_env=False) as client:
        print(f"Postern at {url}, model `auto`; {fleet}.\n")
        print(f"{'':2} {'':7} {'prompt':{SHOWN_CHARACTERS}} score tier   model               TTFT  cost")
        outcomes = []
        for row in rows:
            outcomes.append(await ask(client, url, row["messages"]))
            print(describe(row, outcomes[-1]), flush=True)
        baseline_usd = await counter(client, admin_url, "postern_baseline_cost_usd_total")
    tell_totals(outcomes, baseline_usd)
    return outcomes


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
        f"saved                                ${saved_usd:.6f} ({share_of(saved_usd, baseline_usd):.0%})\n"
        f"gateway overhead                     p50 {percentile(overheads_ms, 0.5):.2f} ms, "
        f"p99 {percentile(overheads_ms, 0.99):.2f} ms"
    )


def share_of(part: float, whole: float) -> float:
    """Return a share; 0 of nothing, where no model has a price."""
    return part / whole if whole else 0.0


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__.partition("\n")[0],
        epilog="examples: demo.py | demo.py --config postern.yaml",
    )
    parser.add_argument(
        "--config", type=Path, metavar="FILE", help="a configuration with a route `auto`; default: simulated models"
    )
    return parser.parse_args()


def main() -> None:
    """Run the demo on the configuration named, or on the built-in fleet."""
    config = arguments().config
    fleet = "the fleet is simulated, the decisions are real" if config is None else f"the fleet of {config}"
    asyncio.run(run(config or SIMULATED, fleet))


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
