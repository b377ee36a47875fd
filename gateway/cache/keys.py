"""Cache keys: everything that can change an answer. Pure."""

import hashlib
from collections.abc import Mapping

import msgspec


def cache_key(
    *, route: str, tenant: str, operation: str, router: str, fleet: str, fields: Mapping[str, msgspec.Raw]
) -> str:
    """Return the whole SHA-256 of a request, in hex.

    `fleet` stands for what is behind the route's names: the same name elsewhere is another model. Every top-level
    field counts, as the bytes it came in: nothing is normalised but the order of the fields, so two
    bodies share a key only if an upstream can't tell them apart. Each part is preceded by its length, so that no
    two lists of parts run into the same bytes. Cut keys collide (CVE-2026-35030): it is never cut.
    """
    digest = hashlib.sha256()
    for part in (route, tenant, operation, router, fleet):
        _add(digest, part.encode("utf-8", "surrogateescape"))
    for name in sorted(fields):
        _add(digest, name.encode("utf-8", "surrogateescape"))
        _add(digest, bytes(fields[name]))
    return digest.hexdigest()


def _add(digest: "hashlib._Hash", part: bytes) -> None:
    digest.update(len(part).to_bytes(8, "big"))
    digest.update(part)
