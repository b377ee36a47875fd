"""The requests that are sent: real prompts in OpenAI's form, each unlike the one before by a number.

A number of fixed width stands in the prompt where a request must differ from all others, so the content length is
known beforehand, and neither load generator composes more than two pieces of text a request.
"""

import json
import random
from pathlib import Path
from typing import NamedTuple

PROMPTS = Path(__file__).parents[1] / "deploy" / "demo" / "prompts.jsonl"
NUMBER = "000000000000"
"""Where the number goes."""

MIXED_BYTES = (*(512,) * 12, *(2048,) * 12, *(8192,) * 6, *(32_768,) * 2)
"""A day's sizes: many short requests, few long ones; the mean is 5 KB."""


class Plan(NamedTuple):
    """What one turn sends, whoever it goes to."""

    sizes_bytes: tuple[int, ...] = (2048,)
    variants: int = 32
    """How many prompts, keys and models take turns."""
    is_same: bool = False
    """The same request again and again: a cache answers."""


class Door(NamedTuple):
    """Where and how one subject is asked for one upstream's answers."""

    port: int
    models: tuple[str, ...]
    headers: tuple[tuple[str, str], ...] = ()
    keys: tuple[str, ...] = ()


class Request(NamedTuple):
    """One HTTP request, in the pieces before and after its number."""

    head: bytes
    tail: bytes

    @property
    def whole(self) -> bytes:
        """The request with the number 0."""
        return self.head + NUMBER.encode() + self.tail


def compose(plan: Plan, door: Door, fields: dict[str, object] | None = None) -> list[Request]:
    """Return the variants of a turn's requests; sizes, models and keys rotate."""
    texts = prompts()
    found = []
    for place in range(plan.variants):
        model = door.models[place % len(door.models)]
        size_bytes = plan.sizes_bytes[place % len(plan.sizes_bytes)]
        headers = list(door.headers)
        if door.keys:
            headers.append(("Authorization", f"Bearer {door.keys[place % len(door.keys)]}"))
        body = chat_body(model, texts[place % len(texts) :], size_bytes, fields or {"temperature": 0.2})
        found.append(http_request(door.port, headers, body))
    return found


def chat_body(model: str, texts: list[str], size_bytes: int, fields: dict[str, object]) -> str:
    """Return a chat request of about `size_bytes`, made of prompts, with the number at the start of the message."""
    text = " ".join(texts)
    while len(text) < size_bytes:
        text += " " + text
    bare = json.dumps({"model": model, "messages": [{"role": "user", "content": NUMBER + " "}], **fields})
    room = max(16, size_bytes - len(bare))
    content = f"{NUMBER} {text[:room]}"
    return json.dumps({"model": model, "messages": [{"role": "user", "content": content}], **fields})


def http_request(port: int, headers: list[tuple[str, str]], body: str) -> Request:
    """Return a POST to `/v1/chat/completions`, cut at the number."""
    lines = [
        "POST /v1/chat/completions HTTP/1.1",
        f"Host: 127.0.0.1:{port}",
        "Content-Type: application/json",
        *(f"{name}: {value}" for name, value in headers),
        f"Content-Length: {len(body)}",
    ]
    head, tail = body.split(NUMBER, 1)
    return Request(("\r\n".join(lines) + "\r\n\r\n" + head).encode(), tail.encode())


def prompts() -> list[str]:
    """Return the bundled prompts' texts that are ASCII, where a character is a byte, in a fixed random order."""
    rows = [json.loads(line) for line in PROMPTS.read_text(encoding="utf-8").splitlines()]
    contents = [message["content"] for row in rows for message in row["messages"]]
    texts = [text for text in contents if isinstance(text, str) and text.isascii()]
    random.Random(1).shuffle(texts)
    return texts


def answer_body(size_bytes: int = 1536) -> str:
    """Return the instant upstream's answer. Single quotes would end it in nginx's configuration: there are none."""
    answer = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": ""}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 400, "completion_tokens": 250, "total_tokens": 650},
    }
    room = size_bytes - len(json.dumps(answer))
    text = ("word " * (room // 5 + 1))[:room]
    answer["choices"] = [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}]
    return json.dumps(answer)
