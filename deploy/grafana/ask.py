"""Ask Prometheus what a panel would show, as Grafana does: variables filled in, each query over its time.

For whoever has no Grafana at hand: the live test, and the pictures in the documentation.
"""

import json
import re
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

ALL = "$__all"
EVERYTHING = ".*"
_SPECIAL = re.compile(r"[$^*{}\[\]'+?.()|]")
_LABEL_VALUES = re.compile(r"label_values\((?P<selector>.+),\s*(?P<label>\w+)\)$", re.DOTALL)
_VARIABLE = re.compile(r"\$\{?(\w+)\}?")
MOST_POINTS = 500
"""About as many as a panel has pixels to spare; Grafana bounds the step likewise."""
LEAST_SCRAPES = 4
"""Scrapes that `$__rate_interval` spans at least, so that one which failed leaves no hole."""


@dataclass(frozen=True)
class Window:
    """The time shown, in seconds, and how often Prometheus scrapes (the data source's setting in Grafana)."""

    start_s: float
    end_s: float
    scrape_s: float = 15.0

    @property
    def step_s(self) -> float:
        """The distance of two points of a curve."""
        return max(self.scrape_s, (self.end_s - self.start_s) / MOST_POINTS)

    @property
    def rate_interval_s(self) -> float:
        """Grafana's `$__rate_interval`."""
        return max(self.step_s + self.scrape_s, LEAST_SCRAPES * self.scrape_s)


@dataclass(frozen=True)
class Curve:
    """A series of an answer: its labels, and its points as time and value."""

    labels: Mapping[str, str]
    points: Sequence[tuple[float, float]]
    legend: str = ""

    @property
    def numbers(self) -> list[float]:
        """The values that are numbers."""
        return [value for _, value in self.points if value == value]  # noqa: PLR0124 - NaN is not itself


@dataclass(frozen=True)
class Answer:
    """What a query of a panel returned."""

    letter: str
    expression: str
    curves: Sequence[Curve] = ()

    @property
    def has_numbers(self) -> bool:
        """Tell whether there is anything to see."""
        return any(curve.numbers for curve in self.curves)


class AskError(Exception):
    """Prometheus refused a query; the text holds both."""


@dataclass(frozen=True)
class Asker:
    """Asks one Prometheus; `chosen`: values by variable, everything where nothing is said."""

    url: str
    window: Window
    chosen: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def panel(self, panel: Mapping[str, Any]) -> list[Answer]:
        """Ask every query of a panel."""
        return [self._target(target) for target in panel.get("targets", ())]

    def variable(self, variable: Mapping[str, Any]) -> list[str]:
        """Return the values that a variable offers."""
        asked = _LABEL_VALUES.match(variable["query"]["query"])
        if asked is None:
            raise AskError(f"{variable['name']} asks for no label's values")
        selector = {"match[]": self.fill(asked["selector"])}
        found = self.get(f"label/{asked['label']}/values", **selector, **self._bounds())
        return [str(value) for value in found]

    def fill(self, text: str) -> str:
        """Put in what Grafana puts in. Raises AskError for a variable that it does not know."""
        own = {
            "__rate_interval": f"{self.window.rate_interval_s * 1000:.0f}ms",
            "__interval": f"{self.window.step_s * 1000:.0f}ms",
            "__range": f"{self.window.end_s - self.window.start_s:.0f}s",
        }

        def value_of(found: re.Match[str]) -> str:
            name = found[1]
            if name.isdigit():
                return found[0]  # no variable: a group of a regular expression, in `label_replace`
            if name in own:
                return own[name]
            if name.startswith("__"):
                raise AskError(f"${name} is none of Grafana's that are filled in here")
            return as_matcher(self.chosen.get(name, (ALL,)))

        return _VARIABLE.sub(value_of, text)

    def _target(self, target: Mapping[str, Any]) -> Answer:
        expression = self.fill(target["expr"])
        window = self.window
        if target.get("instant"):
            found = self.get("query", query=expression, time=f"{window.end_s:.3f}")
        else:
            bounds = {**self._bounds(), "step": f"{window.step_s:g}"}
            found = self.get("query_range", query=expression, **bounds)
        curves = [curve_of(row, target.get("legendFormat", "")) for row in rows_of(found)]
        if target.get("format") == "heatmap":
            curves = list(apart(curves))
        return Answer(target["refId"], expression, curves)

    def _bounds(self) -> dict[str, str]:
        return {"start": f"{self.window.start_s:.3f}", "end": f"{self.window.end_s:.3f}"}

    def get(self, path: str, **parameters: str) -> Any:
        """Ask Prometheus' API. Raises AskError."""
        return ask(self.url, path, **parameters)


def ask(server: str, path: str, **parameters: str) -> Any:
    """Return the data of an answer of a Prometheus' API. Raises AskError with its own words where it refuses."""
    url = f"{server}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
    try:
        with urllib.request.urlopen(url, timeout=30) as answer:
            return json.load(answer)["data"]
    except urllib.error.HTTPError as refused:
        with refused:
            problem = refused.read().decode(errors="replace")
        raise AskError(f"{path} {parameters}: {problem}") from refused


def as_matcher(values: Sequence[str]) -> str:
    """Write a choice as it stands in a regular expression inside of quotes."""
    if ALL in values:
        return EVERYTHING
    escaped = [_SPECIAL.sub(r"\\\\\g<0>", value.replace("\\", r"\\\\")) for value in values]
    return escaped[0] if len(escaped) == 1 else f"({'|'.join(escaped)})"


def rows_of(found: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """Return the series of an answer, a plain number as one without labels."""
    if found["resultType"] == "scalar":
        return [{"metric": {}, "value": found["result"]}]
    rows: Sequence[Mapping[str, Any]] = found["result"]
    return rows


def curve_of(row: Mapping[str, Any], legend: str) -> Curve:
    """Read one series."""
    points = row["values"] if "values" in row else [row["value"]]
    labels = row["metric"]
    return Curve(labels, [(float(at), float(value)) for at, value in points], name_of(labels, legend))


def name_of(labels: Mapping[str, str], legend: str) -> str:
    """Return what the legend says."""
    if legend in {"", "__auto"}:
        return next(iter(labels.values())) if len(labels) == 1 else ", ".join(labels.values())
    return re.sub(r"\{\{\s*(\w+)\s*\}\}", lambda found: labels.get(found[1], ""), legend)


def apart(curves: Sequence[Curve]) -> Iterator[Curve]:
    """Take a histogram's running sums apart: a curve a bucket, from the lowest up."""
    ordered = sorted(curves, key=lambda curve: float(curve.labels["le"]))
    if ordered:
        yield ordered[0]
    for lower, upper in pairwise(ordered):
        under = dict(lower.points)
        points = [(at, max(0.0, value - under.get(at, 0.0))) for at, value in upper.points]
        yield Curve(upper.labels, points, upper.legend)
