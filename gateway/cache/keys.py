"""Keys: of answers, by everything that can change one; of conversations, by whose they are. Pure."""

import hashlib
from collections.abc import Iterator, Mapping
from typing import Final

import msgspec

from gateway.schema.conversation import Conversation

HEAD_TURNS: Final = 8
HEAD_CHARACTERS: Final = 2_048
"""Of each turn of a head: 80,000 characters of system prompt take 44 µs to hash, these take 4."""

_encoder = msgspec.msgpack.Encoder()


def cache_key(
    *, route: str, tenant: str, operation: str, router: str, fleet: str, fields: Mapping[str, msgspec.Raw]
) -> str:
    """Return the whole SHA-256 of a request, in hex.

    `fleet` stands for what is behind the route's names: the same name elsewhere is another model. Every top-level
    field counts, as the bytes it came in: nothing is normalised but the order of the fields, so two
    bodies share a key only if an upstream can't tell them apart. MessagePack puts its length before each part, so that
    no two lists of parts run into the same bytes. Cut keys collide (CVE-2026-35030): it is never cut.
    """
    names = sorted(fields)
    parts = (route, tenant, operation, router, fleet, names, [bytes(fields[name]) for name in names])
    return hashlib.sha256(_encoder.encode(parts)).hexdigest()


def session_key(*, route: str, tenant: str, session: str | None, conversation: Conversation) -> str:
    """Return the whole SHA-256 that a conversation of a tenant is remembered under, in hex.

    `session`: its name, as the client gave it. Without one its head tells it from others: the turns up to the user's
    first, of which the lengths and the first characters count. Two conversations with the same head meet, and know it
    by the lengths of the turns that follow.
    """
    digest = hashlib.sha256()
    head = (f"named {session}",) if session else ("by its head", *_head_of(conversation))
    for part in ("session", route, tenant, *head):
        _add(digest, part.encode("utf-8", "surrogatepass"))
    return digest.hexdigest()


def _head_of(conversation: Conversation) -> Iterator[str]:
    for turn in conversation.turns[:HEAD_TURNS]:
        yield f"{turn.role} {len(turn.text)} {turn.text[:HEAD_CHARACTERS]}"
        if turn.role == "user":
            return


def _add(digest: "hashlib._Hash", part: bytes) -> None:
    digest.update(len(part).to_bytes(8, "big"))
    digest.update(part)
