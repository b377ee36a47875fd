"""Reads Postern's learning log as examples: requests, and the marks that came for their answers.

A request was answered by one side only. What the other would have got is not known, so a weak side's mark is set
against the mean mark of the strong side's answers in the same log, and requests that the strong side answered serve
for that mean alone. That leaves a bias: the weak side answered what a router thought easy. A prompt that both sides
answered (in shadow, or asked twice) is taken at its own marks.
"""

from pathlib import Path
from statistics import fmean

import msgspec

from gateway.api.body import decode_body
from gateway.core.errors import PosternError
from gateway.schema.conversation import Conversation
from gateway.schema.request import Operation
from router_models.example import DataError, Example, Pair
from router_models.records import Row, place

# Under this the strong side's mean mark is a guess.
MIN_STRONG_MARKS = 20


class _Asked(msgspec.Struct):
    """What is known of one prompt: the marks of each side's answers."""

    conversation: Conversation
    prompt: str
    weak: list[float]
    strong: list[float]


def load_marked(path: Path, rows: list[Row], pair: Pair | None) -> list[Example]:
    """Return an example for each prompt with a mark of the weak side. Sides by tier, or by the pair's models."""
    marks = {str(row["request_id"]): _mark(path, row) for row in rows if row.get("kind") == "feedback"}
    asked: dict[bytes, _Asked] = {}
    strong_marks = []
    for number, row in enumerate(rows, start=1):
        mark, side = marks.get(str(row.get("request_id"))), _side(row, pair)
        if row.get("kind") != "request" or mark is None or side is None:
            continue
        known = _find(path, number, row, asked)
        (known.weak if side == "weak" else known.strong).append(mark)
        if side == "strong":
            strong_marks.append(mark)
    if not any(known.weak for known in asked.values()):
        raise DataError(f"{path}: no answer of the weak side has a mark; collect feedback first (POST /v1/feedback)")
    if len(strong_marks) < MIN_STRONG_MARKS:
        raise DataError(
            f"{path}: {len(strong_marks)} marks of the strong side, {MIN_STRONG_MARKS} are needed to know its mean"
        )
    expected = fmean(strong_marks)
    return [_example(known, expected) for known in asked.values() if known.weak]


def _example(known: _Asked, expected: float) -> Example:
    weak, strong = fmean(known.weak), fmean(known.strong) if known.strong else expected
    win = float(strong > weak) if known.strong else strong * (1.0 - weak)
    return Example(known.prompt, "traffic", "log", weak, strong, win, conversation=known.conversation)


def _mark(path: Path, row: Row) -> float:
    mark = row.get("mark")
    if not isinstance(mark, int | float) or not 0 <= mark <= 1:
        raise DataError(f"{path}: feedback for {row.get('request_id')}: expected a `mark` from 0 to 1")
    return float(mark)


def _side(row: Row, pair: Pair | None) -> str | None:
    if pair is None:
        tier = row.get("tier")
        return tier if tier in {"weak", "strong"} else None
    if row.get("model") in pair.weak:
        return "weak"
    return "strong" if row.get("model") in pair.strong else None


def _find(path: Path, number: int, row: Row, asked: dict[bytes, _Asked]) -> _Asked:
    messages = row.get("messages")
    if messages is None:
        if not isinstance(row.get("prompt"), str):
            raise DataError(f"{place(path, number, row)}: expected `prompt` or `messages`")
        messages = [{"role": "user", "content": row["prompt"]}]
    key = msgspec.json.encode(messages)
    if key not in asked:
        try:
            body = decode_body(Operation.CHAT, msgspec.json.encode({"model": "auto", "messages": messages}))
        except PosternError as error:
            raise DataError(f"{place(path, number, row)}: {error}") from error
        texts = [turn.text for turn in body.conversation.turns if turn.role == "user"]
        asked[key] = _Asked(body.conversation, (texts or [""])[-1], [], [])
    return asked[key]
