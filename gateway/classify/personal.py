"""Personal data in a text, found by patterns: what `private` routes keep on local models.

Owns what counts as personal. It is a filter, not an oracle: names and streets have no check digit, and are found only
where the words around them say so. Whatever it finds is told by kind, never by content. Knows nothing of requests.
"""

import ipaddress
import re
from collections.abc import Iterator
from typing import Final, NamedTuple

from gateway.classify import personal_words as words
from gateway.classify.personal_numbers import (
    MARGIN_CHARS,
    Found,
    find_mixed_numbers,
    find_named_numbers,
    find_numbers,
)
from gateway.classify.personal_phrases import find_phrases, find_street
from gateway.classify.plain_text import Page, read_page, word_set
from gateway.core.personal import PersonalKind


class Finding(NamedTuple):
    """What was found, and where. The places are for tests: only the kind is ever told."""

    kind: PersonalKind
    start: int
    end: int


_EMAIL: Final = re.compile(r"@(?<=[\w%+-]@)(?<!\bgit@)[\w-]{1,63}(?:\.[\w-]{1,63}){0,8}\.[^\W\d_]{2,24}")
_OBFUSCATED: Final = re.compile(r"(?<=\w) ?[\[({]at[\])}] ?\w[\w-]{0,62}(?: ?[\[({]dot[\])}] ?|\.)\w", re.IGNORECASE)
_SECRETS: Final = (
    ("://", re.compile(r"://[^\s/@:]{1,64}:[^\s/@]{1,64}@")),
    ("sk-", re.compile(r"\bsk-[A-Za-z0-9_-]{20}")),
    ("AKIA", re.compile(r"\bAKIA[0-9A-Z]{16}\b")),
    ("ghp_", re.compile(r"\bghp_[A-Za-z0-9]{36}")),
    ("gho_", re.compile(r"\bgho_[A-Za-z0-9]{36}")),
    ("github_pat_", re.compile(r"\bgithub_pat_\w{22}")),
    ("glpat-", re.compile(r"\bglpat-[\w-]{20}")),
    ("xox", re.compile(r"\bxox[abprs]-[0-9A-Za-z-]{10}")),
    ("AIza", re.compile(r"\bAIza[\w-]{35}")),
    ("eyJ", re.compile(r"\beyJ[\w-]{10,4096}\.eyJ[\w-]{10}")),
    ("PRIVATE KEY", re.compile(r"-----BEGIN [A-Z ]{0,20}PRIVATE KEY-----")),
)
"""What a secret begins with, to look for first, and its whole shape."""

_IPV4: Final = re.compile(r"[0-9](?<![\w.-].)[0-9]{0,2}(?:\.[0-9]{1,3}){3}(?![\w-]|\.[0-9])", re.DOTALL)
_IPV6: Final = re.compile(
    r"[0-9A-Fa-f](?<![\w:.].)[0-9A-Fa-f]{0,3}:(?:[0-9A-Fa-f]{0,4}:){1,6}[0-9A-Fa-f]{1,4}(?![\w:])", re.DOTALL
)


_CHAIN: Final = re.compile(r"[0-9(+][0-9 ().+/-]*[A-Za-z]?")
_NUMBER_WORDS: Final = word_set(f"{words.PHONE} {words.PHONE_AFTER} {words.IDENTIFIED} {words.NATIONAL}")
MIN_CHAIN_CHARS: Final = 7
"""No number that shows by itself whose it is has fewer digits and signs between them."""


def find_personal(text: str) -> Iterator[Finding]:
    """Yield what is personal in a text, the cheapest to find first, in time linear in its length."""
    page = read_page(text)
    for finders in (_find_credentials, _find_numbers, find_phrases):
        for kind, start, end in finders(page):
            yield Finding(kind, start, end)


def _find_numbers(page: Page) -> Iterator[Found]:
    if not page.digit_count:
        return
    for match in _CHAIN.finditer(page.text):
        start, end = match.span()
        if end - start >= MIN_CHAIN_CHARS:
            yield from find_numbers(page.text, start, end)
            if "." in match[0]:
                yield from _find_ips(page.text, start, end)
        if start > 2 and page.text[start - 1] == " ":
            yield from find_street(page, start)
    if page.digit_count >= 2:
        yield from find_mixed_numbers(page.text)
        if page.text.count(":") >= 4:
            yield from _find_long_ips(page.text)
    if page.digit_count >= 5 and not page.words.isdisjoint(_NUMBER_WORDS):
        yield from find_named_numbers(page.text)


def _find_all(kind: PersonalKind, pattern: re.Pattern[str], text: str) -> Iterator[Found]:
    for match in pattern.finditer(text):
        yield kind, *match.span()


def _find_credentials(page: Page) -> Iterator[Found]:
    text = page.text
    if "@" in text:
        yield from _find_all(PersonalKind.EMAIL, _EMAIL, text)
    if b"at" in page.words and "dot" in page.lower:
        yield from _find_all(PersonalKind.EMAIL, _OBFUSCATED, text)
    for opening, shape in _SECRETS:
        if opening in text:
            yield from _find_all(PersonalKind.CREDENTIALS, shape, text)


def _find_ips(text: str, start: int, end: int) -> Iterator[Found]:
    for match in _IPV4.finditer(text, start, end + MARGIN_CHARS):
        if _is_someones_v4(match[0]):
            yield PersonalKind.IP, *match.span()


def _find_long_ips(text: str) -> Iterator[Found]:
    for match in _IPV6.finditer(text):
        if _is_someones_v6(match[0]):
            yield PersonalKind.IP, *match.span()


def _is_someones_v4(found: str) -> bool:
    octets = [int(octet) for octet in found.split(".")]
    # Four small numbers are a version or a section far more often than an address.
    if max(octets) > 255 or max(octets) < 32:
        return False
    return ipaddress.IPv4Address(bytes(octets)).is_global


def _is_someones_v6(found: str) -> bool:
    try:
        address = ipaddress.IPv6Address(found)
    except ValueError:
        return False
    return address.is_global and sum(1 for group in found.split(":") if group) >= 4
