"""Text as patterns can read it: what hides characters is undone, words and digits told. Looks for nothing itself."""

import html
import re
import unicodedata
from typing import Final, NamedTuple

# Everything but these may hide something: full-width and other scripts' digits, spaces and dashes of all widths, signs
# without width, accents of their own. Most texts hold none, and one search tells.
_SUSPECT: Final = re.compile(
    "[^\x00-\x7f\u00a1-\u00ac\u00ae-\u02ff\u0370-\u0482\u048a-\u0590\u05d0-\u05ea\u0620-\u063f\u0641-\u064a"
    "\u0904-\u0939\u2018-\u201f\u2022\u2026\u20ac\u2190-\u2211\u2213-\u23ff\u3001-\u3020\u3040-\u30ff\u3400-\u4dbf"
    "\u4e00-\u9fff\uac00-\ud7a3]"
)
_ESCAPED_CODE: Final = re.compile(r"\\+(?:u([0-9a-fA-F]{4})|x([0-9a-fA-F]{2}))")
_ESCAPED_SIGNS: Final = (("\\n", "\n"), ("\\r", "\n"), ("\\t", " "), ('\\"', '"'), ("\\/", "/"))
_REFERENCE: Final = re.compile(r"&#(?:[0-9]{1,7}|[xX][0-9a-fA-F]{1,6});")
_PERCENT: Final = re.compile(r"%(20|2[BbDdEe]|3[0-9AaDd]|40)")
_HANGUL_FILLERS: Final = "\u115f\u1160\u3164\uffa0"


_LETTERS: Final = bytes(
    code + 32 if 65 <= code <= 90 else code if 97 <= code <= 122 or code > 127 else 32 for code in range(256)
)
"""Bytes of UTF-8 to lower-case words: all that is no letter becomes a space."""
_ALL_BUT_DIGITS: Final = bytes(code for code in range(256) if not 48 <= code <= 57)


class Page(NamedTuple):
    """A cleaned text, the same in small letters, its words in bytes, and how many digits it has."""

    text: str
    lower: str
    words: frozenset[bytes]
    digit_count: int


def read_page(text: str) -> Page:
    """Clean a text and take it apart, in time linear in its length."""
    text = clean_text(text)
    lower = text.lower()
    if len(lower) != len(text):  # a few letters become two; places must be the same in both
        lower = "".join(small if len(small := character.lower()) == 1 else character for character in text)
    data = lower.encode("utf-8", "replace")
    return Page(text, lower, frozenset(data.translate(_LETTERS).split()), len(data.translate(None, _ALL_BUT_DIGITS)))


def word_set(listed: str) -> frozenset[bytes]:
    """Return words as a page holds them."""
    return frozenset(word for item in listed.split() for word in item.lower().encode().translate(_LETTERS).split())


def clean_text(text: str) -> str:
    """Return the text with escapes undone, digits and signs in ASCII, and nothing invisible."""
    if "\\" in text:
        if "\\u" in text or "\\x" in text:
            text = _ESCAPED_CODE.sub(lambda match: chr(int(match[1] or match[2], 16)), text)
        for escaped, sign in _ESCAPED_SIGNS:
            text = text.replace(escaped, sign)
    if "&#" in text:
        text = _REFERENCE.sub(lambda match: html.unescape(match[0]), text)
    if "%" in text:
        text = _PERCENT.sub(lambda match: chr(int(match[1], 16)), text)
    if text.isascii():
        return text
    text = text.replace("\u2019", "'")
    if _SUSPECT.search(text) is None:
        return text
    return text.translate({ord(character): _plain(character) for character in set(text) if ord(character) > 127})


def _plain(character: str) -> str:
    """Return what a character reads as; nothing for one that is not seen."""
    category = unicodedata.category(character)
    if category in ("Cf", "Mn") or character in _HANGUL_FILLERS:
        return ""
    if category == "Nd":
        return str(unicodedata.decimal(character))
    if category in ("Zs", "Zl", "Zp"):
        return " "
    if category == "Pd" or character == "\u2212":
        return "-"
    folded = unicodedata.normalize("NFKC", character)
    # Powers, fractions and ligatures stay as they are: "x²" is no number.
    return folded if category != "No" and len(folded) == 1 and folded.isascii() else character
