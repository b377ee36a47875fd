"""What to answer: by directives in the prompt, else words that the prompt's hash chooses.

A directive stands anywhere in the prompt; of several the last holds:

    [[tokens=12 ttft=0.5 gap=0.05 fail_at=3 chunk=2 echo=1 text=Hello you]]

`tokens`: how many (words of two letters, a token each). `ttft`, `gap`: seconds before the first token, and between
two. `fail_at`: this token (0: the first) is an error in band instead. `chunk`: tokens a response. `echo=1`: the answer
is a JSON object of what the model was told. `text`: the answer, up to the end; it stands last.
"""

import hashlib
import json
import random
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mock.guided import instance_of
from mock.tokens import decode, encode

DIRECTIVE = re.compile(r"\[\[((?:tokens|ttft|gap|fail_at|chunk|echo|text)=.*?)\]\]", re.DOTALL)
WORDS = tuple("am an as at be by do go he if in is it me my no of on or so to up us we".split())  # noqa: SIM905 - thirty strings in quotes are harder to read


class RefusedError(Exception):
    """The request can't be served as it is."""


@dataclass(frozen=True)
class Order:
    """A request as each dialect reads it. `told` is what `echo` gives back."""

    prompt: str
    max_tokens: int
    stops: tuple[str, ...] = ()
    seed: int | None = None
    schema: str | None = None
    is_streaming: bool = False
    request_id: str = ""
    told: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Script:
    """The answer's tokens, and when and how they come."""

    ids: tuple[int, ...]
    finish_reason: str
    stop_at: int | None
    ttft_s: float
    gap_s: float
    fail_at: int | None
    chunk: int


def write_script(order: Order) -> Script:
    """Decide the whole answer. Raises RefusedError where the schema is none."""
    settings = read_directive(order.prompt)
    ids = encode(find_text(order, settings))
    stop_at, kept = cut_at_stop(ids, order.stops)
    ids = ids[:kept]
    is_cut = len(ids) >= order.max_tokens and (stop_at is None or len(ids) > order.max_tokens)
    return Script(
        ids=tuple(ids[: order.max_tokens]),
        finish_reason="length" if is_cut else "stop",
        stop_at=None if is_cut else stop_at,
        ttft_s=float(settings.get("ttft", 0)),
        gap_s=float(settings.get("gap", 0)),
        fail_at=int(settings["fail_at"]) if "fail_at" in settings else None,
        chunk=int(settings.get("chunk", 1)),
    )


def read_directive(prompt: str) -> dict[str, str]:
    """Return the last directive's settings."""
    found = DIRECTIVE.findall(prompt)
    if not found:
        return {}
    words, mark, text = found[-1].partition("text=")
    settings = dict(word.split("=", 1) for word in words.split())
    return {**settings, "text": text} if mark else settings


def find_text(order: Order, settings: Mapping[str, str]) -> str:
    """Return what is to be said; a schema holds unless the text is dictated."""
    if "text" in settings:
        return settings["text"]
    if "echo" in settings:
        return json.dumps(order.told, ensure_ascii=False, default=str)
    if order.schema is not None:
        try:
            return json.dumps(instance_of(json.loads(order.schema)))
        except ValueError as exc:
            raise RefusedError(f"Failed to convert the grammar from JSON schema: {exc}") from exc
    digest = hashlib.sha256(f"{order.seed}\n{order.prompt}".encode()).digest()
    dice = random.Random(digest)
    count = int(settings.get("tokens", 8 + digest[0] % 8))
    return "".join(f" {dice.choice(WORDS)}" for _ in range(count))


def cut_at_stop(ids: list[int], stops: tuple[str, ...]) -> tuple[int | None, int]:
    """Return where in the text the earliest stop string begins, None without one, and how many tokens are made."""
    if not stops:
        return None, len(ids)
    for count in range(1, len(ids) + 1):
        text = decode(ids[:count])
        found = [at for stop in stops if stop and (at := text.find(stop)) >= 0]
        if found:
            return min(found), count
    return None, len(ids)
