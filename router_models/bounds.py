"""Finite-sample bounds: the cheapest threshold whose loss of quality is bounded with a stated confidence.

Learn then Test (Angelopoulos, Bates, Candes, Jordan and Lei, arXiv 2110.01052): thresholds from a fixed grid are tested
in a fixed order, from all calls strong to none, each against "the loss exceeds the bound", and the last one before the
first that fails is returned. Testing in a fixed sequence needs no correction for their number. Each test is the betting
test of Waudby-Smith and Ramdas (arXiv 2010.09686): a gambler's capital, fair if the bound were exceeded, grows past
1 / delta with a chance of at most delta (Ville). It adapts to the variance, which is small here: most prompts lose
nothing. The guarantee holds for any sample size and distribution, over prompts drawn as the labelled ones were.
"""

import math

import msgspec
import numpy as np

from router_models.evaluate import Floats

# The grid is fixed before any data is seen: one taken from the scores at hand would void the guarantee.
GRID = 400
# The largest stake, of the most that can be lost: 1 would let one unlucky prompt ruin the gambler.
MAX_STAKE = 0.75
# Resamples that tell whether a number of labels would do, and the number from which on we stop asking.
TRIES = 10
MOST_LABELS = 2_000_000
# A certified threshold that leaves less than this to the weak side saves nothing worth the name.
MIN_WEAK_SHARE = 0.01


class TooFewLabelsError(Exception):
    """Nothing can be certified from these labels. `needed` estimates how many would do; None: no number would."""

    def __init__(self, message: str, needed: int | None) -> None:
        super().__init__(message)
        self.needed = needed


class Certified(msgspec.Struct, frozen=True):
    """A threshold whose loss of quality is at most `max_loss` with confidence 1 - delta, and what was observed there.

    `hopeful`: the threshold that the observed mean alone would allow; uncertified. `needed`: labels to certify a
    threshold that lies between, estimated.
    """

    threshold: float
    max_loss: float
    delta: float
    labels: int
    weak_share: float
    observed_loss: float
    hopeful: float
    hopeful_weak_share: float


def thresholds() -> Floats:
    """Return the fixed grid, in the order of testing: `score >= 0` sends all to the strong side."""
    return np.arange(1, GRID + 1) / GRID


def losses(score: Floats, gap: Floats, threshold: float) -> Floats:
    """Return what each prompt loses against always strong: its gap where the weak side answers. From -1 to 1."""
    return np.where(score < threshold, gap, 0.0)


def refutes(loss: Floats, bound: float, delta: float) -> bool:
    """Tell whether "the mean loss is `bound` or more" is refuted at level `delta`. `loss` in its random order."""
    count = np.arange(1, len(loss) + 1)
    mean = np.cumsum(loss) / (count + 1)
    variance = (0.25 + np.cumsum((loss - mean) ** 2)) / (count + 1)
    known = np.concatenate(([0.25], variance[:-1]))  # a stake may use what came before it only
    stake = np.minimum(np.sqrt(2 * math.log(1 / delta) / (len(loss) * known)), MAX_STAKE / (1 - bound))
    capital = np.cumsum(np.log1p(stake * (bound - loss)))
    return bool(capital.max() >= math.log(1 / delta))


def certify(score: Floats, gap: Floats, max_loss: float, delta: float, rng: np.random.Generator) -> Certified:
    """Return the highest certified threshold. Raises TooFewLabelsError where that is none worth having.

    `gap`: strong less weak, -1 to 1. The labels are shuffled, as the test reads them one after the other.
    """
    order = rng.permutation(len(score))
    score, gap = score[order], gap[order]
    certified = 0.0
    for threshold in thresholds():
        if not refutes(losses(score, gap, threshold), max_loss, delta):
            break
        certified = float(threshold)
    hopeful = _last_within(score, gap, max_loss)
    if np.mean(score < certified) < MIN_WEAK_SHARE:
        raise _too_few(score, gap, max_loss, delta, rng)
    return Certified(
        certified, max_loss, delta, len(score), float(np.mean(score < certified)),
        float(losses(score, gap, certified).mean()), hopeful, float(np.mean(score < hopeful)),
    )  # fmt: skip


def _last_within(score: Floats, gap: Floats, loss: float) -> float:
    """Return the last threshold before the mean loss first exceeds `loss`."""
    last = 0.0
    for threshold in thresholds():
        if losses(score, gap, threshold).mean() > loss:
            break
        last = float(threshold)
    return last


def labels_needed(loss: Floats, bound: float, delta: float, rng: np.random.Generator) -> int | None:
    """Estimate how many labels like these refute a mean loss of `bound` in most draws. None: no number does.

    Bernstein's sample size, then more until TRIES resamples of that size nearly all pass; losses of 0 must pass too,
    as they come first in the sequence.
    """
    slack = bound - float(loss.mean())
    if slack <= 0:
        return None
    rows = math.ceil(2 * math.log(1 / delta) * (float(loss.var()) / slack**2 + 1 / (3 * slack)))
    while rows < MOST_LABELS:
        drawn = [np.zeros(rows), *(rng.choice(loss, rows) for _ in range(TRIES))]
        if sum(refutes(one, bound, delta) for one in drawn) >= TRIES and refutes(drawn[0], bound, delta):
            return rows
        rows = math.ceil(1.15 * rows)
    return None


def _too_few(score: Floats, gap: Floats, max_loss: float, delta: float, rng: np.random.Generator) -> TooFewLabelsError:
    aim = _last_within(score, gap, max_loss / 2)
    loss = losses(score, gap, aim)
    is_worth_it = np.mean(score < aim) >= MIN_WEAK_SHARE
    needed = labels_needed(loss, max_loss, delta, rng) if is_worth_it else None
    head = f"{len(score)} labels can't show that any threshold loses at most {max_loss:.2%} of quality"
    if needed is None:
        return TooFewLabelsError(
            f"{head}: wherever the weak side answers at all, it loses more than {max_loss / 2:.2%} on these labels; "
            "allow a larger loss, or fit a router to this pair (postern adapt)", None,
        )  # fmt: skip
    needed = max(needed, len(score) + 1)
    return TooFewLabelsError(
        f"{head}; about {needed} would certify threshold {aim:g}, which leaves {np.mean(score < aim):.0%} to the weak "
        "side here. Label more, allow a larger loss, or ask for less confidence", needed,
    )  # fmt: skip
