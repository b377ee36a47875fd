"""Text to numbers and words. Shared by serving and training, so neither can drift.

Owns what a router sees of one text. Knows nothing of conversations, ONNX, models, thresholds or HTTP. Everything is
bytes, dicts and one histogram, because a 200-token prompt has a budget of 80 µs with the inference included.

Case, runs of blanks and repeated words are not seen: they say nothing of difficulty, and whoever writes them otherwise
must not be routed otherwise. The options of a multiple-choice question are taken apart from its stem: their length
follows from how a question is asked, the stem's from how hard it is.
"""

import re
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from gateway.classify.lexicon import UNSPACED_TOPICS
from gateway.classify.orders import shows_orders, without_orders
from gateway.classify.vocabulary import NO_WORDS, NOTHING, TOPIC_NAMES, Found, Vocabulary, count_topics

FEATURE_VERSION: Final = 2

# Instructions stand at the head or the tail of a long prompt; the middle is mostly pasted material. The length is of
# the whole text. Reading 1,536 and 512 characters, as the router that ships was trained, orders the pool's prompts no
# better (APGR 0.6362 against 0.6371; over 1,024 characters 0.588 against 0.590) and takes up to twice as long.
HEAD_CHARS: Final = 384
TAIL_CHARS: Final = 384

_BLANKS: Final = b" \t\n\r\x0b\x0c"
_OPERATORS: Final = b"=*/^<>|~&%"
"""But for `+`, which words may hold."""
_BRACES: Final = b"{}[]"

# One pass turns punctuation into blanks; `+`, `-`, `'` and `#` stay so that c++, lock-free and c# are words. `split`
# parts at any of six blanks, so each can still tell what stood there: one translation serves words and counts.
_WORD_KEEP: Final = b"abcdefghijklmnopqrstuvwxyz0123456789+-'#" + bytes(range(0x80, 0x100))
_BLANK, _OPERATOR, _BRACE, _BACKSLASH, _DOLLAR, _OTHER = _BLANKS


def _part_words() -> bytes:
    parted = bytearray([_OTHER] * 256)
    for members, sign in ((_BLANKS, _BLANK), (_OPERATORS, _OPERATOR), (_BRACES, _BRACE)):
        for member in members:
            parted[member] = sign
    parted[ord("\\")], parted[ord("$")] = _BACKSLASH, _DOLLAR
    for member in _WORD_KEEP:
        parted[member] = member
    return bytes(parted)


_TO_WORDS: Final = _part_words()
_TO_DIGITS: Final = bytes(b if 0x30 <= b <= 0x39 else 0x20 for b in range(256))

_CJK, _SCRIPT, _CONTINUED = b"cs."
"""What a byte beyond ASCII says: Chinese, Japanese, Korean; Greek to the Indic scripts, as 0xE2 begins quotes and
dashes; a character's later bytes."""
_TO_SCRIPTS: Final = bytes(
    _CJK if 0xE3 <= b < 0xEE else _SCRIPT if 0xCE <= b < 0xE2 else _CONTINUED if 0x80 <= b < 0xC0 else 0x20
    for b in range(256)
)

_UNSPACED_OF: Final = tuple(
    (word.encode(), TOPIC_NAMES.index(topic)) for topic, words in UNSPACED_TOPICS.items() for word in words.split()
)
# A hundred substring searches: in the ends of a long text only, or they would double the worst case.
_UNSPACED_BYTES: Final = 512

_NEWLINE, _PLUS = b"\n+"
_LINE_ENDS: Final = re.compile(rb"\n\s*")
_BULLET: Final = re.compile(rb"\n *(?:[-*]|\d+[.)]) ")
# A first and a second option, each on a line of its own: "A. ", "(a) " or "A) "; `a: int` is code.
_FIRST_OPTION: Final = re.compile(rb"\n\s{0,8}\(?a[.)]\s")
_SECOND_OPTION: Final = re.compile(rb"\n\s{0,8}\(?b[.)]\s")

FEATURE_NAMES: Final[tuple[str, ...]] = (
    "chars", "lines", "numbers", "bullets",
    "class_digit", "class_operator", "class_brace", "class_backslash", "class_dollar",
    *(f"topic_{name}" for name in TOPIC_NAMES),
    "mean_word_chars", "distinct_share", "digit_share", "operator_share", "latex_share", "non_latin_share",
)  # fmt: skip
_COUNTED: Final = FEATURE_NAMES.index("mean_word_chars")
"""How many of the features, the first ones, are counts and enter by their logarithm."""


class TextMeasures(msgspec.Struct, frozen=True, gc=False):
    """What a router sees of a text: `features`, float32 of shape (F,), and its distinct words of lowercase letters.

    `known` are the entries of the words that the vocabulary knows, the first `in_stem` of them the stem's; `unknown`
    are the other words, the stem's first. None comes twice.
    """

    features: NDArray[np.float32]
    known: list[bytes]
    in_stem: int
    unknown: list[bytes]


def cut_text(text: str) -> str:
    """Return what of a text is read; with its length, all that its measures depend on."""
    if len(text) <= HEAD_CHARS + TAIL_CHARS:
        return text
    return text[:HEAD_CHARS] + "\n" + text[-TAIL_CHARS:]


def _split_options(data: bytes) -> tuple[bytes, bytes]:
    """Return (stem, options) of lowercase text; no options where there is no second one."""
    first = _FIRST_OPTION.search(data)
    if first is None or _SECOND_OPTION.search(data, first.end() - 1) is None:
        return data, b""
    return data[: first.start()], data[first.start() :]


def _count(octet: int, data: bytes) -> int:
    """Count an octet. Most texts lack most signs, and looking for one is 20 times as quick as counting it."""
    return data.count(octet) if octet in data else 0


def _count_scripts(stem: bytes) -> tuple[int, int, int]:
    """Return how many bytes begin a Chinese, Japanese or Korean character, one of another script, or none at all."""
    scripts = stem.translate(_TO_SCRIPTS)
    return scripts.count(_CJK), scripts.count(_SCRIPT), scripts.count(_CONTINUED)


def _add_unspaced(topics: list[int], stem: bytes) -> None:
    """Count the topics that are told without spaces."""
    window = stem if len(stem) <= 2 * _UNSPACED_BYTES else stem[:_UNSPACED_BYTES] + stem[-_UNSPACED_BYTES:]
    for piece, position in _UNSPACED_OF:
        if piece in window:
            topics[position] += 1


class _Page(msgspec.Struct, gc=False):
    """A text taken apart: its stem, the stem with words parted, how many words it has, and which there are."""

    stem: bytes
    parted: bytes
    words: int
    distinct: int
    in_stem: Found
    in_options: Found


def _read(data: bytes, vocabulary: Vocabulary, *, is_plain: bool = False) -> _Page:
    """Take a text apart; a second time where it gives orders, which is rare, and dear to find out."""
    stem, options = _split_options(data.strip())
    parted = stem.translate(_TO_WORDS)
    words = parted.split()
    distinct = dict.fromkeys(words)
    in_stem = vocabulary.look_up(distinct)
    in_options = vocabulary.look_up_letters(options) if options else NOTHING
    if not is_plain and (
        shows_orders(data)
        or vocabulary.hints_at_orders(in_stem)
        or (options and vocabulary.hints_at_orders(in_options))
    ):
        spoken = without_orders(data, vocabulary.runs_for_orders(in_stem, in_options))
        if spoken != data:
            return _read(spoken, vocabulary, is_plain=True)
    return _Page(stem, parted, len(words), len(distinct), in_stem, in_options)


def measure_text(text: str, vocabulary: Vocabulary = NO_WORDS) -> TextMeasures:
    """Measure one text; finite for every str: lone surrogates, NULs and the empty text included.

    Texts over HEAD_CHARS + TAIL_CHARS are cut to their head and tail; `chars` still tells their whole length. Sentences
    that would give the router orders are not seen. The features are the same whatever the vocabulary knows.
    """
    cut = cut_text(text)
    page = _read(cut.lower().encode("utf-8", "surrogatepass"), vocabulary)
    stem, parted = page.stem, page.parted
    numbers = stem.translate(_TO_DIGITS).split()
    digits = sum(map(len, numbers))
    operators = _count(_OPERATOR, parted) + _count(_PLUS, parted)
    braces, backslashes, dollars = _count(_BRACE, parted), _count(_BACKSLASH, parted), _count(_DOLLAR, parted)
    cjk, scripts, continued = (0, 0, 0) if stem.isascii() else _count_scripts(stem)
    # Blanks are not counted, and what was cut off is taken to have as many as what was kept.
    kept = max(len(stem) - continued - _count(_BLANK, parted), 1.0)
    # Text without spaces: about 1.7 characters a word in Chinese and Japanese.
    word_count = page.words + 0.6 * cjk
    lines, bullets = (len(_LINE_ENDS.findall(stem)), len(_BULLET.findall(stem))) if _NEWLINE in stem else (0, 0)
    topics = count_topics(page.in_stem)
    if cjk or scripts:
        _add_unspaced(topics, stem)
    values = [
        kept * (len(text) / max(len(cut), 1)), lines + 1, len(numbers), bullets,
        digits, operators, braces, backslashes, dollars,
        *topics,
        min(kept / (word_count + 1.0), 12.0), page.distinct / (page.words + 1.0),
        digits / kept, operators / kept, (backslashes + dollars) / kept, (cjk + scripts) / kept,
    ]  # fmt: skip
    features = np.array(values, dtype=np.float32)
    np.log1p(features[:_COUNTED], out=features[:_COUNTED])
    return _with_words(features, page.in_stem, page.in_options)


def _with_words(features: NDArray[np.float32], stem: Found, options: Found) -> TextMeasures:
    if options is NOTHING:
        return TextMeasures(features, stem.known, len(stem.known), stem.unknown)
    # A word has one entry; another word's may read the same.
    known, unknown = frozenset(map(id, stem.known)), frozenset(stem.unknown)
    return TextMeasures(
        features,
        stem.known + [entry for entry in options.known if id(entry) not in known],
        len(stem.known),
        stem.unknown + [word for word in options.unknown if word not in unknown],
    )
