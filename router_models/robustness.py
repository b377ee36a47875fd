"""Measures how easily a router is fooled: how often a change that asks for nothing else flips its decision.

Takes any function from conversation to judgement. Changes come from `perturb`, the worst prefix from `gadget`.
"""

import random
from collections.abc import Callable, Iterable, Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from gateway.core.judgement import Judgement
from gateway.schema.conversation import Conversation, Turn
from router_models import gadget
from router_models.evaluate import threshold_for_share
from router_models.perturb import CASES, SPACES, Change, Probes, add_typos, around, before, load_probes, padded

TYPO_DRAWS = 3

Judge = Callable[[Conversation], Judgement]
Score = Callable[[str], float]
Pairs = Iterable[tuple[str, str]]


class Flips(msgspec.Struct, frozen=True):
    """What changes of one kind do to decisions.

    `flips`: share of pairs whose decision differs. `up`: share of weak-side prompts that go to the strong side after
    the change (what an attacker wants); `down`: share of strong-side ones that go to the weak side. Shifts are of the
    score, without sign.
    """

    kind: str
    pairs: int
    flips: float
    up: float
    down: float
    mean_shift: float
    max_shift: float


class Report(msgspec.Struct, frozen=True):
    """Flips of each kind at one threshold; `worst_prefix` is what the search found, measured on other prompts."""

    threshold: float
    strong_share: float
    prompts: int
    kinds: tuple[Flips, ...]
    worst_prefix: str | None

    def of(self, kind: str) -> Flips:
        """Return the flips of a kind."""
        return next(flips for flips in self.kinds if flips.kind == kind)


def report(  # noqa: PLR0913  # each is a choice of the reader's
    judge: Judge, *, prompts: Sequence[str] | None = None, threshold: float | None = None, strong_share: float = 0.3,
    seed: int = 7, search_steps: int = gadget.STEPS, progress: gadget.Progress = iter,
) -> Report:  # fmt: skip
    """Measure a router. `judge` is a classifier's.

    `prompts`: those that are changed; default: the hand-written ones. Without a `threshold`, the one that sends
    `strong_share` of them to the strong side. `search_steps` 0 leaves the search for the worst prefix out.
    """
    probes, rng = load_probes(), random.Random(seed)  # noqa: S311  # repeatable, not secret
    base = list(prompts) if prompts else written_prompts(probes)

    def score(text: str) -> float:
        return judge(Conversation((Turn("user", text),))).score

    scores = np.array([score(text) for text in base])
    cut = threshold_for_share(scores, strong_share) if threshold is None else threshold
    share = float(np.mean(scores >= cut))
    kinds = [flips(kind, score, pairs, cut) for kind, pairs in change_pairs(base, probes, rng).items()]
    prefix = None
    if search_steps:
        prefix, found = search_gadget(score, base, cut, rng, search_steps, progress)
        kinds.append(found)
    return Report(cut, share, len(base), tuple(kinds), prefix)


def written_prompts(probes: Probes) -> list[str]:
    """Return the hand-written prompts, one wording of each, in English."""
    return [one.prompt for one in probes.paraphrases] + [one["en"] for one in probes.translations]


def change_pairs(base: Sequence[str], probes: Probes, rng: random.Random) -> dict[str, Pairs]:
    """Return (prompt, changed prompt) pairs by kind of change."""

    def each(changes: Iterable[Change]) -> Pairs:
        return [(text, change(text)) for change in changes for text in base]

    added = probes.additions
    return {
        "typos": [(text, add_typos(text, rng)) for _ in range(TYPO_DRAWS) for text in base],
        "case": each(CASES),
        "spaces": each(SPACES),
        "paraphrase": [(one.prompt, one.paraphrase) for one in probes.paraphrases],
        "translation": [
            (one["en"], text) for one in probes.translations for language, text in one.items() if language != "en"
        ],
        "padding": each(padded(added.padding)),
        "instructions": each(around(added.instructions)),
        "known gadgets": each(before(added.gadgets)),
    }


def flips(kind: str, score: Score, pairs: Pairs, threshold: float) -> Flips:
    """Compare the decisions on both texts of each pair. `score >= threshold` is the strong side (contract)."""
    kept: dict[str, float] = {}

    def once(text: str) -> float:
        if text not in kept:
            kept[text] = score(text)
        return kept[text]

    first, second = np.array([(once(text), score(changed)) for text, changed in pairs]).T
    was, is_strong = first >= threshold, second >= threshold
    shift = np.abs(second - first)
    return Flips(
        kind, len(first), float(np.mean(was != is_strong)), _share(is_strong[~was]), _share(~is_strong[was]),
        float(shift.mean()), float(shift.max()),
    )  # fmt: skip


def _share(marks: NDArray[np.bool_]) -> float:
    return float(marks.mean()) if len(marks) else 0.0


def search_gadget(  # the search's own choices
    score: Score, base: Sequence[str], threshold: float, rng: random.Random, steps: int, progress: gadget.Progress
) -> tuple[str, Flips]:
    """Search on half of the weak-side prompts, measure on all others: a gadget must work where it was not fitted."""
    weak = [text for text in base if score(text) < threshold]
    rng.shuffle(weak)
    seen = weak[: max(1, min(len(weak) // 2, 24))] or list(base[:24])
    prefix = gadget.search_prefix(score, seen, rng, steps, progress)
    others = [text for text in base if text not in set(seen)] or seen
    return prefix, flips("searched gadget", score, [(text, f"{prefix} {text}") for text in others], threshold)


def tell(found: Report) -> str:
    """Lay a report out as a Markdown table."""
    head = (
        f"{found.prompts} prompts, threshold {found.threshold:.3f} (strong share {found.strong_share:.0%}). "
        "up: of weak-side prompts, now strong; down: of strong-side ones, now weak.\n\n"
        "| change | pairs | flips | up | down | mean shift | max shift |\n|---|---|---|---|---|---|---|\n"
    )
    rows = "\n".join(
        f"| {one.kind} | {one.pairs} | {one.flips:.1%} | {one.up:.1%} | {one.down:.1%} | {one.mean_shift:.3f} "
        f"| {one.max_shift:.3f} |"
        for one in found.kinds
    )
    tail = "" if found.worst_prefix is None else f"\n\nSearched gadget: `{found.worst_prefix}`"
    return head + rows + tail
