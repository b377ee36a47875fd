"""Does a request's CPU stay the same while everything else grows? Counted, in shuffled turns, along one axis each.

python -m loadtests.growth [--rounds N] [--seconds S] [--only AXIS] [--save FOLDER]
"""

import argparse
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from loadtests import counting, machine, pythons, wrk
from loadtests.bodies import Door, Plan, compose
from loadtests.figures import Estimate, estimate, ratios
from loadtests.processes import Stage, cores, free_port, missing, pinned
from loadtests.subjects import Features, Upstreams, serve, settings_of, start_redis, start_upstreams

FLAT_BY = 0.15
NUMBERS_A_TURN = 10_000_000
CONNECTIONS_PER_S = 75


class Size(NamedTuple):
    """One point on an axis: a gateway, and how it is asked."""

    title: str
    features: Features = Features("walk", "plain", 1, has_cache=True)
    connections: int = wrk.CONNECTIONS
    entries: int = 0
    """Answers in the in-process cache from the start, and at most; 0: what the configuration's default is."""


class Axis(NamedTuple):
    """What grows."""

    name: str
    title: str
    sizes: tuple[Size, ...]


def _walk(**features: Any) -> Features:
    return Features("walk", **{"route": "plain", "keys": 1, "has_cache": True, **features})


AXES = (
    Axis("in-flight", "requests in flight", tuple(Size(f"{n:,}", connections=n) for n in (10, 100, 500, 2000))),
    Axis("models", "models", tuple(Size(f"{n:,}", _walk(route="small", models=n)) for n in (1, 10, 100))),
    Axis("entries", "answers in the cache", tuple(Size(f"{n:,}", entries=n) for n in (10, 10_000, 1_000_000))),
    Axis("keys", "client keys", tuple(Size(f"{n:,}", _walk(keys=n)) for n in (1, 1000, 100_000))),
    # Two workers are given the load of two: with half of it each, fewer requests share a turn of the loop.
    Axis(
        "workers",
        "workers on one Redis",
        tuple(Size(f"{n}", _walk(redis=True, workers=n), connections=n * wrk.CONNECTIONS) for n in (1, 2)),
    ),
)


class Gateway(NamedTuple):
    """One that runs."""

    size: Size
    process: subprocess.Popen[bytes]
    door: Door


class Turn(NamedTuple):
    """What one turn counted."""

    cpu_us: float
    rate_per_s: float
    rss_mb: float


def main() -> int:
    """Measure every axis and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=5, help="turns of each size (default 5)")
    parser.add_argument("--seconds", type=float, default=3.0, help="length of a turn (default 3)")
    parser.add_argument("--only", choices=[axis.name for axis in AXES], help="one axis")
    parser.add_argument("--save", type=Path, help="folder for growth.md and growth.json")
    options = parser.parse_args()
    if lacking := missing():
        print(f"missing: {' '.join(lacking)}; install them with apt-get install")
        return 2
    found: dict[str, dict[str, list[Turn]]] = {}
    for axis in AXES:
        if options.only in (None, axis.name):
            found[axis.name] = measure(axis, options.rounds, options.seconds)
    text = "\n".join(_report(found))
    print(text)
    if options.save is not None:
        options.save.mkdir(parents=True, exist_ok=True)
        (options.save / "growth.md").write_text(text + "\n", encoding="utf-8")
        (options.save / "growth.json").write_text(json.dumps(found, indent=1), encoding="utf-8")
    return 0 if all(_verdict(axis, found[axis.name]) for axis in AXES if axis.name in found) else 1


def measure(axis: Axis, rounds: int, seconds: float) -> dict[str, list[Turn]]:
    """Start a gateway for each size and give all of them turns, in another order each round."""
    turns: dict[str, list[Turn]] = {size.title: [] for size in axis.sizes}
    with (
        tempfile.TemporaryDirectory(prefix="postern-growth-") as folder,
        Stage(Path(folder), *cores()) as stage,
    ):
        upstreams = start_upstreams(stage)
        gateways = [start(size, stage, upstreams) for size in axis.sizes]
        for number in range(rounds + 1):
            for gateway in random.sample(gateways, len(gateways)):
                turn = run(gateway, stage, number * len(gateways) + gateways.index(gateway), seconds)
                if number:  # the first round only warms up
                    turns[gateway.size.title].append(turn)
                    print(f"{axis.title} {gateway.size.title}: {turn.cpu_us:.0f} µs", file=sys.stderr)
    return turns


def start(size: Size, stage: Stage, upstreams: Upstreams) -> Gateway:
    """Start one gateway."""
    features = size.features
    keys = [f"pk-postern-bench-{number:06d}" for number in range(features.keys)]
    settings = settings_of(features, keys, upstreams)
    if features.redis:
        redis_port = free_port()
        start_redis(stage, redis_port)
        settings["redis"] = {"url": f"redis://127.0.0.1:{redis_port}/0"}
    if size.entries:
        settings["cache"] = {"exact": {"max_entries": size.entries, "max_bytes": 2**40}}
    process, port = serve(stage, settings, features.workers, "loadtests.filled" if size.entries else "gateway")
    models = tuple(f"small-{n}" for n in range(features.models)) if features.route == "small" else (features.route,)
    return Gateway(size, process, Door(port, models, keys=tuple(keys)))


def run(gateway: Gateway, stage: Stage, number: int, seconds: float) -> Turn:
    """Load one gateway for a turn; no two requests are alike."""
    script = stage.folder / "growth.lua"
    plan = Plan(variants=100)
    wrk.write_script(script, compose(plan, gateway.door), start=number * NUMBERS_A_TURN, is_same=False)
    # A turn makes its connections anew: each is to carry twenty requests and more, or their making is what is measured.
    seconds = max(seconds, gateway.size.connections / CONNECTIONS_PER_S)
    command = wrk.command(script, gateway.door.port, seconds, gateway.size.connections)
    pids = counting.tree(gateway.process.pid)
    before_s = counting.cpu_s(pids)
    done = subprocess.run(pinned(command, stage.load_core), capture_output=True, text=True, check=True)
    time.sleep(0.2)  # what is done after the answers is theirs too
    used_s = counting.cpu_s(counting.tree(gateway.process.pid)) - before_s
    tally = wrk.read(done.stdout)
    if tally.failed or not tally.requests:
        raise SystemExit(f"{gateway.size.title}: {tally.failed} of {tally.requests} requests failed")
    largest_mb = max(counting.rss_bytes([pid]) for pid in pids) / 1e6
    return Turn(used_s / tally.requests * 1e6, tally.requests / tally.wall_us * 1e6, largest_mb)


def growth(turns: list[Turn], base: list[Turn]) -> Estimate:
    """Return how many times the base's CPU a size takes, round by round."""
    return estimate(ratios([one.cpu_us for one in turns], [one.cpu_us for one in base]))


def _verdict(axis: Axis, turns: dict[str, list[Turn]]) -> bool:
    base = turns[axis.sizes[0].title]
    return all(growth(turns[size.title], base).median <= 1 + FLAT_BY for size in axis.sizes[1:])


def _report(found: dict[str, dict[str, list[Turn]]]) -> Iterator[str]:
    yield "| what grows | size | CPU a request | times the first | requests a second | memory, largest process |"
    yield "|---|---:|---:|---:|---:|---:|"
    for axis in AXES:
        for size in axis.sizes if axis.name in found else ():
            turns = found[axis.name][size.title]
            times = growth(turns, found[axis.name][axis.sizes[0].title])
            cpu_us, rate, rss_mb = (statistics.median(values) for values in zip(*turns, strict=True))
            yield (
                f"| {axis.title} | {size.title} | {cpu_us:.0f} µs | {times.median:.2f} ({times.low:.2f} to "
                f"{times.high:.2f}) | {rate:,.0f} | {rss_mb:,.0f} MB |"
            )
    yield ""
    for axis in AXES:
        if axis.name in found:
            kept = "flat" if _verdict(axis, found[axis.name]) else f"grows by over {FLAT_BY:.0%}"
            yield f"- {axis.title}: {kept}"
    yield ""
    yield ", ".join(f"{name}: {text}" for name, text in machine.describe().items())
    yield ""
    yield pythons.describe()


if __name__ == "__main__":
    sys.exit(main())
