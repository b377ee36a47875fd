"""Loads prompts with the scores models had on them. Holds no data: files are read by path, never copied.

The forms are told apart by their columns and described in README.md: our own, the shared routing pool, RouteLLM's
judged prompts and battles, RouterBench's table, Postern's learning log.
"""

from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import msgspec

from gateway.api.body import decode_body
from gateway.core.errors import PosternError
from gateway.schema.conversation import Conversation
from gateway.schema.request import Operation
from router_models import traffic_log
from router_models.example import DataError, Example, Pair
from router_models.forms import ask_pair, cut_pair, load_battles, load_judged, load_routerbench
from router_models.records import Row, place, read_rows
from router_models.sides import STRONG_SIDE, WEAK_SIDE, side_scores, win_rate

__all__ = ["POOL_NAME", "DataError", "Example", "Pair", "load", "load_prompts", "weigh"]

POOL_NAME = "routing_pool.parquet"
# The pool writes its means with three decimals or more.
MEAN_TOLERANCE = 2e-3

Score = Annotated[float, msgspec.Meta(ge=0, le=1)]


class _Own(msgspec.Struct, frozen=True):
    """A row of our own form. Parquet gives null for what a row lacks."""

    prompt: str | None = None
    messages: list[dict[str, Any]] | None = None
    tools: list[dict[str, Any]] | None = None
    weak: Score | None = None
    strong: Score | None = None
    bench: str | None = None
    domain: str | None = None
    language: str | None = None
    scores: dict[str, Score | None] | None = None
    weak_cost_usd: float | None = None
    strong_cost_usd: float | None = None


class _Pooled(msgspec.Struct, frozen=True):
    """A row of the pool. `scores` is JSON."""

    source: str
    bench: str
    id: str | int
    prompt: str
    weak: Score
    strong: Score
    scores: str


def load(path: Path, pair: Pair | None = None) -> list[Example]:
    """Read a file, or a folder that holds POOL_NAME. `pair` cuts two models from rows that tell the scores of many.

    Raises DataError with the row or line at fault, or with the models a pair can be cut from.
    """
    path = _file(path)
    rows = read_rows(path)
    columns = frozenset().union(*(row.keys() for row in rows[:100]))
    if {"source", "bench", "id", "scores"} <= columns:
        return _load_pool(path, rows, pair)
    if "mixtral_score" in columns:
        return load_judged(path, rows, pair)
    if "winner_model_a" in columns:
        return load_battles(path, rows, pair)
    if any(name.endswith("|total_cost") for name in columns):
        return load_routerbench(path, rows, pair)
    if {"kind", "request_id"} <= columns:
        return traffic_log.load_marked(path, rows, pair)
    return _load_own(path, rows, pair)


def _file(path: Path) -> Path:
    path = path / POOL_NAME if path.is_dir() else path
    if not path.is_file():
        raise DataError(f"{path}: no such file; give a folder with {POOL_NAME}, a .parquet, .csv or .jsonl file")
    return path


def load_prompts(path: Path) -> list[Conversation]:
    """Read what was asked, whether or not anything has a score: any form with `prompt` or `messages`, or a log."""
    path = _file(path)
    rows = read_rows(path)
    asked = []
    for number, row in enumerate(rows, start=1):
        if row.get("kind") == "feedback" or (row.get("kind") == "request" and not traffic_log.has_text(row)):
            continue
        try:
            asked.append(_asked(msgspec.convert({key: row.get(key) for key in ("prompt", "messages", "tools")}, _Own)))
        except (msgspec.ValidationError, PosternError) as error:
            raise DataError(f"{place(path, number, row)}: {error}") from error
    return asked


def _asked(line: _Own) -> Conversation:
    """Return the conversation of a row. Raises PosternError where the messages are none."""
    if line.messages is None and line.prompt is None:
        raise msgspec.ValidationError("expected `prompt` or `messages`")
    body = traffic_log.body_of({"prompt": line.prompt, "messages": line.messages, "tools": line.tools})
    return decode_body(Operation.CHAT, body).conversation


def _load_own(path: Path, rows: list[Row], pair: Pair | None) -> list[Example]:
    examples = []
    known: Counter[str] = Counter()
    for number, row in enumerate(rows, start=1):
        try:
            line = msgspec.convert(row, _Own)
            conversation = _asked(line)
        except (msgspec.ValidationError, PosternError) as error:
            raise DataError(f"{place(path, number, row)}: {error}") from error
        scores = {name: score for name, score in (line.scores or {}).items() if score is not None}
        known.update(scores.keys())
        cut = _means(line) if pair is None else cut_pair(scores, pair)
        if cut is None and pair is None:
            hint = ask_pair(scores) if scores else "expected `weak` and `strong`, or `scores` and a pair of models"
            raise DataError(f"{place(path, number, row)}: {hint}")
        if cut is not None:
            examples.append(_own(line, conversation, cut))
    if not examples:
        raise DataError(f"{path}: no row has scores of both sides; {ask_pair(known)}")
    return examples


def _means(line: _Own) -> tuple[float, float, float] | None:
    if line.weak is None or line.strong is None:
        return None
    # Only means are known: the strong side wins where it is right and the weak side is not, taken as independent.
    return line.weak, line.strong, line.strong * (1.0 - line.weak)


def _own(line: _Own, conversation: Conversation, cut: tuple[float, float, float]) -> Example:
    texts = [turn.text for turn in conversation.turns if turn.role == "user"]
    return Example(
        line.prompt if line.prompt is not None and line.messages is None else (texts or [""])[-1],
        line.bench or "own", "own", *cut,
        domain=line.domain, language=line.language,
        weak_cost_usd=line.weak_cost_usd, strong_cost_usd=line.strong_cost_usd,
        conversation=conversation if line.messages else None,
    )  # fmt: skip


def _load_pool(path: Path, rows: list[Row], pair: Pair | None) -> list[Example]:
    decoder = msgspec.json.Decoder(dict[str, Score])
    examples = []
    known: Counter[str] = Counter()
    for number, row in enumerate(rows, start=1):
        try:
            line = msgspec.convert(row, _Pooled)
            scores = decoder.decode(line.scores)
        except (msgspec.ValidationError, msgspec.DecodeError) as error:
            raise DataError(f"{place(path, number, row)}: {error}") from error
        source = line.source
        if source not in WEAK_SIDE or source not in STRONG_SIDE:
            raise DataError(f"{path}: row {line.id}: source {source!r} has no sides in sides.py")
        known.update(scores.keys())
        cut = _check_sides(path, line, scores) if pair is None else cut_pair(scores, pair)
        if cut is not None:
            bench = "vicuna80" if source == "vicuna80" else line.bench
            examples.append(Example(line.prompt, bench, source, *cut, domain=_subject(line.bench)))
    if not examples:
        raise DataError(f"{path}: no row has scores of both sides; {ask_pair(known)}")
    return examples


def _check_sides(path: Path, row: _Pooled, scores: dict[str, float]) -> tuple[float, float, float]:
    weak, strong = side_scores(row.source, scores)
    if not weak or not strong:
        raise DataError(f"{path}: row {row.bench} {row.id}: no score of one of the sides that sides.py names")
    means = (sum(weak) / len(weak), sum(strong) / len(strong))
    if max(abs(means[0] - row.weak), abs(means[1] - row.strong)) > MEAN_TOLERANCE:
        raise DataError(f"{path}: row {row.bench} {row.id}: the sides' means are not the columns' means")
    return *means, win_rate(weak, strong)


def _subject(bench: str) -> str | None:
    """Return the subject area that a bench of MMLU-Pro names itself by."""
    head, _, subject = bench.partition("/")
    return subject if head == "mmlu_pro" else None


def weigh(examples: list[Example]) -> list[float]:
    """Weigh rows so that a family of benches counts by the square root of its size, mean 1.

    Equal rows would let one benchmark's style decide everything; equal families would hand a tenth of the model to 65
    rows.
    """
    rows = Counter(example.family for example in examples)
    weights = [rows[example.family] ** -0.5 for example in examples]
    mean = sum(weights) / len(weights)
    return [weight / mean for weight in weights]
