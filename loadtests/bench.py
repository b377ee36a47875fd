"""The load tests: Postern, a bare nginx and other gateways in front of the same upstream, in turns, as ratios.

What is counted is CPU time, read from the operating system: it is steadier than rates where a machine is shared. Each
scenario's subjects take turns in an order drawn anew each round, and each turn is held against nginx's of the same
round. The subject has one core to itself; the fake upstream and the load generator share the other.
"""

import argparse
import random
import signal
import sys
import tempfile
import time
from pathlib import Path
from types import FrameType

from loadtests import baseline, machine, peers, processes, pythons, report
from loadtests.counting import cpu_s, tree
from loadtests.results import Result, Results, save
from loadtests.scenarios import CHECK, QUICK, SCENARIOS, SLOW, Kind, Scenario, without_peers
from loadtests.subjects import FEATURES, Launch, Subject, Upstreams, start_nginx, start_postern, start_upstreams
from loadtests.turns import Turn, TurnError, Turns

HERE = Path(__file__).parent
WARM_UP_S = 1.0
SETTLE_S = 0.2
QUIET_WITHIN_S, LOOK_S, QUIET_S = 20.0, 0.5, 0.02
"""A subject is quiet when it uses at most 20 ms of CPU in half a second; after 20 s it is measured anyway."""

EXAMPLES = """examples:
  python -m loadtests.bench                                  everything, about 15 minutes
  python -m loadtests.bench --only saturation,streams        two scenarios
  python -m loadtests.bench --only saturation --subjects postern-walk,postern-whole --rounds 7
  python -m loadtests.bench --quick                          no peers, two minutes
  python -m loadtests.bench --check                          against loadtests/baseline.json
  python -m loadtests.bench --baseline                       write that file anew
  python -m loadtests.bench --list                           scenarios and subjects
"""


def main() -> int:
    """Run what is asked for; 0, or 1 where a ratio has worsened, or 2 where nothing could be measured."""
    options = read_options()
    if options.list:
        tell_names()
        return 0
    missing = processes.missing()
    if missing:
        print(f"missing: {' '.join(missing)}; install: apt-get install {' '.join(missing)}")
        return 2
    # However it ends, `finally` stops what was started.
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        return run(options)
    except KeyboardInterrupt:
        print("\nstopped", file=sys.stderr)
        return 130
    except TurnError as exc:
        print(f"\n{exc}", file=sys.stderr)
        return 2


def run(options: argparse.Namespace) -> int:
    """Measure, then tell, compare or keep."""
    if options.check and not baseline.PATH.exists():
        print(f"there is no {baseline.PATH.name} to compare with: make bench-baseline")
        return 2
    core, load_core = processes.cores()
    if core == load_core:
        print("there is one core only: subject, upstream and load generator share it, so CPU counts but rates don't")
    with tempfile.TemporaryDirectory(prefix="postern-bench-") as folder:
        stage = processes.Stage(Path(folder), core, load_core)
        with stage:
            bench = Bench(stage, options)
            for scenario in chosen(options):
                bench.measure(scenario)
            if options.check:
                return max(baseline.check(bench.results, bench.measure_again), 1 if bench.results.fails() else 0)
            results = bench.results
            if options.baseline:
                for scenario in chosen(options):
                    bench.measure_again(scenario.name)
    if options.baseline:
        baseline.write(results)
        return 0
    print(report.figures(results))
    if options.save:
        save(results, Path(options.save))
        report.write(results, Path(options.save))
    return 1 if results.fails() else 0


def chosen(options: argparse.Namespace) -> list[Scenario]:
    """Return the scenarios to run, as the options have changed them."""
    names = QUICK if options.quick else CHECK if options.check or options.baseline else tuple(SCENARIOS)
    names = tuple(options.only.split(",")) if options.only else names
    found = []
    for name in names:
        one = SCENARIOS[name]
        if options.quick or options.check or options.baseline:
            one = without_peers(one)
        if options.subjects:
            wanted = options.subjects.split(",")
            one = one._replace(subjects=("nginx", *(name for name in wanted if name != "nginx")))
        rounds = options.rounds or (2 if options.quick else one.rounds)
        found.append(one._replace(rounds=rounds, seconds=options.seconds or one.seconds))
    return found


class Bench:
    """The subjects that run, and the rounds."""

    def __init__(self, stage: processes.Stage, options: argparse.Namespace) -> None:
        self._stage = stage
        self._upstreams: Upstreams = start_upstreams(stage)
        self._turns = Turns(stage, self._upstreams)
        self._subjects: dict[str, Subject] = {}
        self._chance = random.Random(options.seed)
        has_litellm = any("litellm" in scenario.subjects for scenario in chosen(options))
        told = pythons.describe(has_litellm=has_litellm)
        print(told, file=sys.stderr, flush=True)
        self.results = Results({**machine.describe(), "pythons": told}, {})

    def measure(self, scenario: Scenario) -> None:
        """Run a scenario's rounds and keep what they measured."""
        result = self.results.scenarios.setdefault(scenario.name, Result(scenario, [], {}))
        started_s = time.monotonic()
        names = [name for name in scenario.subjects if self._prepare(scenario, name, result)]
        if scenario.kind is Kind.PACED:
            names.remove("nginx")  # it is one of the two in every turn
        for number in range(scenario.rounds):
            turns: dict[str, Turn] = {}
            for place, name in enumerate(self._chance.sample(names, len(names))):
                where = f"round {number + 1} of {scenario.rounds}, turn {place + 1} of {len(names)}"
                show_progress(f"{scenario.name}: {where}: {name}")
                turn = self._turn(scenario, name, result)
                if turn is not None:
                    turns[name] = turn
            result.rounds.append(turns)
        show_progress(f"{scenario.name}: done in {time.monotonic() - started_s:.0f} s", is_last=True)

    def measure_again(self, name: str) -> None:
        """Run a scenario's rounds once more with processes started anew, as more rounds of the same result."""
        for subject in list(self._subjects):
            self._stop(subject)
        self.measure(self.results.scenarios[name].scenario)

    def _prepare(self, scenario: Scenario, name: str, result: Result) -> bool:
        """Start a subject if it does not run yet, see that it answers as it should, warm it up."""
        if scenario.kind is Kind.IDLE:
            return True
        subject = self._start(name, result)
        if subject is None:
            return False
        try:
            self._turns.check(scenario, subject)
            if scenario.kind is Kind.CLOSED:
                self._turns.run(scenario, subject, self._subjects["nginx"], WARM_UP_S * SLOW.get(name, 1))
        except TurnError as exc:
            self._miss(name, result, f"{exc}\n{self._stage.last_lines(subject.processes[0])}")
            return False
        return True

    def _start(self, name: str, result: Result) -> Subject | None:
        if name in self._subjects:
            return self._subjects[name]
        show_progress(f"starting {name}")
        try:
            self._subjects[name] = launcher(name)(self._stage, self._upstreams)
            settle(self._subjects[name])
        except (pythons.MissingError, processes.StartError, FileNotFoundError) as exc:
            self._miss(name, result, str(exc))
            return None
        return self._subjects[name]

    def _turn(self, scenario: Scenario, name: str, result: Result) -> Turn | None:
        """Run one turn; a subject that fails one is told as missing."""
        if scenario.kind is Kind.IDLE:
            self._stop(name)
        subject = self._start(name, result)
        if subject is None:
            return None
        time.sleep(SETTLE_S)
        seconds = scenario.seconds * (SLOW.get(name, 1) if scenario.kind is Kind.CLOSED else 1)
        try:
            return self._turns.run(scenario, subject, self._subjects.get("nginx", subject), seconds)
        except TurnError as exc:
            self._miss(name, result, f"{exc}\n{self._stage.last_lines(subject.processes[0])}")
            return None

    def _miss(self, name: str, result: Result, reason: str) -> None:
        result.missing[name] = reason.partition("\n")[0]
        print(f"\n{name} is missing from {result.scenario.name}: {reason}", file=sys.stderr, flush=True)
        if name == "nginx":
            raise TurnError("without nginx there is nothing to compare with")

    def _stop(self, name: str) -> None:
        subject = self._subjects.pop(name, None)
        if subject is not None:
            self._stage.stop([*subject.processes, *subject.helpers])


def settle(subject: Subject) -> None:
    """Wait until a subject that listens has done what it still had to do: load files, look after its upstreams."""
    deadline_s = time.monotonic() + QUIET_WITHIN_S
    used_s = -1.0
    while time.monotonic() < deadline_s:
        now_s = cpu_s([pid for one in subject.processes for pid in tree(one.pid)])
        if now_s - used_s < QUIET_S:
            return
        used_s = now_s
        time.sleep(LOOK_S)


def launcher(name: str) -> Launch:
    """Return what starts a subject."""
    if name == "nginx":
        return start_nginx
    if name in peers.PEERS:
        return peers.PEERS[name]
    return lambda stage, upstreams: start_postern(name, stage, upstreams)


def show_progress(text: str, *, is_last: bool = False) -> None:
    """Say what goes on: one line that is written over on a terminal; elsewhere only what is done."""
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="\n" if is_last else "", file=sys.stderr, flush=True)
    elif is_last:
        print(text, file=sys.stderr, flush=True)


def tell_names() -> None:
    """Print the scenarios and the subjects."""
    for scenario in SCENARIOS.values():
        print(f"{scenario.name:12} {scenario.shows}")
    print("\nsubjects: nginx, " + ", ".join((*FEATURES, *peers.PEERS)))


def read_options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m loadtests.bench",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--only", help="scenarios, with commas between (default all)")
    parser.add_argument("--subjects", help="subjects instead of the scenario's own; nginx always takes part")
    parser.add_argument("--rounds", type=int, help="rounds of each scenario (default: the scenario's own)")
    parser.add_argument("--seconds", type=float, help="length of a turn (default: the scenario's own)")
    parser.add_argument("--seed", type=int, default=1, help="draws the order of the turns (default 1)")
    parser.add_argument("--save", metavar="FOLDER", help="write results.json, report.md and report.png there")
    parser.add_argument("--list", action="store_true", help="print the scenarios and the subjects")
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--quick", action="store_true", help="the main scenarios, no peers, two rounds")
    mode.add_argument("--check", action="store_true", help="fail when a ratio has worsened by over 15 %%")
    mode.add_argument("--baseline", action="store_true", help="write the ratios that --check compares with")
    options = parser.parse_args()
    for kind, asked, known in (
        ("scenario", options.only, SCENARIOS.keys()),
        ("subject", options.subjects, {"nginx", *FEATURES, *peers.PEERS}),
    ):
        for name in asked.split(",") if asked else ():
            if name not in known:
                parser.error(f"no {kind} is called {name}; see --list")
    return options


def _interrupt(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - the signature of a handler
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
