"""What tracing costs: gateways that record nothing, a tenth and all of their requests take turns under one load.

The whole walk in a closed loop, 32 connections. CPU of the gateway's process tree a request, by the operating system;
latencies by the load generator. Every start has gateways of its own, as one start differs from the next by more than
a turn from the next; the order within a round is drawn. The gateways run on the Python that runs this, which needs the
extra `postern[otel]`.

    python -m loadtests.tracing                           3 starts of 6 rounds
    python -m loadtests.tracing --starts 1 --rounds 2 --seconds 2
"""

import argparse
import json
import random
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from loadtests import machine, processes, pythons, report, wrk
from loadtests.bodies import Door, compose
from loadtests.counting import cpu_s, tree
from loadtests.processes import Stage, free_port
from loadtests.scenarios import SCENARIOS
from loadtests.subjects import FEATURES, Upstreams, settings_of, start_collector, start_upstreams
from loadtests.turns import NUMBERS_A_TURN

KEYS = ["pk-postern-bench-000000"]
PLAN = SCENARIOS["saturation"].plan


class Way(NamedTuple):
    """One way of tracing. `ratio`: None for off."""

    title: str
    ratio: float | None


WAYS = (
    Way("off", None),
    Way("on, nothing recorded", 0.0),
    Way("on, a tenth recorded", 0.1),
    Way("on, all recorded", 1.0),
)


class Turn(NamedTuple):
    """What one turn measured."""

    cpu_us: float
    p50_us: float
    p99_us: float


class Gateway(NamedTuple):
    """One gateway that runs."""

    process: subprocess.Popen[bytes]
    port: int


def start(stage: Stage, upstreams: Upstreams, way: Way, collector: int) -> Gateway:
    """Start a gateway that traces in one way."""
    settings = settings_of(FEATURES["postern-whole"], KEYS, upstreams)
    if way.ratio is not None:
        settings["tracing"] = {"endpoint": f"http://127.0.0.1:{collector}/v1/traces", "sample_ratio": way.ratio}
    port = free_port()
    config = stage.folder / f"gateway-{port}.yaml"
    config.write_text(json.dumps(settings))
    command = [sys.executable, "-m", "gateway", "serve", "--config", str(config), "--port", str(port)]
    return Gateway(stage.start([*command, "--admin-port", "0"], port, stage.subject_core, pythons.CHECKOUT), port)


def turn(stage: Stage, gateway: Gateway, number: int, seconds: float) -> Turn:
    """Load one gateway."""
    script = stage.folder / "turn.lua"
    requests = compose(PLAN, Door(gateway.port, ("auto",), keys=tuple(KEYS)))
    wrk.write_script(script, requests, start=number * NUMBERS_A_TURN, is_same=False)
    command = processes.pinned(wrk.command(script, gateway.port, seconds), stage.load_core)
    before_s = cpu_s(tree(gateway.process.pid))
    tally = wrk.read(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    spent_s = cpu_s(tree(gateway.process.pid)) - before_s
    if tally.failed:
        raise RuntimeError(f"{tally.failed} of {tally.requests} requests failed")
    return Turn(spent_s / tally.requests * 1e6, tally.p50_us, tally.p99_us)


def measure_start(rounds: int, seconds: float) -> list[list[Turn]]:
    """Start every gateway, and let them take turns; return each round's turns in the order of WAYS."""
    core, load_core = processes.cores()
    found = []
    with tempfile.TemporaryDirectory(prefix="postern-tracing-") as name, Stage(Path(name), core, load_core) as stage:
        upstreams, collector = start_upstreams(stage), start_collector(stage)
        gateways = [start(stage, upstreams, way, collector) for way in WAYS]
        number = 0
        for each in range(rounds + 1):
            turns: dict[int, Turn] = {}
            for place in random.sample(range(len(WAYS)), len(WAYS)):
                number += 1
                turns[place] = turn(stage, gateways[place], number, seconds)
            if each:  # the first round warms up
                found.append([turns[place] for place in range(len(WAYS))])
    return found


def told(rounds: list[list[Turn]]) -> str:
    """Return the table: medians, and the median of what each round's turn took more than its turn with tracing off."""
    rows = []
    for place, way in enumerate(WAYS):
        turns = [one[place] for one in rounds]
        more = [one[place].cpu_us - one[0].cpu_us for one in rounds]
        cut = statistics.quantiles(more, n=4) if len(more) > 1 else [more[0]] * 3
        rows.append(
            [
                way.title,
                *(report.number(statistics.median(values)) for values in zip(*turns, strict=True)),
                f"{statistics.median(more):+.1f} ({cut[0]:+.1f} to {cut[2]:+.1f})" if place else "",
            ]
        )
    heads = ["tracing", "CPU µs a request", "p50 µs", "p99 µs", "CPU µs more than off (quartiles)"]
    return report.table(heads, rows)


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        prog="python -m loadtests.tracing", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--starts", type=int, default=3, help="how often all gateways are started anew (default 3)")
    parser.add_argument("--rounds", type=int, default=6, help="rounds a start, one more to warm up (default 6)")
    parser.add_argument("--seconds", type=float, default=4.0, help="length of a turn (default 4)")
    options = parser.parse_args()
    if lacking := processes.missing():
        print(f"apt-get install {' '.join(lacking)}")
        return 2
    rounds = [one for _ in range(options.starts) for one in measure_start(options.rounds, options.seconds)]
    print(told(rounds))
    print(f"{len(rounds)} rounds of {options.starts} starts; {machine.describe()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
