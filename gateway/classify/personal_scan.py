"""Looks for personal data in all that a request would send to a model. Fails closed: what it can't read is personal.

Owns how much is read, in which bites, and what of it is remembered. Knows no patterns, routes or models.
"""

import asyncio
import hashlib
import logging
import re
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
MAX_SIGNS: Final = 2**18
"""Commas and opening brackets, so about values, of what has not been seen before in one request. Five million numbers,
which fit a body, would hold the event loop for 4 s; decoding these takes 10 ms, and nothing can interrupt that."""
STEP_VALUES: Final = 4096
"""Values between two chances for other requests: 2 ms."""
MIN_REMEMBERED_BYTES: Final = 512
"""Under this looking again is about as quick as remembering."""
MAX_REMEMBERED: Final = 8192

_PLAIN_NAME: Final = re.compile("[a-z_]{1,64}")
"""How OpenAI's fields are called, and most others. What is found in a text needs more than that."""
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
            log("personal_scan_failed", level=logging.ERROR, request_id=request_id, problem=type(exc).__name__)
            return _UNREAD

    async def _scan(self, request: Request, request_id: str, *, wants_all: bool) -> frozenset[PersonalKind]:
        # The id goes to the model's server too, and a client may have made it up of anything.
        kinds, signs_left, pace = self._kinds_of(request_id), MAX_SIGNS, _Pace()
        for raw in _parts_of(request):
            if kinds and not wants_all:
                break
            key = hashlib.blake2b(raw, digest_size=16).digest() if len(raw) >= MIN_REMEMBERED_BYTES else b""
            known = self._remembered.get(key)
            if known is None:
                signs_left -= _count_signs(raw)
                if signs_left < 0:
                    return kinds | _UNREAD
                known = await self._scan_part(_Part(raw), pace)
                if pace.read_chars > MAX_CHARS:
                    return kinds | known | _UNREAD
                self._remember(key, known)
            kinds |= known
        return kinds

    async def _scan_part(self, part: "_Part", pace: "_Pace") -> frozenset[PersonalKind]:
        for _ in part.read():
            await asyncio.sleep(0)
        kinds = frozenset() if part.is_plain else _UNREAD
        for bite in _bites_of(part.text):
            kinds |= self._kinds_of(bite)
            pace.read_chars += len(bite)
            if pace.read_chars > MAX_CHARS:
                break
            if pace.read_chars - pace.rested_chars >= BITE_CHARS:
                pace.rested_chars = pace.read_chars
                await asyncio.sleep(0)
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
    return any(map(_is_personal, map(_Part, _parts_of(request))))


def _is_personal(part: "_Part") -> bool:
    for _ in part.read():
        pass
    return not part.is_plain or any(True for bite in _bites_of(part.text) for _ in find_personal(bite))


def _parts_of(request: Request) -> Iterator[bytes]:
    """Yield every field but the route's name, messages one by one: all but the last have mostly been seen before.

    A field's own name travels on too, whatever a client has called it.
    """
    strange = [name for name in request.fields if _PLAIN_NAME.fullmatch(name) is None]
    if strange:
        yield msgspec.json.encode(strange)
    for name, raw in request.fields.items():
        if name == "messages":
            yield from map(bytes, _messages.decode(raw))
        elif name != "model":
            yield bytes(raw)


def _count_signs(raw: bytes) -> int:
    """Return how many values a JSON value has at most: but for the first each needs a comma or an opening bracket."""
    return sum(map(raw.count, (b",", b"[", b"{")))


class _Pace:
    """How much of a request has been read, and how much of it when others last got their turn."""

    read_chars = 0
    rested_chars = 0


class _Part:
    """A JSON value: after `read`, every string, key and number of it in `text`, a line each."""

    def __init__(self, raw: bytes) -> None:
        self._raw = raw
        self._key_count = 0
        self.text = ""

    def read(self) -> Iterator[None]:
        """Read on at each step, to the end."""
        texts: list[str] = []
        waiting: list[Any] = [msgspec.json.decode(self._raw)]
        values = 0
        while waiting:
            value = waiting.pop()
            if isinstance(value, str):
                texts.append(value)
            elif isinstance(value, dict):
                self._key_count += len(value)
                for key, item in reversed(value.items()):
                    waiting += (item, key)
            elif isinstance(value, list):
                waiting += reversed(value)
            elif isinstance(value, int | float):
                texts.append(str(value))
            values += 1
            if values % STEP_VALUES == 0:
                yield
        self.text = "\n".join(texts)

    @property
    def is_plain(self) -> bool:
        """Tell whether `text` is all there is: of a key that stands twice, only the last value is decoded.

        The upstream gets both. Each key has a colon; all others are in texts, as they are or escaped.
        """
        colons = self._raw.count(b":") + self._raw.count(b"\\u003a") + self._raw.count(b"\\u003A")
        return colons <= self._key_count + self.text.count(":")


def _bites_of(text: str) -> Iterator[str]:
    if len(text) <= BITE_CHARS:
        yield text
        return
    for start in range(0, len(text), BITE_CHARS - OVERLAP_CHARS):
        yield text[start : start + BITE_CHARS]
