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

from gateway.classify.lexicon import TOPICS, UNSPACED_TOPICS
from gateway.classify.orders import without_orders

FEATURE_VERSION: Final = 2

# Instructions stand at the head or the tail of a long prompt; the middle is mostly pasted material. The length is of
# the whole text. 2,048 characters bound the time of one text whatever a client sends.
HEAD_CHARS: Final = 1536
TAIL_CHARS: Final = 512

_CHAR_CLASSES: Final[tuple[bytes, ...]] = (
    b"0123456789",
    b"=+*/^<>|~&%",
    b"{}[]",
    b"\\",
    b"$",
    bytes(range(0xE3, 0xEE)),  # Chinese, Japanese, Korean
    bytes(range(0xCE, 0xE2)),  # Greek to the Indic scripts; 0xE2 begins quotes and dashes
    bytes(range(0x80, 0xC0)),  # a character's later bytes
    b" \t\n\r\x0b\x0c",
)


def _class_matrix() -> NDArray[np.int64]:
    matrix = np.zeros((256, len(_CHAR_CLASSES)), dtype=np.int64)
    for column, members in enumerate(_CHAR_CLASSES):
        matrix[list(members), column] = 1
    return matrix


_CLASS_MATRIX: Final = _class_matrix()

# One pass turns punctuation into spaces; `+`, `-`, `'` and `#` stay so that c++, lock-free and c# are words.
_WORD_KEEP: Final = b"abcdefghijklmnopqrstuvwxyz0123456789+-'#" + bytes(range(0x80, 0x100))
_TO_WORDS: Final = bytes(b if b in _WORD_KEEP else 0x20 for b in range(256))
_TO_DIGITS: Final = bytes(b if 0x30 <= b <= 0x39 else 0x20 for b in range(256))
_TO_LETTERS: Final = bytes(b if 0x61 <= b <= 0x7A else 0x20 for b in range(256))

_TOPIC_NAMES: Final = tuple(TOPICS)


def _index_topics() -> dict[bytes, tuple[int, ...]]:
    index: dict[bytes, list[int]] = {}
    for position, words in enumerate(TOPICS.values()):
        for word in sorted(set(words.split())):
            index.setdefault(word.lower().encode(), []).append(position)
    return {word: tuple(positions) for word, positions in index.items()}


_TOPIC_OF: Final = _index_topics()
_TOPIC_WORDS: Final = frozenset(_TOPIC_OF)
_UNSPACED_OF: Final = tuple(
    (word.encode(), _TOPIC_NAMES.index(topic)) for topic, words in UNSPACED_TOPICS.items() for word in words.split()
)
# A hundred substring searches: in the ends of a long text only, or they would double the worst case.
_UNSPACED_BYTES: Final = 512

_LINE_ENDS: Final = re.compile(rb"\n\s*")
_BULLET: Final = re.compile(rb"\n *(?:[-*]|\d+[.)]) ")
# A first and a second option, each on a line of its own: "A. ", "(a) " or "A) "; `a: int` is code.
_FIRST_OPTION: Final = re.compile(rb"\n\s{0,8}\(?a[.)]\s")
_SECOND_OPTION: Final = re.compile(rb"\n\s{0,8}\(?b[.)]\s")

FEATURE_NAMES: Final[tuple[str, ...]] = (
    "chars", "lines", "numbers", "bullets",
    "class_digit", "class_operator", "class_brace", "class_backslash", "class_dollar",
    *(f"topic_{name}" for name in _TOPIC_NAMES),
    "mean_word_chars", "distinct_share", "digit_share", "operator_share", "latex_share", "non_latin_share",
)  # fmt: skip
_COUNTED: Final = FEATURE_NAMES.index("mean_word_chars")
"""How many of the features, the first ones, are counts and enter by their logarithm."""


class TextMeasures(msgspec.Struct, frozen=True, gc=False):
    """What a router sees of a text: `features`, float32 of shape (F,), and its distinct words in their order.

    `words` are of lowercase Latin letters only; the first `stem_words` of them stand in the stem.
    """

    features: NDArray[np.float32]
    words: tuple[bytes, ...]
    stem_words: int


def _cut(text: str) -> str:
    if len(text) <= HEAD_CHARS + TAIL_CHARS:
        return text
    return text[:HEAD_CHARS] + "\n" + text[-TAIL_CHARS:]


def _split_options(data: bytes) -> tuple[bytes, bytes]:
    """Return (stem, options) of lowercase text; no options where there is no second one."""
    first = _FIRST_OPTION.search(data)
    if first is None or _SECOND_OPTION.search(data, first.end() - 1) is None:
        return data, b""
    return data[: first.start()], data[first.start() :]


def _count_topics(words: frozenset[bytes], data: bytes, unspaced: float) -> list[int]:
    counts = [0] * len(_TOPIC_NAMES)
    for word in words & _TOPIC_WORDS:
        for position in _TOPIC_OF[word]:
            counts[position] += 1
    if unspaced:
        window = data if len(data) <= 2 * _UNSPACED_BYTES else data[:_UNSPACED_BYTES] + data[-_UNSPACED_BYTES:]
        for piece, position in _UNSPACED_OF:
            if piece in window:
                counts[position] += 1
    return counts


def measure_text(text: str) -> TextMeasures:
    """Measure one text; finite for every str: lone surrogates, NULs and the empty text included.

    Texts over HEAD_CHARS + TAIL_CHARS are cut to their head and tail; `chars` still tells their whole length. Sentences
    that would give the router orders are not seen.
    """
    cut = _cut(text)
    data = without_orders(cut.lower().encode("utf-8", "surrogatepass")).strip()
    stem, options = _split_options(data)
    octets = np.frombuffer(stem, dtype=np.uint8)
    digits, operators, braces, backslashes, dollars, cjk, scripts, continued, blanks = (
        np.bincount(octets, minlength=256) @ _CLASS_MATRIX
    ).tolist()
    words = stem.translate(_TO_WORDS).split()
    distinct = frozenset(words)
    # Blanks are not counted, and what was cut off is taken to have as many as what was kept.
    kept = max(len(stem) - continued - blanks, 1.0)
    # Text without spaces: about 1.7 characters a word in Chinese and Japanese.
    word_count = len(words) + 0.6 * cjk
    values = [
        kept * (len(text) / max(len(cut), 1)), len(_LINE_ENDS.findall(stem)) + 1,
        len(stem.translate(_TO_DIGITS).split()), len(_BULLET.findall(stem)),
        digits, operators, braces, backslashes, dollars,
        *_count_topics(distinct, stem, cjk + scripts),
        min(kept / (word_count + 1.0), 12.0), len(distinct) / (len(words) + 1.0),
        digits / kept, operators / kept, (backslashes + dollars) / kept, (cjk + scripts) / kept,
    ]  # fmt: skip
    features = np.array(values, dtype=np.float32)
    np.log1p(features[:_COUNTED], out=features[:_COUNTED])
    in_stem = dict.fromkeys(stem.translate(_TO_LETTERS).split())
    stem_words = len(in_stem)
    if options:
        in_stem.update(dict.fromkeys(options.translate(_TO_LETTERS).split()))
    return TextMeasures(features, tuple(in_stem), stem_words)
