"""Where each microsecond goes: a profile of the whole walk under load, as a table by stage and a flame graph.

A sampling profiler looks into the running gateway from outside and stops it for each look, so the CPU a request is
counted before, unwatched. A sample belongs to the innermost stage on its stack: what a stage calls, in C or in a
library, is its own. A stage's share of the samples times the CPU a request is its microseconds.

    python -m loadtests.stages --save docs       writes stages.md and flame.svg there
"""

import argparse
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from loadtests import machine, peers, processes, pythons, report, wrk
from loadtests.bodies import compose
from loadtests.counting import cpu_s, tree
from loadtests.flame import grow, svg
from loadtests.scenarios import SCENARIOS
from loadtests.subjects import FEATURES, start_postern, start_upstreams

RATE = 400
SAMPLES_S = 12


class Stage(NamedTuple):
    """One row: the files whose functions are its own."""

    name: str
    places: tuple[str, ...]


STAGES = (
    Stage("serve: read and write HTTP", ("gateway/api/", "uvicorn/", "litestar/")),
    Stage("parse the request", ("gateway/schema/request",)),
    Stage("read the answer's usage", ("gateway/schema/", "gateway/accounting/usage")),
    Stage("identify", ("gateway/auth/",)),
    Stage("admit", ("gateway/limits",)),
    Stage("look up and keep", ("gateway/cache/", "gateway/stores/")),
    Stage("classify", ("gateway/classify/",)),
    Stage("choose", ("gateway/routing/",)),
    Stage("forward: ask the upstream", ("gateway/backends/", "httpx2/", "httpcore2/", "anyio/", "h11/")),
    Stage("account", ("gateway/accounting/", "gateway/record")),
    Stage("metrics and access log", ("gateway/telemetry/", "prometheus_client/", "logging/")),
    Stage("the walk itself", ("gateway/pipeline",)),
)
ASLEEP = ("concurrent/futures/thread.py", "threading.py")
"""A worker thread that waits for work ends in one of these; the profiler takes some of them for awake."""
LOOP = "event loop: polling, sockets, callbacks"
REST = "other"


def stage_of(names: list[str]) -> str:
    """Return the stage that a stack belongs to: that of its innermost function which any stage owns."""
    for name in reversed(names):
        for stage in STAGES:
            if any(place in name for place in stage.places):
                return stage.name
    return LOOP if any("asyncio/" in name for name in names) else REST


def read_folded(text: str) -> list[tuple[list[str], int]]:
    """Return the stacks of a folded profile, outermost function first."""
    found = []
    for line in text.splitlines():
        names, _, count = line.rpartition(" ")
        if count.isdigit() and not any(place in names.rpartition(";")[2] for place in ASLEEP):
            found.append((from_the_loop(names.split(";")), int(count)))
    return found


def from_the_loop(names: list[str]) -> list[str]:
    """Return a stack without what started the event loop: the command line's frames are the same in all."""
    loop = next((place for place, name in enumerate(names) if "asyncio/runners.py" in name), 0)
    return names[loop:]


def table(stacks: list[tuple[list[str], int]], cpu_us: float) -> str:
    """Return the table by stage, the costliest first."""
    counts: Counter[str] = Counter()
    for names, count in stacks:
        counts[stage_of(names)] += count
    whole = sum(counts.values())
    rows = [
        [name, report.number(count / whole * cpu_us), f"{count / whole:.0%}"] for name, count in counts.most_common()
    ]
    return report.table(["stage", "µs a request", "share"], [*rows, ["all", report.number(cpu_us), "100%"]])


def measure(subject_name: str, seconds: int) -> tuple[list[tuple[list[str], int]], float]:
    """Profile a subject under load; return its stacks and its CPU a request in microseconds, counted unwatched."""
    program = peers.installed("py-spy", "bin/py-spy")
    core, load_core = processes.cores()
    with (
        tempfile.TemporaryDirectory(prefix="postern-stages-") as name,
        processes.Stage(Path(name), core, load_core) as one,
    ):
        upstreams = start_upstreams(one)
        subject = start_postern(subject_name, one, upstreams)
        pid = subject.processes[0].pid
        plan = SCENARIOS["hits" if "hit" in subject_name else "saturation"].plan
        requests = compose(plan, subject.instant)
        script, folded = one.folder / "load.lua", one.folder / "folded.txt"

        def load(start: int, duration_s: int) -> subprocess.Popen[str]:
            wrk.write_script(script, requests, start=start, is_same=plan.is_same)
            command = processes.pinned(wrk.command(script, subject.instant.port, duration_s), load_core)
            return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

        load(1, 2).communicate()
        before_s = cpu_s(tree(pid))
        tally = wrk.read(load(10_000_000, seconds).communicate()[0])
        cpu_us = (cpu_s(tree(pid)) - before_s) / tally.requests * 1e6
        under_load = load(20_000_000, seconds + 3)
        spy = [program, "record", "--pid", str(pid), "--rate", str(RATE), "--duration", str(seconds)]
        spy += ["--format", "raw", "--output", str(folded), "--function"]
        subprocess.run(processes.pinned(spy, load_core), check=True, capture_output=True)
        under_load.communicate()
        return read_folded(folded.read_text()), cpu_us


def main() -> int:
    """Measure, print, keep."""
    parser = argparse.ArgumentParser(
        prog="python -m loadtests.stages", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--subject", default="postern-whole", choices=list(FEATURES), help="default: postern-whole")
    parser.add_argument("--seconds", type=int, default=SAMPLES_S, help=f"length of the profile (default {SAMPLES_S})")
    parser.add_argument("--save", metavar="FOLDER", help="write stages.md and flame.svg there")
    options = parser.parse_args()
    try:
        stacks, cpu_us = measure(options.subject, options.seconds)
    except pythons.MissingError as exc:
        print(exc)
        return 2
    told = table(stacks, cpu_us)
    print(told)
    if options.save:
        place = Path(options.save)
        place.mkdir(parents=True, exist_ok=True)
        described = f"{FEATURES[options.subject].title}, code {machine.describe()['code']}. {pythons.describe()}"
        (place / "stages.md").write_text(f"{described}\n\n{told}\n", encoding="utf-8")
        title = f"{FEATURES[options.subject].title}: {cpu_us:.0f} µs of CPU a request"
        (place / "flame.svg").write_text(svg(grow(stacks), title), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
