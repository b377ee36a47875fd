"""Looks for personal data in all that a request would send to a model. Fails closed: what it can't read is personal.

Owns how much is read, in which bites, and what of it is remembered. Knows no patterns, routes or models.
"""

import asyncio
import hashlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

import msgspec

from gateway.classify.personal import Finding, find_personal
from gateway.core.personal import PersonalKind
from gateway.schema.request import Request
from gateway.telemetry.logs import log

BITE_CHARS: Final = 8192
"""Characters between two chances for other requests: 0.3 ms of a chat, 6 ms of what costs most."""
OVERLAP_CHARS: Final = 512
"""Nothing that is found is longer than this, so that whatever a bite's end cuts stands whole in the next."""
MAX_CHARS: Final = 2**21
"""Of what has not been seen before, in one request; more than any window holds takes seconds, and is not read."""
MIN_REMEMBERED_BYTES: Final = 512
"""Under this looking again is about as quick as remembering."""
MAX_REMEMBERED: Final = 8192

_UNREAD: Final = frozenset({PersonalKind.UNREAD})
_messages: Final = msgspec.json.Decoder(list[msgspec.Raw])


class PersonalScan:
    """Finds kinds of personal data in requests; a message seen before is known by its digest, never by its text."""

    def __init__(self, find: Callable[[str], Iterable[Finding]] = find_personal) -> None:
        self._find = find
        self._remembered: dict[bytes, frozenset[PersonalKind]] = {}

    async def find_kinds(self, request: Request, request_id: str, *, wants_all: bool) -> frozenset[PersonalKind]:
        """Return what kinds a request holds; unless all are wanted, those found first. Never fails."""
        conversation = request.conversation
        if conversation.attachment_count or conversation.token_counts:
            return _UNREAD
        try:
            return await self._scan(request, request_id, wants_all=wants_all)
        except Exception as exc:  # noqa: BLE001 - fails closed, and says no more than what failed: a message may quote
            log("personal_scan_failed", problem=type(exc).__name__)
            return _UNREAD

    async def _scan(self, request: Request, request_id: str, *, wants_all: bool) -> frozenset[PersonalKind]:
        # The id goes to the model's server too, and a client may have made it up of anything.
        kinds, read_chars, rested_chars = self._kinds_of(request_id), 0, 0
        for raw in _parts_of(request):
            if kinds and not wants_all:
                break
            key = hashlib.blake2b(raw, digest_size=16).digest() if len(raw) >= MIN_REMEMBERED_BYTES else b""
            known = self._remembered.get(key)
            if known is not None:
                kinds |= known
                continue
            found: frozenset[PersonalKind] = frozenset()
            for bite in _bites_of(_text_of(raw)):
                found |= self._kinds_of(bite)
                read_chars += len(bite)
                if read_chars > MAX_CHARS:
                    return kinds | _UNREAD
                if read_chars - rested_chars >= BITE_CHARS:
                    rested_chars = read_chars
                    await asyncio.sleep(0)
            kinds |= found
            self._remember(key, found)
        return kinds

    def _kinds_of(self, text: str) -> frozenset[PersonalKind]:
        return frozenset(finding.kind for finding in self._find(text))

    def _remember(self, key: bytes, kinds: frozenset[PersonalKind]) -> None:
        if not key:
            return
        if len(self._remembered) >= MAX_REMEMBERED:
            self._remembered.pop(next(iter(self._remembered)))
        self._remembered[key] = kinds


def holds_personal(request: Request) -> bool:
    """Tell whether anything in a request is personal or can't be read: for work that no client waits for."""
    conversation = request.conversation
    if conversation.attachment_count or conversation.token_counts:
        return True
    texts = (bite for raw in _parts_of(request) for bite in _bites_of(_text_of(raw)))
    return any(True for text in texts for _ in find_personal(text))


def _parts_of(request: Request) -> Iterator[bytes]:
    """Yield every field but the route's name, messages one by one: all but the last have mostly been seen before."""
    for name, raw in request.fields.items():
        if name == "messages":
            yield from map(bytes, _messages.decode(raw))
        elif name != "model":
            yield bytes(raw)


def _text_of(raw: bytes) -> str:
    """Return every string, key and number of a JSON value, a line each."""
    texts: list[str] = []
    waiting: list[Any] = [msgspec.json.decode(raw)]
    while waiting:
        value = waiting.pop()
        if isinstance(value, str):
            texts.append(value)
        elif isinstance(value, dict):
            for key, item in reversed(value.items()):
                waiting += (item, key)
        elif isinstance(value, list):
            waiting += reversed(value)
        elif isinstance(value, int | float):
            texts.append(str(value))
    return "\n".join(texts)


def _bites_of(text: str) -> Iterator[str]:
    if len(text) <= BITE_CHARS:
        yield text
        return
    for start in range(0, len(text), BITE_CHARS - OVERLAP_CHARS):
        yield text[start : start + BITE_CHARS]
