"""The words a router knows, and what each tells: its row, its topics, whether it may belong to an order.

Owns the look-up of words, once each, as most of a text's time goes there. What a word tells is settled before any text
comes; nothing of a text is kept. Knows nothing of measures or models.
"""

from collections.abc import Collection, Sequence
from typing import Final

import msgspec

from gateway.classify.lexicon import TOPICS
from gateway.classify.orders import TO_LETTERS, bears_on_orders, is_hint

TOPIC_NAMES: Final = tuple(TOPICS)


def _index_topics() -> dict[bytes, tuple[int, ...]]:
    index: dict[bytes, list[int]] = {}
    for position, words in enumerate(TOPICS.values()):
        for word in sorted(set(words.split())):
            index.setdefault(word.lower().encode(), []).append(position)
    return {word: tuple(positions) for word, positions in index.items()}


_TOPIC_OF: Final = _index_topics()
_TOPIC_WORDS: Final = frozenset(_TOPIC_OF)


class Found(msgspec.Struct, gc=False):
    """Distinct words, looked up.

    `rows`: of the words that are known as they stood, then of runs of letters inside others. `telling`: rows of whole
    words that tell more than their place. `others`: words not known as they stood. `unknown`: runs of letters that are
    not known. None comes twice, and but for `telling` their order is the same in every process.
    """

    rows: list[int]
    telling: frozenset[int]
    others: list[bytes]
    unknown: list[bytes]


NOTHING: Final = Found([], frozenset(), [], [])


class Vocabulary:
    """Words of lowercase Latin letters by their rows."""

    def __init__(self, words: Sequence[bytes]) -> None:
        """Take distinct words; a word's place is its row."""
        rows = dict(zip(words, range(len(words)), strict=True))
        self._row_of: Final = rows.get
        self._topics: Final = {rows[word]: positions for word, positions in _TOPIC_OF.items() if word in rows}
        self._hinting: Final = frozenset(row for word, row in rows.items() if is_hint(word))
        self._orders: Final = {row: word for word, row in rows.items() if bears_on_orders(word)}
        self._telling: Final = self._hinting.union(self._topics, self._orders)

    def look_up(self, distinct: Collection[bytes]) -> Found:
        """Look up distinct words of anything but blanks, then the runs of letters in those that are not known."""
        found = list(map(self._row_of, distinct))
        rows = [row for row in found if row is not None]
        telling = self._telling.intersection(rows)
        if len(rows) == len(found):
            return Found(rows, telling, [], [])
        others = [word for word, row in zip(distinct, found, strict=True) if row is None]
        unknown = list(filter(bytes.isalpha, others))
        if len(unknown) < len(others):
            mixed = [word for word in others if not word.isalpha()]
            for run in dict.fromkeys(b" ".join(mixed).translate(TO_LETTERS).split()):
                if run not in distinct:
                    row = self._row_of(run)
                    if row is None:
                        unknown.append(run)
                    else:
                        rows.append(row)
        return Found(rows, telling, others, unknown)

    def look_up_letters(self, text: bytes) -> Found:
        """Look up the distinct runs of letters in a text."""
        return self.look_up(dict.fromkeys(text.translate(TO_LETTERS).split()))

    def hints_at_orders(self, found: Found) -> bool:
        """Tell whether one of the words may belong to an order."""
        return not self._hinting.isdisjoint(found.telling) or is_hint(b" ".join(found.others))

    def runs_for_orders(self, *founds: Found) -> frozenset[bytes]:
        """Return the runs of letters that bear on orders, and those that are not known."""
        known = (self._orders[row] for found in founds for row in found.telling if row in self._orders)
        others = b" ".join([word for found in founds for word in found.others])
        return frozenset((*known, *others.translate(TO_LETTERS).split()))

    def count_topics(self, found: Found) -> list[int]:
        """Count the distinct words of each topic."""
        counts = [0] * len(TOPIC_NAMES)
        for row in found.telling:
            for position in self._topics.get(row, ()):
                counts[position] += 1
        for word in _TOPIC_WORDS.intersection(found.others):
            for position in _TOPIC_OF[word]:
                counts[position] += 1
        return counts


NO_WORDS: Final = Vocabulary(())
"""Knows none: every word of a text is unknown to it."""
