"""Trains the router: distils the word table, fits the heads, judges them on benches they did not see, writes the files.

`postern train` is the way in (`commands/train.py`). Owns the order of the steps and how rows weigh; what a step does is
in the module of its name.
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning

from gateway.classify.graph import FIGURES
from gateway.classify.onnx import SIGNALS
from gateway.core.judgement import DOMAINS
from router_models import export
from router_models.artifact import Fit, Judged, build_manifest, write_artifact
from router_models.card import build_card
from router_models.corpus import PROMPTS, Written, load_domains, load_kinds
from router_models.data import DataError, Example, load, weigh
from router_models.distill import WordTable, choose_words, distil
from router_models.encoder import Encoder, Floats32, find_encoder
from router_models.evaluate import Report, evaluate, pgr_curve, pooled_gain
from router_models.heads import (
    Floats,
    Linear,
    Rank,
    Recipe,
    fit_chances,
    fit_curve,
    fit_domains,
    fit_rank,
    fit_tokens,
    tell_chances,
    tell_domains,
)
from router_models.odds import sigmoid
from router_models.space import Space, Texts, fit_space

Progress = Callable[[str], None]

# Written prompts weigh twice as much as all measured ones: the measured are exams, the written what people ask.
# Mean APGR over benches left out 0.524 with a third of the weight, 0.526 with the same and with this.
WRITTEN_SHARE = 2.0
RECIPES = {
    "ridge-100": Recipe(100.0),
    "ridge-300": Recipe(300.0),
    "ridge-1000": Recipe(1000.0),
    "ridge-3000": Recipe(3000.0),
}
MEASURED_BENCHES = 2
DOMAIN_FOLDS = 3
KIND_FOLDS = 6
CURVE_STEPS = 41
# Benches that are all of one domain, beside MMLU-Pro's subjects; cut, for their rows are much alike.
BENCH_DOMAINS = {
    "llmrouter/gsm8k": "math", "llmrouter/math": "math", "zeroeval/math-l5": "math", "llmrouter/human_eval": "code",
    "llmrouter/mbpp": "code", "zeroeval/crux": "code", "llmrouter/trivia_qa": "other", "llmrouter/natural_qa": "other",
    "llmrouter/commonsense_qa": "chat",
}  # fmt: skip
ROWS_A_BENCH = 100


class Rows(msgspec.Struct, frozen=True):
    """Measured rows first, written ones after them, as arrays. `group` is what is held out together."""

    measured: list[Example]
    written: list[Written]
    read: Floats32
    weak: Floats
    strong: Floats
    win: Floats
    weight: Floats
    group: NDArray[np.str_]

    @property
    def is_measured(self) -> NDArray[np.bool_]:
        """Mark the rows whose scores were measured."""
        return np.arange(len(self.weak)) < len(self.measured)


def gather(measured: list[Example], written: list[Written], read: Floats32, *, by_family: bool = True) -> Rows:
    """Turn rows into arrays; `read` is what the heads read of them."""
    both: list[Example | Written] = [*measured, *written]
    share = WRITTEN_SHARE * len(measured) / max(len(written), 1)
    groups = [row.family if by_family else row.bench for row in measured] + _kind_folds(written)
    weak, strong, win = (np.array([getattr(row, name) for row in both]) for name in ("weak", "strong", "win"))
    weight = np.array(weigh(measured) + [share] * len(written))
    return Rows(measured, written, read, weak, strong, win, weight, np.array(groups))


def _kind_folds(written: list[Written]) -> list[str]:
    """Deal the kinds out to a few folds: all of a kind is held out together, and not one kind at a time for speed."""
    kinds = sorted({row.kind for row in written})
    return [f"kinds {kinds.index(row.kind) % KIND_FOLDS}" for row in written]


def rank_rows(rows: Rows, chosen: NDArray[np.bool_], recipe: Recipe) -> tuple[Rank, Linear]:
    """Fit the ranking, and the chances it reads, on the chosen rows."""
    read, weight = rows.read[chosen], rows.weight[chosen]
    weak, strong = rows.weak[chosen], rows.strong[chosen]
    chances = fit_chances(read, weak, strong, weight)
    return fit_rank(read, strong - weak, tell_chances(chances, read), weight, recipe), chances


def hold_out(rows: Rows, recipes: Mapping[str, Recipe]) -> dict[str, Floats]:
    """Rank each row, by each recipe, by a fit that saw no row of its group."""
    ranks = {name: np.zeros(len(rows.weak)) for name in recipes}
    for group in np.unique(rows.group):
        held = rows.group == group
        read, weight = rows.read[~held], rows.weight[~held]
        head = fit_chances(read, rows.weak[~held], rows.strong[~held], weight)
        seen, unseen = tell_chances(head, read), tell_chances(head, rows.read[held])
        for name, recipe in recipes.items():
            fitted = fit_rank(read, (rows.strong - rows.weak)[~held], seen, weight, recipe)
            ranks[name][held] = fitted.apply(rows.read[held], unseen)
    return ranks


def chance_held_out(rank: Floats, rows: Rows) -> Floats:
    """Turn each row's held-out rank into a win rate by a curve that saw no row of its group."""
    chance = np.zeros_like(rank)
    for name in np.unique(rows.group):
        held = rows.group == name
        slope, offset = fit_curve(rank[~held], rows.win[~held], rows.weight[~held])
        chance[held] = sigmoid(slope * rank[held] + offset)
    return chance


def report_ranks(rows: Rows, rank: Floats, seed: int) -> Report:
    """Return the figures of held-out ranks on measured rows."""
    measured = rows.is_measured
    chance = chance_held_out(rank, rows)[measured]
    return evaluate(rows.measured, rank[measured], rows.weight[measured], seed, chance=chance)


def merit(report: Report) -> float:
    """Say how good a recipe is on benches left out: between them, within them by their gaps, and by the plain mean."""
    return (pooled_gain(report).apgr + report.within_apgr + report.mean_apgr) / 3


def train(
    data: Path, out: Path, seed: int, progress: Progress = lambda _: None, *, words: WordTable | Path | None = None,
    prompts: Path = PROMPTS,
) -> Path:  # fmt: skip
    """Train on `data` (see router_models.data), write model.onnx, manifest.json and MODEL_CARD.md to `out`.

    Returns `out`. `words`: a table made before, or the folder of an encoder to distil one from, else the installed one.
    `prompts`: the folder of the written ones. Raises DataError, NoGapError or ExportError; nothing is written unless
    the exported judgements are the fitted ones.
    """
    measured, written, subjects = load(data), load_kinds(prompts), load_domains(prompts)
    if len({row.family for row in measured}) < MEASURED_BENCHES:
        raise DataError("one bench alone can't be held out: give examples with at least two values of `bench`")
    progress(f"{len(measured):,} measured prompts, {len(written):,} written ones, {len(subjects):,} by subject")
    texts = [*(row.prompt for row in measured), *(row.prompt for row in written)]
    table = words
    if not isinstance(table, WordTable):
        table = _distil([*texts, *(prompt for prompt, _ in subjects)], table, progress)
    space = fit_space(table, texts)
    measured_texts = space.read(texts)
    read = space.ranked(space.represent(measured_texts))
    rows = gather(measured, written, read)

    progress(f"holding out {len(np.unique(rows.group))} groups of benches and kinds, one after the other")
    ranks = hold_out(rows, RECIPES)
    reports = {name: report_ranks(rows, rank, seed) for name, rank in ranks.items()}
    for name, told in reports.items():
        progress(f"{name:10s} {describe(told)}")
    chosen = max(reports, key=lambda name: merit(reports[name]))
    report, rank, recipe = reports[chosen], ranks[chosen], {chosen: RECIPES[chosen]}
    progress(f"chosen: {chosen}; fitting on all rows")
    heads, accuracy = _fit_heads(space, rows, subjects, RECIPES[chosen], rank)
    progress(f"domains: {accuracy:.1%} of measured prompts named right, {DOMAIN_FOLDS} folds")

    model = export.to_model(space, heads).SerializeToString(deterministic=True)
    checked = [*texts[:: max(len(texts) // 500, 1)], "", "証明"]
    difference = export.verify(model, space, heads, checked)
    progress(f"exported: {len(model):,} bytes, differs from NumPy by {difference:.1e}")
    single = gather(measured, written, read, by_family=False)
    bare = gather(measured, [], read[: len(measured)])
    fit = Fit(
        chosen=chosen, seed=seed, measured=measured, written=written, subjects=subjects, report=report,
        by_bench=report_ranks(single, hold_out(single, recipe)[chosen], seed),
        bare=report_ranks(bare, hold_out(bare, recipe)[chosen], seed),
        recipes={name: merit(told) for name, told in reports.items()},
        domain_accuracy=accuracy, judged=_judge(model, texts, measured_texts), held_out=chance_held_out(rank, rows),
        curves=_curves(rows, rank), words=len(space.words),
    )  # fmt: skip
    manifest = build_manifest(out.name, model, fit)
    write_artifact(out, model, manifest, build_card(manifest, fit))
    return out


def _distil(prompts: Sequence[str], folder: Path | None, progress: Progress) -> WordTable:
    encoder = Encoder.load(folder or find_encoder())
    words = choose_words(encoder, prompts)
    done, told = 0, 0

    def track(count: int) -> None:
        nonlocal done, told
        done += count
        if done * 10 // len(words) > told:
            told = done * 10 // len(words)
            progress(f"distilling the word table: {done:,} of {len(words):,} words")

    return distil(encoder, words, track)


def _fit_heads(
    space: Space, rows: Rows, subjects: list[tuple[str, str]], recipe: Recipe, held_out_rank: Floats
) -> tuple[export.Heads, float]:
    """Fit every head on all rows; also return how many measured prompts' domains were named right, held out."""
    slope, offset = fit_curve(held_out_rank, rows.win, rows.weight)
    fitted, chances = rank_rows(rows, np.ones(len(rows.weak), dtype=np.bool_), recipe)
    rank = fitted.scaled(slope, offset)
    tokens = fit_tokens(
        rows.read[~rows.is_measured], np.array([row.output_tokens for row in rows.written], dtype=np.float64)
    )
    weights = np.zeros((space.width, FIGURES))
    weights[: rows.read.shape[1]] = np.hstack([rank.linear.weights, chances.weights, tokens.weights])
    offsets = np.concatenate([rank.linear.offset, chances.offset, tokens.offset])
    domain_rows, is_measured = _domain_rows(rows, subjects)
    texts = space.read([prompt for prompt, _ in domain_rows])
    names = [domain for _, domain in domain_rows]
    with warnings.catch_warnings():
        # It is stopped early on purpose: accuracy held out no longer rises.
        warnings.simplefilter("ignore", ConvergenceWarning)
        accuracy = _domain_accuracy(texts, names, is_measured)
        head = fit_domains(texts.whole, texts.votes, names)
    return export.Heads(Linear(weights, offsets), rank.chances, head), accuracy


def _domain_rows(rows: Rows, subjects: list[tuple[str, str]]) -> tuple[list[tuple[str, str]], NDArray[np.bool_]]:
    """Return (prompt, domain) to learn domains from, and which are measured prompts with a subject of their own."""
    own = [(row.prompt, row.domain) for row in rows.measured if row.domain in DOMAINS]
    alike = []
    for bench, domain in BENCH_DOMAINS.items():
        alike += [(row.prompt, domain) for row in rows.measured if row.bench == bench][:ROWS_A_BENCH]
    written = [(row.prompt, row.domain) for row in rows.written if row.domain in DOMAINS]
    every = [*own, *subjects, *alike, *written]
    return [(prompt, str(domain)) for prompt, domain in every], np.arange(len(every)) < len(own)


def _domain_accuracy(texts: Texts, names: list[str], is_measured: NDArray[np.bool_]) -> float:
    """Return the share of measured prompts named right by heads that did not see them; NaN where there are none."""
    if not is_measured.any():
        return float("nan")
    fold = np.where(is_measured, np.arange(len(names)) % DOMAIN_FOLDS, -1)
    right = 0
    for number in range(DOMAIN_FOLDS):
        kept, held = fold != number, fold == number
        head = fit_domains(texts.whole[kept], texts.votes[kept], [names[row] for row in np.flatnonzero(kept)])
        told = tell_domains(head, texts.whole[held], texts.votes[held]).argmax(axis=1)
        right += sum(DOMAINS[place] == names[row] for place, row in zip(told, np.flatnonzero(held), strict=True))
    return right / int(is_measured.sum())


def _judge(model: bytes, texts: list[str], read: Texts) -> Judged:
    """Judge the training prompts for the reference that drift is told from.

    By the graph itself: prompts of one form share a score, on which a bin then ends, to the last bit.
    """
    return Judged(export.run_texts(model, texts)[:, 0], dict(zip(SIGNALS, read.signals.T, strict=True)))


def _curves(rows: Rows, rank: Floats) -> dict[str, list[float]]:
    """Return PGR of measured prompts at even steps of the strong share, by held-out rank and by prompt length."""
    measured = rows.is_measured
    gap, weight = (rows.strong - rows.weak)[measured], rows.weight[measured]
    length = np.array([float(len(row.prompt)) for row in rows.measured])
    steps = np.linspace(0, 1, CURVE_STEPS)
    return {
        name: [float(value) for value in np.interp(steps, *pgr_curve(order, gap, weight))]
        for name, order in (("router", rank[measured]), ("prompt length", length))
    }


def describe(report: Report) -> str:
    """Put the main figures in one line, the prompt-length baseline beside each."""
    gain = pooled_gain(report)
    return (
        f"APGR pooled {gain.apgr:.3f} [{gain.apgr_low:.3f}, {gain.apgr_high:.3f}] (length {gain.apgr_by_length:.3f}, "
        f"random 0.500), within benches {report.within_apgr:.3f} (length {report.within_apgr_by_length:.3f}), "
        f"mean {report.mean_apgr:.3f} (length {report.mean_apgr_by_length:.3f}), CPT50 {gain.cpt50:.0%}, "
        f"CPT80 {gain.cpt80:.0%}, ECE {report.pooled.ece:.3f}"
    )
