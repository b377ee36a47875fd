"""Turns texts into the numbers that heads are fitted on: just what the served graph computes, in NumPy.

Owns the scaling, the word table as it is stored (int8, a scale a column) and the directions of it that heads read.
"""

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy import sparse  # type: ignore[import-untyped]  # no stubs; it comes with scikit-learn

from gateway.classify.features import measure_text
from gateway.classify.feed import FEATURES, WEIGHTS, WORDS, feed_of
from gateway.classify.onnx import signals_of
from gateway.classify.vocabulary import Vocabulary
from router_models.distill import WordTable
from router_models.encoder import Floats32

Floats = NDArray[np.float64]

# More directions raise what is learned of benches like those trained on and lower what holds on others: mean APGR of
# benches left out 0.526 with 16, 0.521 with 64.
RANKED = 16
CLIP = 4.0
# A measure that varies less is a constant.
NEAR_ZERO = 1e-3


class Texts(msgspec.Struct, frozen=True):
    """Texts as arrays: measures (N, F), sums of vectors over stem and whole (N, D), votes (N, V), signals (N, S).

    `votes` tells which words each text has; the words of a text share one vote of length 1. `signals` are for drift.
    """

    features: Floats32
    stem: Floats32
    whole: Floats32
    votes: sparse.csr_matrix
    signals: Floats


class Space(msgspec.Struct, frozen=True):
    """What turns texts into numbers. `table` is int8 (V, D), `scale` (D,), `centre` (D,) the mean of stems."""

    words: tuple[str, ...]
    table: NDArray[np.int8]
    scale: Floats32
    centre: Floats32
    mean: Floats32
    spread: Floats32

    @property
    def width(self) -> int:
        """How many numbers heads read."""
        return len(self.mean) + len(self.scale)

    @property
    def low(self) -> Floats32:
        """The least a measure counts as."""
        return self.mean - CLIP * self.spread

    @property
    def high(self) -> Floats32:
        """The most a measure counts as."""
        return self.mean + CLIP * self.spread

    def read(self, texts: Sequence[str]) -> Texts:
        """Measure texts and add up the vectors of their words."""
        vocabulary = Vocabulary([word.encode() for word in self.words])
        measured = [measure_text(text, vocabulary) for text in texts]
        feeds = [feed_of(measures) for measures in measured]
        stem, votes = (self._spread_out([(feed[WORDS], feed[WEIGHTS][part]) for feed in feeds]) for part in (0, 1))
        signals = [signals_of(one) for one in measured]
        features = np.concatenate([feed[FEATURES] for feed in feeds])
        return Texts(features, self._vectors(stem), self._vectors(votes), votes, np.array(signals))

    def represent(self, texts: Texts) -> Floats32:
        """Return what heads read, (N, width): scaled, clipped measures, then the stem's vector."""
        scaled = (np.clip(texts.features, self.low, self.high) - self.mean) / self.spread
        return np.hstack([scaled, texts.stem - self.centre])

    def ranked(self, representation: Floats32) -> Floats32:
        """Return the part of a representation that the shipped heads read."""
        return representation[:, : len(self.mean) + RANKED]

    def _vectors(self, weights: sparse.csr_matrix) -> Floats32:
        return np.asarray((weights @ self.table.astype(np.float32)) * self.scale, dtype=np.float32)

    def _spread_out(self, counted: list[tuple[Any, Any]]) -> sparse.csr_matrix:
        lengths = [len(rows) for rows, _ in counted]
        places = (np.repeat(np.arange(len(counted)), lengths), np.concatenate([rows for rows, _ in counted]))
        values = np.concatenate([weights for _, weights in counted])
        return sparse.csr_matrix((values, places), shape=(len(counted), len(self.words)))


def fit_space(words: WordTable, prompts: Sequence[str]) -> Space:
    """Fit centre, directions and scaling to prompts, without looking at any label; then store the table as int8."""
    nothing = np.zeros(1, dtype=np.float32)
    plain = Space(words.words, *to_int8(words.vectors), centre=nothing, mean=nothing, spread=nothing)
    texts = plain.read(prompts)
    centre = texts.stem.mean(axis=0)
    directions = np.linalg.svd(texts.stem - centre, full_matrices=False)[2]
    spread = texts.features.std(axis=0)
    return Space(
        words.words, *to_int8(np.asarray(words.vectors @ directions.T, dtype=np.float32)),
        centre=np.asarray(centre @ directions.T, dtype=np.float32), mean=texts.features.mean(axis=0),
        spread=np.where(spread > NEAR_ZERO, spread, 1.0).astype(np.float32),
    )  # fmt: skip


def to_int8(table: Floats32) -> tuple[NDArray[np.int8], Floats32]:
    """Return a table as int8 and the scale of each column."""
    scale = (np.abs(table).max(axis=0) / 127.0 + 1e-12).astype(np.float32)
    return np.rint(table / scale).astype(np.int8), scale
