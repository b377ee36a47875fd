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
    marks = {_key(row): _mark(path, row) for row in rows if row.get("kind") == "feedback"}  # the last one stands
    asked: dict[bytes, _Asked] = {}
    strong_marks = []
    for number, row in enumerate(rows, start=1):
        mark, side = marks.get(_key(row)), _side(row, pair)
        if row.get("kind") != "request" or mark is None or side is None or not has_text(row):
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


def has_text(row: Row) -> bool:
    """Tell whether a row holds what was asked: a prompt of token ids does not."""
    return isinstance(row.get("messages"), list) or isinstance(row.get("prompt"), str)


def body_of(row: Row) -> bytes:
    """Return the request a row was, as far as it tells: messages or a prompt, and the tools."""
    messages = row.get("messages")
    if messages is None:
        messages = [{"role": "user", "content": row["prompt"]}]
    body = {"model": "auto", "messages": messages}
    return msgspec.json.encode(body | {"tools": row["tools"]} if row.get("tools") else body)


def _key(row: Row) -> tuple[str, str]:
    """Return by what a mark finds its request: ids are each tenant's own."""
    return str(row.get("tenant")), str(row.get("request_id"))


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
    body = body_of(row)
    if body not in asked:
        try:
            conversation = decode_body(Operation.CHAT, body).conversation
        except PosternError as error:
            raise DataError(f"{place(path, number, row)}: {error}") from error
        texts = [turn.text for turn in conversation.turns if turn.role == "user"]
        asked[body] = _Asked(conversation, (texts or [""])[-1], [], [])
    return asked[body]
