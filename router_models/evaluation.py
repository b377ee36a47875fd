"""A whole evaluation: several routers and the baselines on one set, as one report, and the report as text."""

from collections.abc import Iterable, Sequence

import msgspec
import numpy as np

from router_models.assess import (
    Assessment,
    Baseline,
    Group,
    Labels,
    Measure,
    Order,
    Point,
    Scored,
    assess,
    assess_baseline,
    mix,
)
from router_models.costs import Costs
from router_models.evaluate import MIN_GAP
from router_models.example import Example
from router_models.plots import terminal_curve
from router_models.robustness import Report as Robustness
from router_models.robustness import tell as tell_robustness

LENGTH, CHANCE = "prompt length", "random"


class Evaluation(msgspec.Struct, frozen=True):
    """The report. `baselines` are chance and prompt length, which know nothing; both always-one mixes stand beside."""

    data: str
    rows: int
    weak: float
    strong: float
    strong_share: float
    threshold: float | None
    routers: tuple[Assessment, ...]
    baselines: tuple[Baseline, ...]
    always_weak: Point
    always_strong: Point
    assumptions: tuple[str, ...]
    robustness: dict[str, Robustness] = {}

    @property
    def curves(self) -> dict[str, tuple[float, ...]]:
        """PGR curves by name, the routers' last, so that they cover the baseline's where they are drawn."""
        length = self.baselines[0]
        drawn = [(length.name, length.curve), *((one.router, one.curve) for one in self.routers)]
        return {name: curve for name, curve in drawn if curve is not None}

    @property
    def mixes(self) -> dict[str, tuple[Point, ...]]:
        """Quality and cost along each curve, by name; empty where no costs are known."""
        drawn = [(one.name, one.mixes) for one in self.baselines] + [(one.router, one.mixes) for one in self.routers]
        return {name: points for name, points in drawn if points}


class Operation(msgspec.Struct, frozen=True):
    """At which mix routers are compared: a threshold, or the same strong share for all."""

    strong_share: float
    threshold: float | None = None


def evaluate_routers(  # what the report is about
    data: str, examples: Sequence[Example], scored: Iterable[Scored], costs: Costs | None, operation: Operation,
    seed: int,
) -> Evaluation:  # fmt: skip
    """Assess routers and baselines on the same examples."""
    labels = Labels.of(examples, costs)
    share = operation.strong_share
    constant = np.full(len(examples), 0.5)
    return Evaluation(
        data=data,
        rows=len(examples),
        weak=float(labels.weak.mean()),
        strong=float(labels.strong.mean()),
        strong_share=share,
        threshold=operation.threshold,
        routers=tuple(assess(one, examples, labels, operation.threshold, share, seed) for one in scored),
        baselines=tuple(
            assess_baseline(name, score, labels, share, seed)
            for name, score in ((LENGTH, labels.length), (CHANCE, constant))
        ),
        always_weak=mix(constant, labels, 0.0),
        always_strong=mix(constant, labels, 1.0),
        assumptions=_assumptions(costs),
    )


def _assumptions(costs: Costs | None) -> tuple[str, ...]:
    told = [
        "rows weigh alike; intervals are 95% percentile bootstrap over rows",
        "a router that was trained on these rows looks better here than it is",
    ]
    if costs is None:
        told.append("no costs in the data and no --price: no cost, no RouterArena score")
    else:
        told.append(f"costs: {costs.assumption}")
        told.append(
            "RouterArena's score (arXiv 2510.00202) by its formula on this data; its leaderboard is on its own prompts"
        )
    return tuple(told)


def tell(found: Evaluation) -> str:
    """Lay a report out for people: tables in Markdown, the curve in characters."""
    parts = [_head(found), _table(found), *(_points(found))]
    if found.curves:
        parts.append(terminal_curve(found.curves))
    else:
        parts.append(f"strong is better than weak by less than {MIN_GAP:g}: there is nothing to route for, so no PGR")
    for one in found.routers:
        parts += [f"## {one.router}", _reliability(one)]
        parts += [_groups(title, groups) for title, groups in _grouped(one) if len(groups) > 1]
    for name, robustness in found.robustness.items():
        parts += [f"## Hard to fool: {name}", tell_robustness(robustness)]
    return "\n\n".join([*parts, "\n".join(f"- {line}" for line in found.assumptions)])


def _head(found: Evaluation) -> str:
    return (
        f"# {found.data}: {found.rows} rows, weak {found.weak:.3f}, strong {found.strong:.3f}, "
        f"gap {found.strong - found.weak:.3f}"
    )


def _measure(one: Measure) -> str:
    return f"{one.value:.3f} [{one.low:.3f}, {one.high:.3f}]"


def _row(name: str, rows: int, order: Order | None, ece: float | None) -> str:
    told = (
        "no gap | | | |"
        if order is None
        else f"{_measure(order.apgr)} | {_measure(order.over_length)} | {_measure(order.cpt50)} | "
        f"{_measure(order.cpt80)} |"
    )
    return f"| {name} | {rows} | {told} {'' if ece is None else f'{ece:.3f}'} |"


HEAD = "| {} | rows | APGR [95%] | over length | CPT50 | CPT80 | ECE |\n|---|---|---|---|---|---|---|"


def _table(found: Evaluation) -> str:
    rows = [_row(one.router, found.rows, one.all.order, one.all.ece) for one in found.routers]
    rows += [_row(one.name, found.rows, one.order, None) for one in found.baselines]
    return "\n".join([HEAD.format("router"), *rows])


def _points(found: Evaluation) -> list[str]:
    at = f"strong share {found.strong_share:.0%}" if found.threshold is None else f"threshold {found.threshold:g}"
    rows = [(f"{one.router}, {at}", one.at_threshold) for one in found.routers]
    rows += [(f"{one.name}, strong share {found.strong_share:.0%}", one.at_share) for one in found.baselines]
    rows += [("always weak", found.always_weak), ("always strong", found.always_strong)]
    rows += [(f"{one.router}, best for RouterArena", one.best_arena) for one in found.routers if one.best_arena]
    head = "| mix | strong share | quality | PGR | USD / 1,000 | RouterArena |\n|---|---|---|---|---|---|"
    return ["\n".join([head, *(_point(name, point) for name, point in rows)])]


def _point(name: str, point: Point) -> str:
    pgr = "" if point.pgr is None else f"{point.pgr:.3f}"
    usd = "" if point.usd_per_1000 is None else f"{point.usd_per_1000:.4g}"
    arena = "" if point.arena is None else f"{100 * point.arena:.2f}"
    return f"| {name} | {point.strong_share:.1%} | {point.quality:.4f} | {pgr} | {usd} | {arena} |"


def _reliability(one: Assessment) -> str:
    rows = [
        f"| {part.low:.1f}-{part.high:.1f} | {part.rows} | {part.score:.3f} | {part.win:.3f} | "
        f"`{'#' * round(20 * part.win):20}` |"
        for part in one.reliability
    ]
    accuracy = "" if one.domain_accuracy is None else f"; domain accuracy {one.domain_accuracy:.3f}"
    head = f"Reliability, ECE {one.all.ece:.3f}{accuracy}\n"
    return "\n".join([head, "| score | rows | mean score | win rate | |", "|---|---|---|---|---|", *rows])


def _grouped(one: Assessment) -> tuple[tuple[str, dict[str, Group]], ...]:
    return ("bench", one.by_bench), ("domain", one.by_domain), ("language", one.by_language)


def _groups(title: str, groups: dict[str, Group]) -> str:
    return "\n".join([HEAD.format(title), *(_row(name, one.rows, one.order, one.ece) for name, one in groups.items())])
