"""Figures of a router, as RouteLLM defines them (arXiv 2406.18665, section 4.1), with baselines beside them.

PGR at a share of strong calls: (score of the mix - weak) / (strong - weak). APGR: the area under PGR over the share
from 0 to 1; a random router has 0.5. CPT(x): the smallest share of strong calls with PGR >= x. Prompts with equal
router scores are mixed in expectation, so a constant router is exactly random.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress

import msgspec
import numpy as np
from numpy.typing import NDArray

from router_models.data import Example

Floats = NDArray[np.float64]


class NoGapError(ValueError):
    """There is no gap to recover, so no PGR."""


# PGR divides by the gap: below this, a few rows decide its sign.
MIN_GAP = 0.02
CLEAR_GAP = 0.05


class Gain(msgspec.Struct, frozen=True):
    """How a router shares the strong calls out, with the 95% interval of its APGR and the prompt-length baseline."""

    apgr: float
    apgr_low: float
    apgr_high: float
    apgr_by_length: float
    cpt50: float
    cpt80: float


class Figures(msgspec.Struct, frozen=True):
    """What one router does on one set of prompts. `gain` is None where strong is not better than weak by MIN_GAP."""

    rows: int
    weak: float
    strong: float
    ece: float
    gain: Gain | None

    @property
    def gap(self) -> float:
        """What always asking the strong side gains over never asking it."""
        return self.strong - self.weak


def pgr_curve(score: Floats, gap: Floats, weight: Floats | None = None) -> tuple[Floats, Floats]:
    """Return (share of strong calls, PGR), both from 0 to 1, sending the highest scores to the strong side first."""
    weights = np.ones_like(gap) if weight is None else weight
    _, group = np.unique(-score, return_inverse=True)
    share = np.cumsum(np.bincount(group, weights=weights)) / weights.sum()
    total = (weights * gap).sum()
    if total <= 0:
        raise NoGapError("the strong side is not better than the weak one on these prompts: PGR is not defined")
    gained = np.cumsum(np.bincount(group, weights=weights * gap)) / total
    return np.concatenate(([0.0], share)), np.concatenate(([0.0], gained))


def apgr(score: Floats, gap: Floats, weight: Floats | None = None) -> float:
    """Return the area under the PGR curve."""
    share, gained = pgr_curve(score, gap, weight)
    return float(np.trapezoid(gained, share))


def cpt(score: Floats, gap: Floats, level: float, weight: Floats | None = None) -> float:
    """Return the smallest share of strong calls at which PGR reaches `level` (0 to 1)."""
    return cpt_on(*pgr_curve(score, gap, weight), level)


def cpt_on(share: Floats, gained: Floats, level: float) -> float:
    """Return the smallest share at which a PGR curve reaches `level`."""
    reached = int(np.argmax(gained >= level))
    if gained[reached] < level:
        return 1.0
    if reached == 0:
        return 0.0
    low, high = gained[reached - 1], gained[reached]
    return float(share[reached - 1] + (share[reached] - share[reached - 1]) * (level - low) / (high - low))


def calibration_error(score: Floats, win: Floats, weight: Floats | None = None, bins: int = 10) -> float:
    """Return the expected calibration error: the mean distance of score and win rate over `bins` equal-width bins."""
    weights = np.ones_like(win) if weight is None else weight
    member = np.minimum((score * bins).astype(int), bins - 1)
    difference = np.bincount(member, weights=weights * (score - win), minlength=bins)
    return float(np.abs(difference).sum() / weights.sum())


def bootstrap(
    figure: Callable[[NDArray[np.int64]], float], rows: int, rng: np.random.Generator, rounds: int = 200
) -> tuple[float, float]:
    """Return the 95% percentile interval of `figure`, which is given resampled row numbers."""
    drawn = []
    for _ in range(rounds):
        # A draw in which the strong side loses has no PGR; it is left out.
        with suppress(NoGapError):
            drawn.append(figure(rng.integers(0, rows, rows)))
    low, high = np.percentile(drawn, [2.5, 97.5])
    return float(low), float(high)


def measure(  # noqa: PLR0913  # one column of the evaluation table an argument
    score: Floats, weak: Floats, strong: Floats, win: Floats, length: Floats, *,
    rng: np.random.Generator, weight: Floats | None = None, chance: Floats | None = None,
) -> Figures:  # fmt: skip
    """Measure a router's scores on prompts with these side means, win rates and lengths in characters.

    `chance` is the calibrated score where `score` itself is only a rank.
    """
    weights = np.ones_like(win) if weight is None else weight
    gap = strong - weak
    weak_mean, strong_mean = (float(np.average(side, weights=weights)) for side in (weak, strong))
    gain = None
    if strong_mean - weak_mean >= MIN_GAP:
        low, high = bootstrap(lambda rows: apgr(score[rows], gap[rows], weights[rows]), len(gap), rng)
        gain = Gain(
            apgr=apgr(score, gap, weights), apgr_low=low, apgr_high=high, apgr_by_length=apgr(length, gap, weights),
            cpt50=cpt(score, gap, 0.5, weights), cpt80=cpt(score, gap, 0.8, weights),
        )  # fmt: skip
    return Figures(
        len(gap), weak_mean, strong_mean, calibration_error(score if chance is None else chance, win, weights), gain
    )


def mean_within(figures: Sequence[Figures]) -> tuple[float, float]:
    """Return (router, prompt length) APGR within benches, each weighing by its gap; NaN where none has any."""
    gains = [(figure.gap, figure.gain) for figure in figures if figure.gain is not None]
    if not gains:
        return float("nan"), float("nan")
    gaps = np.array([gap for gap, _ in gains])
    router = np.array([gain.apgr for _, gain in gains])
    length = np.array([gain.apgr_by_length for _, gain in gains])
    return float(router @ gaps / gaps.sum()), float(length @ gaps / gaps.sum())


def mean_of(figures: Sequence[Figures]) -> tuple[float, float]:
    """Return (router, prompt length) APGR averaged over benches with a clear gap; NaN where there is none."""
    gains = [figure.gain for figure in figures if figure.gain is not None and figure.gap >= CLEAR_GAP]
    if not gains:
        return float("nan"), float("nan")
    return float(np.mean([gain.apgr for gain in gains])), float(np.mean([gain.apgr_by_length for gain in gains]))


def threshold_for_share(score: Floats, share: float) -> float:
    """Return the threshold that sends about `share` (0 to 1) of these prompts to the strong side.

    It holds for traffic like these prompts only: fixed thresholds don't travel from one mix of prompts to another.
    """
    return float(np.quantile(score, 1.0 - share))


class Report(msgspec.Struct, frozen=True):
    """Figures of one router on a labelled set: all rows together, and each bench alone.

    `within`: the benches' APGRs averaged by their gaps. `mean`: averaged plainly, over benches with a gap of at least
    CLEAR_GAP, as a smaller one makes an APGR of a few rows. `over_length`: the pooled APGR less that of prompt length,
    with its 95% interval over families of benches drawn anew: what other benchmarks may show. Over rows alone it would
    be the interval of more rows of the same benches.
    """

    pooled: Figures
    benches: dict[str, Figures]
    within_apgr: float
    within_apgr_by_length: float
    mean_apgr: float
    mean_apgr_by_length: float
    over_length: tuple[float, float, float]


def evaluate(
    examples: Sequence[Example], score: Floats, weight: Floats, seed: int, *, chance: Floats | None = None
) -> Report:
    """Measure scores of these examples, given in their order, pooled (rows weighing `weight`) and bench by bench.

    Give the calibrated scores as `chance` where `score` is only a rank.
    """
    calibrated = score if chance is None else chance
    rng = np.random.default_rng(seed)
    weak, strong, win = (np.array([getattr(row, side) for row in examples]) for side in ("weak", "strong", "win"))
    length = np.array([float(len(row.prompt)) for row in examples])
    bench = np.array([row.bench for row in examples])

    def part(rows: NDArray[np.bool_], weights: Floats | None) -> Figures:
        return measure(
            score[rows], weak[rows], strong[rows], win[rows], length[rows],
            rng=rng, weight=weights, chance=calibrated[rows],
        )  # fmt: skip

    benches = {str(name): part(bench == name, None) for name in np.unique(bench)}
    every = list(benches.values())
    pooled = part(np.ones(len(win), dtype=np.bool_), weight)
    family = np.array([row.family for row in examples])
    lead = over_length(score, strong - weak, length, weight, family, rng)
    return Report(pooled, benches, *mean_within(every), *mean_of(every), lead)


def over_length(  # what an APGR is of, and what is drawn
    score: Floats, gap: Floats, length: Floats, weight: Floats, family: NDArray[np.str_], rng: np.random.Generator
) -> tuple[float, float, float]:
    """Return by how much APGR leads that of prompt length, and its 95% interval over families drawn anew.

    NaN where the strong side gains nothing.
    """
    members = [np.flatnonzero(family == name) for name in np.unique(family)]

    def lead(families: NDArray[np.int64]) -> float:
        rows = np.concatenate([members[one] for one in families])
        return apgr(score[rows], gap[rows], weight[rows]) - apgr(length[rows], gap[rows], weight[rows])

    try:
        return (lead(np.arange(len(members))), *bootstrap(lead, len(members), rng))
    except NoGapError:
        return float("nan"), float("nan"), float("nan")


def pooled_gain(report: Report) -> Gain:
    """Return the pooled gain. Raises NoGapError where the data's strong side is no better than its weak side."""
    if report.pooled.gain is None:
        raise NoGapError(f"strong is better than weak by {report.pooled.gap:.3f}: there is nothing to route for")
    return report.pooled.gain
