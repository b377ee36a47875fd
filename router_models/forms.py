"""Reads rows published by others as examples: RouteLLM's judged prompts and battles, RouterBench's table.

Column names are those of `routellm/gpt4_dataset`, `lmsys/lmsys-arena-human-preference-55k` and
`withmartian/routerbench`. None of that data is here or fetched: files are read by path.
"""

import ast
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from statistics import fmean
from typing import Any

import msgspec

from router_models.example import DataError, Example, Pair
from router_models.records import Row, place
from router_models.sides import win_rate

TOTAL_COST = "|total_cost"
# RouteLLM counts 4 and 5 as good enough (arXiv 2406.18665): the strong side wins from 3 down.
GOOD_MARK = 4
EXPECTED_BATTLE = "expected `model_a`, `model_b`, and `winner_model_a`, `winner_model_b`, `winner_tie` of 0 and 1"

Load = Callable[[Path, list[Row], Pair | None], list[Example]]


def load_judged(path: Path, rows: list[Row], _: Pair | None) -> list[Example]:
    """Read GPT-4's marks, 1 to 5, of Mixtral's answers. GPT-4's own answer counts as a 5, as RouteLLM counts it."""
    examples = []
    for number, row in enumerate(rows, start=1):
        mark = row.get("mixtral_score")
        if not isinstance(mark, int | float) or not 1 <= mark <= 5 or not isinstance(row.get("prompt"), str):
            raise DataError(f"{place(path, number, row)}: expected a `prompt` and a `mixtral_score` from 1 to 5")
        source = row.get("source")
        bench = str(source[0] if isinstance(source, list) and source else source or "judged")
        win = float(mark < GOOD_MARK)
        examples.append(Example(row["prompt"], bench, "routellm", (mark - 1) / 4, 1.0, win))
    return examples


def load_battles(path: Path, rows: list[Row], pair: Pair | None) -> list[Example]:
    """Read battles between two models: 1 for the preferred answer, a half each for a tie. Needs a pair."""
    fighters = Counter(str(row.get(side)) for row in rows for side in ("model_a", "model_b"))
    if pair is None:
        raise DataError(f"{path}: battles of {len(fighters)} models: {ask_pair(fighters)}")
    examples = []
    for number, row in enumerate(rows, start=1):
        try:
            side = {str(row["model_a"]): _marks(row, "a"), str(row["model_b"]): _marks(row, "b")}
        except (KeyError, ValueError, TypeError) as error:
            raise DataError(f"{place(path, number, row)}: {EXPECTED_BATTLE}") from error
        weak = [mark for name, mark in side.items() if name in pair.weak]
        strong = [mark for name, mark in side.items() if name in pair.strong]
        if weak and strong:
            prompt = _last_text(row.get("prompt"))
            if prompt is None:
                raise DataError(f"{place(path, number, row)}: expected a `prompt`: a JSON list of the user's turns")
            win = float(strong[0] > weak[0])
            examples.append(Example(prompt, "battles", "battles", weak[0], strong[0], win))
    if not examples:
        raise DataError(f"{path}: no battle between {pair.weak} and {pair.strong}; {ask_pair(fighters)}")
    return examples


def _marks(row: Row, side: str) -> float:
    return 0.5 if int(row.get("winner_tie") or 0) else float(row[f"winner_model_{side}"] or 0)


def load_routerbench(path: Path, rows: list[Row], pair: Pair | None) -> list[Example]:
    """Read RouterBench's table: a column a model with its score, and its cost beside it. Needs a pair."""
    models = sorted(name.removesuffix(TOTAL_COST) for name in rows[0] if name.endswith(TOTAL_COST))
    if pair is None:
        raise DataError(f"{path}: {ask_pair(models)}")
    examples = []
    for number, row in enumerate(rows, start=1):
        scores = {name: _number(row.get(name)) for name in models}
        cut = cut_pair({name: score for name, score in scores.items() if score is not None}, pair)
        if cut is None:
            continue
        prompt = _last_text(row.get("prompt"))
        if prompt is None or max(cut) > 1:
            raise DataError(f"{place(path, number, row)}: expected a `prompt`, and scores from 0 to 1")
        costs = {name: _number(row.get(name + TOTAL_COST)) for name in models}
        weak_cost, strong_cost = (_mean_of(costs, side) for side in (pair.weak, pair.strong))
        bench = str(row.get("eval_name") or "routerbench")
        examples.append(
            Example(prompt, bench, "routerbench", *cut, weak_cost_usd=weak_cost, strong_cost_usd=strong_cost)
        )
    if not examples:
        raise DataError(f"{path}: no row has scores of both {pair.weak} and {pair.strong}; {ask_pair(models)}")
    return examples


def cut_pair(scores: dict[str, float], pair: Pair) -> tuple[float, float, float] | None:
    """Return (weak, strong, win rate) of a pair cut from all models' scores; None where a side has no score."""
    weak = [scores[name] for name in pair.weak if name in scores]
    strong = [scores[name] for name in pair.strong if name in scores]
    return (fmean(weak), fmean(strong), win_rate(weak, strong)) if weak and strong else None


def ask_pair(models: Iterable[str]) -> str:
    """Say which models a pair can be cut from: the most frequent first where they are counted."""
    known = [name for name, _ in models.most_common()] if isinstance(models, Counter) else sorted(models)
    return "name a pair with --weak MODEL --strong MODEL, of: " + ", ".join(known[:40])


def _number(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if 0 <= number < float("inf") else None


def _mean_of(values: dict[str, float | None], names: tuple[str, ...]) -> float | None:
    known = [value for name in names if (value := values.get(name)) is not None]
    return fmean(known) if known else None


def _last_text(prompt: Any) -> str | None:
    """Return the last turn of a list of turns, which both sources write as text: as JSON, or as Python does."""
    turns = prompt
    if isinstance(prompt, str):
        turns = [prompt]
        if prompt.startswith("["):
            turns = _listed(prompt)
    texts = [turn for turn in turns if isinstance(turn, str)] if isinstance(turns, list) else []
    return texts[-1] if texts else None


def _listed(text: str) -> list[Any]:
    for read in (msgspec.json.decode, ast.literal_eval):
        try:
            found = read(text)
        except (ValueError, SyntaxError, MemoryError, RecursionError, msgspec.DecodeError):
            continue
        if isinstance(found, list):
            return found
    return [text]
