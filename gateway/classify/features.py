"""Text to numbers, and which texts of a conversation to judge. Shared by serving and training, so neither can drift.

Owns the feature vector and the follow-up rule. Knows nothing of ONNX, models, thresholds or HTTP. Everything is
bytes, sets and one histogram, because a 200-token prompt has a budget of 100 µs with the inference included.
"""

import re
from typing import Final

import numpy as np
from numpy.typing import NDArray

from gateway.classify.lexicon import FOLLOW_UP_WORDS, TOPICS, UNSPACED_FOLLOW_UPS, UNSPACED_TOPICS
from gateway.schema.conversation import Conversation

FEATURE_VERSION: Final = 1

# Instructions stand at the head or the tail of a long prompt; the middle is mostly pasted material. Lengths are of
# the whole text. 2,048 characters bound the time of one text whatever a client sends.
HEAD_CHARS: Final = 1536
TAIL_CHARS: Final = 512

MAX_INHERITED_TURNS: Final = 4
FOLLOW_UP_MAX_CHARS: Final = 64
FOLLOW_UP_MAX_WORDS: Final = 8

_CHAR_CLASSES: Final[tuple[tuple[str, bytes], ...]] = (
    ("digit", b"0123456789"),
    ("letter", b"abcdefghijklmnopqrstuvwxyz"),
    ("upper", b"ABCDEFGHIJKLMNOPQRSTUVWXYZ"),
    ("space", b" \t"),
    ("newline", b"\n"),
    ("comma", b",;"),
    ("stop", b".!"),
    ("question", b"?"),
    ("operator", b"=+*/^<>|~&%"),
    ("hyphen", b"-"),
    ("bracket", b"()"),
    ("brace", b"{}[]"),
    ("backslash", b"\\"),
    ("dollar", b"$"),
    ("quote", b"\"'`"),
    ("colon", b":"),
    ("accent", bytes(range(0xC3, 0xCE))),
    ("symbol", b"\xe2\xc2"),
    ("greek_cyrillic", bytes(range(0xCE, 0xD6))),
    ("arabic_hebrew", bytes(range(0xD6, 0xE0))),
    ("indic", b"\xe0\xe1"),
    ("cjk", bytes(range(0xE3, 0xEE))),
    ("astral", bytes(range(0xF0, 0xF5))),
    ("continuation", bytes(range(0x80, 0xC0))),
)
_CLASS_NAMES: Final = tuple(name for name, _ in _CHAR_CLASSES)


def _class_matrix() -> NDArray[np.float32]:
    matrix = np.zeros((256, len(_CHAR_CLASSES)), dtype=np.float32)
    for column, (_, members) in enumerate(_CHAR_CLASSES):
        matrix[list(members), column] = 1.0
    return matrix


_CLASS_MATRIX: Final = _class_matrix()

# One pass turns punctuation into spaces; `+`, `-`, `'` and `#` stay so that c++, lock-free and c# are words.
_WORD_KEEP: Final = b"abcdefghijklmnopqrstuvwxyz0123456789+-'#" + bytes(range(0x80, 0x100))
_TO_WORDS: Final = bytes(b if b in _WORD_KEEP else 0x20 for b in range(256))
_UNSPACED_PUNCTUATION: Final = str.maketrans("", "", "，。！？、．,.!?~～… \t\r\n")  # noqa: RUF001  # meant

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
# Thanks end a task; "thanks, go on" does not.
_THANKS: Final = frozenset({"thanks", "thank", "you"})
_FOLLOW_UPS: Final = frozenset(FOLLOW_UP_WORDS.lower().split())
_UNSPACED_FOLLOW_UPS: Final = frozenset(UNSPACED_FOLLOW_UPS.split())

# Not \W: Python counts the vowel signs of Indic scripts among it, which would cut their words.
_PUNCTUATION: Final = re.compile("[!-&(-/:-@\\[-`{-~\u0964\u060c\u061f\u061b\u2026\u3001\u3002\uff01\uff0c\uff1f]+")
_QUESTION_MARKS: Final = ("?", "\uff1f", "\u061f")
_BULLET: Final = re.compile(rb"\n *(?:[-*]|\d+[.)]) ")
_CODE_MARKS: Final = (b"```", b"def ", b"return ", b"();", b"==", b"->")
_THAT_PHRASES: Final = (b"show that", b"prove that", b"such that")
_OPENERS: Final[tuple[tuple[str, frozenset[bytes]], ...]] = (
    ("opens_who_when_where", frozenset(b"who whom whose when where".split())),
    ("opens_what_which", frozenset(b"what which what's".split())),
    ("opens_how_why", frozenset(b"how why".split())),
    ("opens_yes_no", frozenset(b"is are was were do does did can could will would should has have".split())),
    ("opens_command", frozenset(
        b"find compute calculate solve evaluate determine prove show derive implement write create design develop "
        b"explain describe let suppose given consider if".split()
    )),
)  # fmt: skip

_COUNT_NAMES: Final = (
    "chars", "words", "lines", "distinct_words", "numbers", "bullets", "code_marks", "that_phrases", "longest_word",
    *(f"class_{name}" for name in _CLASS_NAMES),
    *(f"topic_{name}" for name in _TOPIC_NAMES),
)  # fmt: skip
_RATIO_NAMES: Final = (
    "mean_word_chars", "words_per_sentence", "distinct_share", "ends_with_question",
    "upper_share", "digit_share", "operator_share", "latex_share", "non_latin_share",
    *(name for name, _ in _OPENERS),
)  # fmt: skip

# Left out, as leave-one-benchmark-out showed: the count of A., B., C. options (it tells the benchmark, not the
# difficulty: pooled APGR 0.623 with, 0.632 without) and hashed words (0.50 with, 0.54 without, rows weighing alike).
FEATURE_NAMES: Final[tuple[str, ...]] = _COUNT_NAMES + _RATIO_NAMES


def _count_topics(words: set[bytes], data: bytes, unspaced: float) -> list[int]:
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


def text_features(text: str) -> NDArray[np.float32]:
    """Measure one text, shape (F,), finite for every str: lone surrogates, NULs and the empty text included.

    Texts over HEAD_CHARS + TAIL_CHARS are cut to their head and tail; `chars` still tells their whole length.
    """
    chars = len(text)
    if chars > HEAD_CHARS + TAIL_CHARS:
        text = text[:HEAD_CHARS] + "\n" + text[-TAIL_CHARS:]
    raw = text.encode("utf-8", "surrogatepass")
    data = raw.lower() if text.isascii() else text.lower().encode("utf-8", "surrogatepass")
    octets = np.frombuffer(raw, dtype=np.uint8)
    classes = (np.bincount(octets, minlength=256).astype(np.float32) @ _CLASS_MATRIX).tolist()
    of = dict(zip(_CLASS_NAMES, classes, strict=True))
    is_digit = (octets - np.uint8(48)) < 10
    numbers = int(np.count_nonzero(is_digit[1:] > is_digit[:-1])) + int(raw[:1].isdigit())

    words = data.translate(_TO_WORDS).split()
    distinct = set(words)
    kept_chars = max(len(text), 1)
    # Text without spaces: about 1.7 characters a word in Chinese and Japanese.
    word_count = len(words) + 0.6 * of["cjk"]
    sentences = of["stop"] + of["question"] + of["newline"] + 1.0
    counts = [
        chars, word_count, of["newline"] + 1.0, len(distinct), numbers, len(_BULLET.findall(data)),
        sum(map(data.count, _CODE_MARKS)), sum(map(data.count, _THAT_PHRASES)) if b"that" in distinct else 0,
        min(max(map(len, distinct), default=0), 40), *classes, *_count_topics(distinct, data, of["cjk"] + of["indic"]),
    ]  # fmt: skip
    first = words[0] if words else b""
    ratios = [
        min(len(text) / (word_count + 1.0), 12.0), min(word_count / sentences, 40.0) / 10.0,
        len(distinct) / (len(words) + 1.0), float(text.rstrip().endswith(_QUESTION_MARKS)), of["upper"] / kept_chars,
        of["digit"] / kept_chars, of["operator"] / kept_chars, (of["backslash"] + of["dollar"]) / kept_chars,
        (of["cjk"] + of["indic"] + of["arabic_hebrew"] + of["greek_cyrillic"]) / kept_chars,
        *(float(first in opener) for _, opener in _OPENERS),
    ]  # fmt: skip
    features = np.array(counts + ratios, dtype=np.float32)
    np.log1p(features[: len(counts)], out=features[: len(counts)])
    return features


def is_follow_up(text: str) -> bool:
    """Tell whether a user turn only nods or asks to go on, so that its difficulty is that of the turns before it."""
    if len(text) > FOLLOW_UP_MAX_CHARS:
        return False
    lowered = text.lower()
    if lowered.translate(_UNSPACED_PUNCTUATION) in _UNSPACED_FOLLOW_UPS:
        return True
    words = [word for word in _PUNCTUATION.sub(" ", lowered).split() if any(map(str.isalnum, word))]
    if words and _THANKS.issuperset(words):
        return False
    return len(words) <= FOLLOW_UP_MAX_WORDS and _FOLLOW_UPS.issuperset(words)


def judged_texts(conversation: Conversation) -> tuple[str, ...]:
    """Pick the texts whose highest score is the conversation's.

    The last user turn; while that is a follow-up, also the assistant turn before it and the user turn before that,
    at most MAX_INHERITED_TURNS turns back. Without a user turn, the last turn with text. Never empty.
    """
    turns = conversation.turns
    last = next((i for i in range(len(turns) - 1, -1, -1) if turns[i].role == "user"), None)
    if last is None:
        return (next((turn.text for turn in reversed(turns) if turn.text.strip()), ""),)
    judged = [turns[last].text]
    if not is_follow_up(judged[0]):
        return tuple(judged)
    inherited = [turn for turn in turns[:last] if turn.role in {"user", "assistant"}]
    for turn in inherited[: -MAX_INHERITED_TURNS - 1 : -1]:
        judged.append(turn.text)
        if turn.role == "user" and not is_follow_up(turn.text):
            break
    return tuple(judged)
