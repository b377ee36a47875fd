"""What a run measured, and what is derived from it: the figures that reports, plots and baselines show."""

import json
from pathlib import Path
from typing import Any, NamedTuple

from loadtests import peers
from loadtests.bodies import Plan
from loadtests.counting import Shares
from loadtests.figures import Estimate, estimate, ratios
from loadtests.scenarios import PEERS, Kind, Scenario
from loadtests.subjects import FEATURES
from loadtests.turns import Turn

BASE = "nginx"


class Result(NamedTuple):
    """One scenario's rounds; a subject that is missing from one has its reason in `missing`."""

    scenario: Scenario
    rounds: list[dict[str, Turn]]
    missing: dict[str, str]

    def subjects(self) -> list[str]:
        """Return the subjects that have turns, in the scenario's order."""
        return [name for name in self.scenario.subjects if any(name in turns for turns in self.rounds)]

    def values(self, subject: str, what: str) -> list[float]:
        """Return one figure of every turn of a subject."""
        return [turns[subject].values[what] for turns in self.rounds if subject in turns]

    def median(self, subject: str, what: str) -> Estimate:
        """Return the median of a figure over a subject's turns."""
        return estimate(self.values(subject, what))

    def against(self, subject: str, base: str = BASE, what: str = "cpu_us") -> Estimate | None:
        """Return how many times the base's figure a subject's is, by rounds that have both."""
        both = [turns for turns in self.rounds if subject in turns and base in turns]
        if not both:
            return None
        pairs = [[turns[name].values[what] for turns in both] for name in (subject, base)]
        return estimate(ratios(*pairs))

    def shares(self, subject: str) -> Shares:
        """Return who used the cores in a subject's turns, in the mean."""
        all_shares = [turns[subject].shares for turns in self.rounds if subject in turns]
        found = [one for one in all_shares if one is not None]
        return Shares(*(sum(column) / len(found) for column in zip(*found, strict=True)))


class Results(NamedTuple):
    """A whole run."""

    machine: dict[str, str]
    scenarios: dict[str, Result]

    def fails(self) -> list[str]:
        """Return our own subjects that failed a turn or did not start; a peer's absence is no failure of ours."""
        return [name for result in self.scenarios.values() for name in result.missing if name not in PEERS]


def title(subject: str) -> str:
    """Return a subject's name for people."""
    titles = {name: features.title for name, features in FEATURES.items()}
    titles["nginx"] = "nginx, a bare proxy"
    if subject in peers.TITLES:
        return f"{peers.TITLES[subject]} {peers.version(subject)}"
    return titles[subject]


def save(results: Results, folder: Path) -> None:
    """Write every turn's figures, so that others can count again."""
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(
        {
            "machine": results.machine,
            "scenarios": {name: _as_json(result) for name, result in results.scenarios.items()},
        },
        indent=1,
    )
    (folder / "results.json").write_text(text + "\n", encoding="utf-8")


def _as_json(result: Result) -> dict[str, Any]:
    rounds = [
        {
            name: {
                **{what: round(value, 4) for what, value in turn.values.items()},
                "shares": None if turn.shares is None else [round(share, 3) for share in turn.shares],
            }
            for name, turn in turns.items()
        }
        for turns in result.rounds
    ]
    return {"scenario": result.scenario._asdict(), "rounds": rounds, "missing": result.missing}


def load(folder: Path) -> Results:
    """Read what `save` wrote."""
    found = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    return Results(found["machine"], {name: _from_json(one) for name, one in found["scenarios"].items()})


def _from_json(found: dict[str, Any]) -> Result:
    fields = found["scenario"]
    sizes, *rest = fields["plan"]
    scenario = Scenario(**{**fields, "kind": Kind(fields["kind"]), "subjects": tuple(fields["subjects"])})._replace(
        plan=Plan(tuple(sizes), *rest)
    )
    rounds = []
    for turns in found["rounds"]:
        one = {}
        for name, values in turns.items():
            shares = values.pop("shares")
            one[name] = Turn(name, values, None if shares is None else Shares(*shares))
        rounds.append(one)
    return Result(scenario, rounds, found["missing"])
