"""What the account of one request costs, part by part: finished requests of every kind, recorded by the real parts.

No server, no upstream: CPU of this thread alone in µs, the median of five rounds of 2,000 requests. Trees take
turns, each in processes of its own; rows of the log go to a file, as an operator's would.

    python -m loadtests.account                           this tree
    python -m loadtests.account ../postern-0.4 --rounds 5   beside another, e.g. a worktree of the last release
"""

import argparse
import asyncio
import gc
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from gateway.accounting.feedback import AnswerMemory
from gateway.accounting.price import bill_of
from gateway.accounting.usage import UsageTap, usage_of_body
from gateway.classify.shadow import Shadows
from gateway.core.clock import Stage, Stopwatch
from gateway.core.context import (
    Bill,
    CacheOutcome,
    Caller,
    Candidate,
    Charge,
    Decision,
    Phase,
    Reason,
    RequestContext,
    Usage,
    Verdict,
)
from gateway.core.errors import UpstreamUnavailableError
from gateway.core.judgement import Distribution, Judgement, Reference
from gateway.record import AnswerRecord, Record, Recorder, RouterRecord
from gateway.routing.routes import build_routes
from gateway.schema.request import Operation, decode_request
from gateway.schema.sse import event_of
from gateway.settings.feedback import FeedbackSettings
from gateway.settings.logs import LogFormat, LogsSettings
from gateway.settings.models import BackendKind, EnergySettings, ModelSettings, PriceSettings
from gateway.settings.root import Settings
from gateway.settings.routes import PolicySettings, RouteSettings
from gateway.stores.memory import MemoryStore
from gateway.telemetry.access_log import log_request
from gateway.telemetry.logs import set_up_logs
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.router_watch import RouterMetrics, RouterWatch

REQUESTS = 2_000
ROUNDS = 5
SETTLE_S = 0.1
"""How long what gathers (log rows, answers to be marked) takes to be written; its CPU counts."""

KIND = BackendKind.SIMULATED
MODELS = {
    "small": ModelSettings(KIND, price=PriceSettings(0.05, 0.1), energy=EnergySettings(0.02, 0.2)),
    "large": ModelSettings(KIND, price=PriceSettings(1.0, 3.0)),
}
TABLE = build_routes(Settings(models=MODELS, routes={"auto": RouteSettings(("small", "large"), PolicySettings())}))
MESSAGES = [{"role": "user", "content": "Hello there " * 160}]
ASKED = decode_request(Operation.CHAT, msgspec.json.encode({"model": "auto", "messages": MESSAGES}))
CHOICE = {"index": 0, "message": {"role": "assistant", "content": "word and " * 140}, "finish_reason": "stop"}
BODY = msgspec.json.encode({"choices": [CHOICE], "usage": {"prompt_tokens": 400, "completion_tokens": 280}})
CHUNK = event_of({"id": "c", "choices": [{"index": 0, "delta": {"content": "word"}, "finish_reason": None}]})
BINS = Distribution(tuple(0.1 * step for step in range(1, 10)), (0.1,) * 10)
SIGNALS = 12
JUDGED = Judgement(0.23, weak_chance=0.6, strong_chance=0.9, signals=tuple(0.1 * step for step in range(SIGNALS)))
CHARGE = Charge("small", Usage(400, 16), 2e-5, 0.01)


def finished(kind: str, number: int) -> RequestContext:
    """Return a request as it is when its walk is over."""
    stopwatch = Stopwatch()
    for stage in Stage:
        stopwatch.lap(stage)
    ctx = RequestContext(Operation.CHAT, f"req-{number:024x}", stopwatch=stopwatch, request=ASKED, phase=Phase.RELAY)
    ctx.caller, ctx.ladder = Caller("team-a", "client:team-a"), TABLE.resolve("auto", Operation.CHAT).ladder
    ctx.router, ctx.judgement, ctx.prompt_tokens = "default", JUDGED, 400
    ctx.decision = Decision("small", Reason.SCORE, 0.5, (Candidate("small"), Candidate("large")))
    ctx.model, ctx.reason, ctx.cache_outcome, ctx.attempts = "small", Reason.SCORE, CacheOutcome.MISS, 1
    ctx.usage, ctx.bill = Usage(400, 280), Bill(4.8e-5, 1.24e-3, 0.06)
    ctx.first_token_s = ctx.last_token_s = 0.25
    if kind == "stream":
        ctx.last_token_s = 2.25
    elif kind == "hit":
        ctx.cache_outcome, ctx.reason, ctx.bill = CacheOutcome.HIT, Reason.CACHE, Bill(0.0, 1.24e-3)
        del stopwatch.durations_s[Stage.CLASSIFY]
    elif kind == "error":
        ctx.model = ctx.usage = ctx.bill = ctx.first_token_s = ctx.last_token_s = None
        ctx.failure = UpstreamUnavailableError("gone", detail="http://10.0.0.1: refused")
    elif kind == "cascade":
        ctx.model, ctx.reason, ctx.charge = "large", Reason.ESCALATED, CHARGE
        ctx.verdict, ctx.bill = Verdict(0.3, has_passed=False, charge=CHARGE), Bill(1.26e-3, 1.24e-3, 0.06, CHARGE)
    return ctx


def parts_of(metrics: Metrics) -> dict[str, Record]:
    """Return the parts of an account, as the gateway puts them together."""
    routers = RouterMetrics(metrics)
    reference = Reference(BINS, {f"signal-{number}": BINS for number in range(SIGNALS)})
    watches = {"default": RouterWatch("default", "v1", reference, routers)}
    answers = AnswerMemory(MemoryStore(20_000), FeedbackSettings(), lambda: None)
    return {
        "metrics": metrics.record,
        "routers": RouterRecord(TABLE, {}, watches.get, routers, Shadows()).record,
        "feedback": AnswerRecord(answers, watches.get).record,
        "log": log_request,
    }


async def measure() -> dict[str, float]:
    """Return µs a request by kind and part, and of what else the account is made of."""
    set_up_logs(LogsSettings(format=LogFormat.JSON))
    metrics = Metrics()
    metrics.know({"auto", *MODELS})
    parts = parts_of(metrics)
    recorder = Recorder(parts, lambda _: None)
    found = {}
    for kind in ("miss", "hit", "stream", "error", "cascade"):
        contexts = [finished(kind, number) for number in range(REQUESTS)]
        for name, record in {**parts, "all": lambda ctx: recorder.record((ctx,))}.items():
            found[f"{kind}: {name}"] = await _median_us(record, contexts)
    ctx, usage = finished("miss", 0), Usage(400, 280)
    tap = UsageTap(is_wanted=False, cost_of=lambda _: 0.0)
    found["usage of a body"] = await _median_us(lambda _: usage_of_body(BODY, 400), [None] * REQUESTS)
    found["bill"] = await _median_us(lambda _: bill_of(ctx, usage, MODELS, pays=True), [None] * REQUESTS)
    found["chunk of a stream"] = await _median_us(tap.pass_on, [CHUNK] * REQUESTS)
    return found


async def _median_us(do: Callable[..., object], each: Sequence[object]) -> float:
    taken_s = []
    for _ in range(ROUNDS):
        gc.collect()
        began_s = time.thread_time()
        for one in each:
            do(one)
        await asyncio.sleep(SETTLE_S)
        taken_s.append(time.thread_time() - began_s)
    return statistics.median(taken_s) / len(each) * 1e6


def run(tree: str) -> dict[str, float]:
    """Measure a source tree in a process of its own."""
    environ = {**os.environ, "PYTHONPATH": tree}
    with tempfile.TemporaryFile() as log:
        done = subprocess.run(
            [sys.executable, __file__, "-"], env=environ, stdout=subprocess.PIPE, stderr=log, check=True
        )
    return msgspec.json.decode(done.stdout, type=dict[str, float])


def compare(trees: list[str], rounds: int) -> None:
    """Print each part's median over the rounds, a column a tree."""
    found: dict[str, list[dict[str, float]]] = {tree: [] for tree in trees}
    for number in range(rounds):
        for tree in trees if number % 2 == 0 else trees[::-1]:
            found[tree].append(run(tree))
    for part in found[trees[0]][0]:
        medians = [statistics.median(one[part] for one in found[tree]) for tree in trees]
        print(f"{part:20}", *(f"{median:8.2f}" for median in medians))


def main() -> None:
    """Read the command line, measure and print."""
    parser = argparse.ArgumentParser(
        prog="python -m loadtests.account", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("other", nargs="?", help="a source tree to take turns with")
    parser.add_argument("--rounds", type=int, default=1, help="turns of each tree (default 1)")
    options = parser.parse_args()
    trees = [str(Path(__file__).parent.parent), *([options.other] if options.other else [])]
    for tree in trees:
        if not (Path(tree) / "gateway" / "pipeline.py").is_file():
            parser.error(f"{tree} is no source tree of Postern")
    compare(trees, options.rounds)


if __name__ == "__main__":
    if sys.argv[1:] == ["-"]:
        sys.stdout.write(msgspec.json.encode(asyncio.run(measure())).decode())
    else:
        main()
