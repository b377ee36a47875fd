"""The ratios that must not worsen: kept in baseline.json, compared by `make bench-check`."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

from loadtests.figures import Estimate, has_worsened, is_suspect
from loadtests.results import BASE, Result, Results, title
from loadtests.scenarios import CHECK, PEERS, Kind

PATH = Path(__file__).parent / "baseline.json"
MORE = 2
"""How often a suspect is measured again, its processes started anew, before it is judged: two starts of one program
differ too, by more than the rounds of one start tell."""

Ratios = dict[str, dict[str, Estimate]]


def ratios_of(results: Results) -> Ratios:
    """Return what is kept, by scenario and subject: multiples of nginx's CPU, and plain memory; nothing of peers."""
    return {name: _ratios(result) for name, result in results.scenarios.items() if name in CHECK}


def _ratios(result: Result) -> dict[str, Estimate]:
    found: dict[str, Estimate] = {}
    for name in result.subjects():
        if name == BASE or name in PEERS:
            continue
        if result.scenario.kind is Kind.IDLE:
            found |= {f"{name} {what}": result.median(name, what) for what in ("rest_mb", "stream_kb")}
            continue
        times = result.against(name)
        if times is not None:
            found[name] = times
    return found


def write(results: Results, path: Path = PATH) -> None:
    """Keep a run's ratios."""
    kept = {
        scenario: {name: [round(figure, 3) for figure in one] for name, one in ratios.items()}
        for scenario, ratios in ratios_of(results).items()
    }
    path.write_text(json.dumps({"machine": results.machine, "ratios": kept}, indent=2) + "\n", encoding="utf-8")
    print(f"wrote {path.name}")


def read(path: Path = PATH) -> Ratios:
    """Return the ratios that are kept."""
    kept = json.loads(path.read_text(encoding="utf-8"))["ratios"]
    return {scenario: {name: Estimate(*one) for name, one in ratios.items()} for scenario, ratios in kept.items()}


def suspects(now: Ratios, then: Ratios) -> list[str]:
    """Return the scenarios that want more rounds."""
    return [
        scenario
        for scenario, ratios in now.items()
        if any(is_suspect(one, then[scenario][name]) for name, one in ratios.items() if name in then.get(scenario, {}))
    ]


def check(results: Results, measure_again: Callable[[str], None], path: Path = PATH) -> int:
    """Compare a run with what is kept; 0, or 1 where something has worsened."""
    then = read(path)
    for _ in range(MORE):
        for scenario in suspects(ratios_of(results), then):
            print(f"{scenario} looks worse; measuring again", file=sys.stderr)
            measure_again(scenario)
    now = ratios_of(results)
    for scenario, ratios in now.items():
        for name, one in ratios.items():
            print(f"{scenario:12} {tell(name, one, then.get(scenario, {}).get(name))}")
    worse = [f"{scenario} {name}" for scenario, ratios in now.items() for name, one in ratios.items()
             if name in then.get(scenario, {}) and has_worsened(one, then[scenario][name])]  # fmt: skip
    print(f"worse by over 15 %: {', '.join(worse)}" if worse else "nothing has worsened by over 15 %")
    return 1 if worse else 0


def tell(name: str, now: Estimate, then: Estimate | None) -> str:
    """Return one line of the comparison."""
    subject, _, what = name.partition(" ")
    label = f"{title(subject)} {what}".strip()
    figures = f"{now.median:8.2f} [{now.low:.2f}, {now.high:.2f}]"
    if then is None:
        return f"{label:44} {figures}   not in the baseline"
    verdict = "WORSE" if has_worsened(now, then) else "worse, within the noise" if is_suspect(now, then) else ""
    return f"{label:44} {figures}   was {then.median:8.2f} [{then.low:.2f}, {then.high:.2f}] {verdict}"
