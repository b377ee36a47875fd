"""The words a router knows, and what each tells: its entry, its topics, whether it may belong to an order.

Owns the look-up of words, once each, as most of a text's time goes there. What a word tells is settled before any text
comes; nothing of a text is kept. Knows nothing of measures or models.
"""

import sys
from collections.abc import Iterable, Sequence
from itertools import compress
from operator import not_
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from gateway.classify.lexicon import TOPICS
from gateway.classify.orders import TO_LETTERS, bears_on_orders, is_hint

TOPIC_NAMES: Final = tuple(TOPICS)
ROW_BYTES: Final = 8


def _index_topics() -> dict[bytes, tuple[int, ...]]:
    index: dict[bytes, list[int]] = {}
    for position, words in enumerate(TOPICS.values()):
        for word in sorted(set(words.split())):
            index.setdefault(word.lower().encode(), []).append(position)
    return {word: tuple(positions) for word, positions in index.items()}


_TOPIC_OF: Final = _index_topics()


class Found(msgspec.Struct, gc=False):
    """Distinct words, looked up.

    `known`: entries of the words that are known as they stood, then of runs of letters inside others. `telling`: whole
    words that tell more than their entry. `others`: the words not known as they stood, with blanks between. `unknown`:
    runs of letters that are not known. None comes twice; but for `telling`, their order is the same in every process.
    """

    known: list[bytes]
    telling: frozenset[bytes]
    others: bytes
    unknown: list[bytes]


NOTHING: Final = Found([], frozenset(), b"", [])


class Vocabulary:
    """Words of lowercase Latin letters by their entries: what whoever reads a text's measures wants to know of each."""

    def __init__(self, words: Sequence[bytes], entries: Sequence[bytes] | None = None) -> None:
        """Take distinct words, and an entry for each, none empty; without entries, its place, as `rows_of` reads it."""
        if entries is None:
            entries = [place.to_bytes(ROW_BYTES, sys.byteorder) for place in range(len(words))]
        known = dict(zip(words, entries, strict=True))
        self.last: Final = list(entries[-1:])
        """The last word's entry, if there is a word."""
        self._entry_of: Final = known.get
        self._hinting: Final = frozenset(filter(is_hint, known))
        self._orders: Final = frozenset(filter(bears_on_orders, known))
        self._telling: Final = self._hinting.union(self._orders, _TOPIC_OF)

    def look_up(self, distinct: dict[bytes, None]) -> Found:
        """Look up distinct words of anything but blanks, then the runs of letters in those that are not known."""
        found = list(map(self._entry_of, distinct))
        known = list(filter(None, found))
        telling = self._telling.intersection(distinct)
        if len(known) == len(found):
            return Found(known, telling, b"", [])
        listed = list(compress(distinct, map(not_, found)))
        others = b" ".join(listed)
        unknown = list(filter(bytes.isalpha, listed))
        if len(unknown) < len(listed):
            for run in dict.fromkeys(others.translate(TO_LETTERS).split()):
                if run not in distinct:
                    entry = self._entry_of(run)
                    if entry is None:
                        unknown.append(run)
                    else:
                        known.append(entry)
        return Found(known, telling, others, unknown)

    def look_up_letters(self, text: bytes) -> Found:
        """Look up the distinct runs of letters in a text."""
        return self.look_up(dict.fromkeys(text.translate(TO_LETTERS).split()))

    def hints_at_orders(self, found: Found) -> bool:
        """Tell whether one of the words may belong to an order."""
        return not self._hinting.isdisjoint(found.telling) or is_hint(found.others)

    def runs_for_orders(self, *founds: Found) -> frozenset[bytes]:
        """Return the runs of letters that bear on orders, and those that are not known."""
        known = (word for found in founds for word in self._orders.intersection(found.telling))
        others = b" ".join([found.others for found in founds])
        return frozenset((*known, *others.translate(TO_LETTERS).split()))


def count_topics(found: Found) -> list[int]:
    """Count the distinct words of each topic, known or not."""
    counts = [0] * len(TOPIC_NAMES)
    for word in found.telling:
        for position in _TOPIC_OF.get(word, ()):
            counts[position] += 1
    return counts


def rows_of(entries: Iterable[bytes]) -> NDArray[np.int64]:
    """Return the places that a vocabulary without entries of its own gave its words."""
    return np.frombuffer(b"".join(entries), dtype=np.int64)


NO_WORDS: Final = Vocabulary(())
"""Knows none: every word of a text is unknown to it."""
