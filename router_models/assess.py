"""Assesses routers' scores on labelled prompts: the order, its interval, calibration, quality and cost of the mix.

Judges only: takes scores, reads no router, writes nothing. All figures weigh rows alike.
"""

from collections.abc import Callable, Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from router_models.costs import Costs, arena_score
from router_models.evaluate import MIN_GAP, Floats, NoGapError, apgr, calibration_error, cpt_on, pgr_curve
from router_models.example import Example
from router_models.language import detect

ROUNDS = 300
# A group of fewer rows has intervals as wide as the scale.
MIN_ROWS = 30
BINS = 10
CURVE_POINTS = 101
MIXES = 51

Rows = NDArray[np.int64]


class Measure(msgspec.Struct, frozen=True):
    """A figure with its 95% bootstrap interval."""

    value: float
    low: float
    high: float


class Order(msgspec.Struct, frozen=True):
    """How well scores order prompts. `over_length`: APGR less that of prompt length, on the same draws."""

    apgr: Measure
    cpt50: Measure
    cpt80: Measure
    length_apgr: float
    over_length: Measure


class Group(msgspec.Struct, frozen=True):
    """Figures of one router on some of the rows. `order` is None where strong is not better than weak by MIN_GAP."""

    rows: int
    weak: float
    strong: float
    ece: float
    order: Order | None


class Point(msgspec.Struct, frozen=True):
    """One mix: what it reaches and costs. Costs and the arena's score are None where no costs are known."""

    strong_share: float
    quality: float
    pgr: float | None
    usd_per_1000: float | None = None
    arena: float | None = None
    threshold: float | None = None


class Bin(msgspec.Struct, frozen=True):
    """Scores between two bounds: what was promised and what came of it."""

    low: float
    high: float
    rows: int
    score: float
    win: float


class Assessment(msgspec.Struct, frozen=True):
    """All there is to say of one router on one set. `curve` holds PGR at even strong shares from 0 to 1.

    `mixes` are quality and cost along it, empty where no costs are known.
    """

    router: str
    all: Group
    at_threshold: Point
    best_arena: Point | None
    mixes: tuple[Point, ...]
    reliability: tuple[Bin, ...]
    curve: tuple[float, ...] | None
    by_bench: dict[str, Group]
    by_domain: dict[str, Group]
    by_language: dict[str, Group]
    domain_accuracy: float | None


class Baseline(msgspec.Struct, frozen=True):
    """What a rule that knows nothing reaches on the same rows."""

    name: str
    order: Order | None
    at_share: Point
    mixes: tuple[Point, ...]
    curve: tuple[float, ...] | None


class Scored(msgspec.Struct, frozen=True):
    """What one router said of each example: the score, and the domain where it tells one."""

    router: str
    score: Floats
    domain: tuple[str | None, ...]


class Labels(msgspec.Struct, frozen=True):
    """The examples' own figures, as arrays."""

    weak: Floats
    strong: Floats
    win: Floats
    length: Floats
    costs: Costs | None

    @classmethod
    def of(cls, examples: Sequence[Example], costs: Costs | None) -> "Labels":
        """Take the figures out of examples."""
        weak, strong, win = (np.array([getattr(one, name) for one in examples]) for name in ("weak", "strong", "win"))
        return cls(weak, strong, win, np.array([float(len(one.prompt)) for one in examples]), costs)

    @property
    def gap(self) -> Floats:
        """What the strong side gains on each."""
        return self.strong - self.weak


def assess(
    scored: Scored, examples: Sequence[Example], labels: Labels, threshold: float | None, strong_share: float,
    seed: int,
) -> Assessment:  # fmt: skip
    """Assess one router. Without a threshold, the mix is that of exactly `strong_share`, ties by expectation."""
    rng = np.random.default_rng(seed)
    everyone = np.arange(len(examples))

    def groups(names: Sequence[str]) -> dict[str, Group]:
        found = {name: np.flatnonzero(np.array(names) == name) for name in sorted(set(names))}
        return {name: measure(scored.score, labels, rows, rng) for name, rows in found.items() if len(rows) >= MIN_ROWS}

    told = [example.domain or judged or "unknown" for example, judged in zip(examples, scored.domain, strict=True)]
    languages = [example.language or detect(example.prompt) for example in examples]
    has_gap, mixes = labels.gap.mean() >= MIN_GAP, mixes_of(scored.score, labels)
    return Assessment(
        router=scored.router,
        all=measure(scored.score, labels, everyone, rng),
        at_threshold=mix(scored.score, labels, strong_share) if threshold is None else cut(scored, labels, threshold),
        best_arena=max(mixes, key=lambda point: point.arena or 0.0) if mixes else None,
        mixes=mixes,
        reliability=reliability(scored.score, labels.win),
        curve=_curve(scored.score, labels.gap) if has_gap else None,
        by_bench=groups([example.bench for example in examples]),
        by_domain=groups(told),
        by_language=groups(languages),
        domain_accuracy=_domain_accuracy(examples, scored.domain),
    )


def assess_baseline(name: str, score: Floats, labels: Labels, strong_share: float, seed: int) -> Baseline:
    """Assess a rule that gives ranks only: no calibration, no groups."""
    order = curve = None
    if labels.gap.mean() >= MIN_GAP:
        order = _order(score, labels.gap, labels.length, np.random.default_rng(seed))
        curve = _curve(score, labels.gap)
    return Baseline(name, order, mix(score, labels, strong_share), mixes_of(score, labels), curve)


def measure(score: Floats, labels: Labels, rows: Rows, rng: np.random.Generator) -> Group:
    """Measure some of the rows."""
    weak, strong = float(labels.weak[rows].mean()), float(labels.strong[rows].mean())
    ece = calibration_error(score[rows], labels.win[rows])
    order = _order(score[rows], labels.gap[rows], labels.length[rows], rng) if strong - weak >= MIN_GAP else None
    return Group(len(rows), weak, strong, ece, order)


def _order(score: Floats, gap: Floats, length: Floats, rng: np.random.Generator) -> Order:
    def figures(rows: Rows) -> tuple[float, ...]:
        share, gained = pgr_curve(score[rows], gap[rows])
        area = float(np.trapezoid(gained, share))
        over = area - apgr(length[rows], gap[rows])
        return area, cpt_on(share, gained, 0.5), cpt_on(share, gained, 0.8), over

    everyone = np.arange(len(gap))
    drawn = _draw(figures, len(gap), rng)
    area, half, most, over = (
        Measure(value, *_interval(column)) for value, column in zip(figures(everyone), drawn.T, strict=True)
    )
    return Order(area, half, most, apgr(length, gap), over)


def _draw(figures: Callable[[Rows], tuple[float, ...]], rows: int, rng: np.random.Generator) -> Floats:
    drawn = []
    for _ in range(ROUNDS):
        try:
            drawn.append(figures(rng.integers(0, rows, rows)))
        except NoGapError:
            continue  # a draw in which the strong side loses has no PGR; it is left out
    return np.array(drawn)


def _interval(column: Floats) -> tuple[float, float]:
    low, high = np.percentile(column, [2.5, 97.5])
    return float(low), float(high)


def mix(score: Floats, labels: Labels, share: float) -> Point:
    """Return the mix that sends exactly this share to the strong side, the highest scores first.

    Prompts of equal score are mixed in expectation, so a constant score gives what chance gives.
    """
    order = np.argsort(-score, kind="stable")
    _, group = np.unique(-score[order], return_inverse=True)
    start = np.concatenate(([0], np.cumsum(np.bincount(group))))
    part = np.clip((share * len(score) - start[:-1]) / np.diff(start), 0.0, 1.0)
    strong = np.empty(len(score))
    strong[order] = part[group]
    return _point(strong, labels)


def cut(scored: Scored, labels: Labels, threshold: float) -> Point:
    """Return the mix of a threshold: `score >= threshold` is the strong side."""
    return msgspec.structs.replace(_point((scored.score >= threshold).astype(float), labels), threshold=threshold)


def _point(strong: Floats, labels: Labels) -> Point:
    quality = float((labels.weak + strong * labels.gap).mean())
    gap = float(labels.gap.mean())
    pgr = (quality - float(labels.weak.mean())) / gap if gap >= MIN_GAP else None
    if labels.costs is None:
        return Point(float(strong.mean()), quality, pgr)
    usd = 1000 * float((labels.costs.weak * (1 - strong) + labels.costs.strong * strong).mean())
    return Point(float(strong.mean()), quality, pgr, usd, arena_score(quality, usd))


def mixes_of(score: Floats, labels: Labels) -> tuple[Point, ...]:
    """Return mixes along the curve, from all weak to all strong; none where no costs are known.

    The one with the highest arena score is chosen on these labels, so it is a little too good.
    """
    if labels.costs is None:
        return ()
    return tuple(mix(score, labels, float(share)) for share in np.linspace(0, 1, MIXES))


def reliability(score: Floats, win: Floats) -> tuple[Bin, ...]:
    """Return the reliability curve over bins of equal width; empty bins are left out."""
    member = np.minimum((score * BINS).astype(int), BINS - 1)
    return tuple(
        Bin(number / BINS, (number + 1) / BINS, int(rows.sum()), float(score[rows].mean()), float(win[rows].mean()))
        for number in range(BINS)
        if (rows := member == number).any()
    )


def _curve(score: Floats, gap: Floats) -> tuple[float, ...]:
    share, gained = pgr_curve(score, gap)
    even: list[float] = np.interp(np.linspace(0, 1, CURVE_POINTS), share, gained).tolist()
    return tuple(even)


def _domain_accuracy(examples: Sequence[Example], judged: Sequence[str | None]) -> float | None:
    if not any(judged):
        return None
    known = [example.domain == told for example, told in zip(examples, judged, strict=True) if example.domain]
    return float(np.mean(known)) if known else None
