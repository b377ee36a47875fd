"""The request's Cache-Control, as far as HTTP defines it for requests (RFC 9111, 5.2.1). Pure."""

import msgspec


class CacheControl(msgspec.Struct, frozen=True):
    """What the client allows: read a stored answer, at most how old, and store this one."""

    may_read: bool = True
    may_store: bool = True
    max_age_s: int | None = None


ANYTHING = CacheControl()
"""What a client allows that sends no such header, as nearly all do."""


def parse_cache_control(header: str) -> CacheControl:
    """Read the header. Unknown directives are ignored, as HTTP asks; a malformed max-age means a stale one."""
    if not header:
        return ANYTHING
    directives = {
        name.strip().lower(): value.strip().strip('"')
        for name, _, value in (directive.partition("=") for directive in header.split(","))
    }
    max_age_s = _seconds(directives["max-age"]) if "max-age" in directives else None
    return CacheControl(
        may_read="no-cache" not in directives and "no-store" not in directives,
        may_store="no-store" not in directives,
        max_age_s=max_age_s,
    )


def _seconds(value: str) -> int:
    return min(int(value), 2**31) if value.isascii() and value.isdigit() and len(value) < 20 else 0
