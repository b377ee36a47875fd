"""Distils a sentence encoder into a static table: a vector a word, so that a text costs a lookup a word.

Each word goes through the encoder by itself (Model2Vec, https://github.com/MinishLab/model2vec), is centred, turned to
the directions in which words differ most, and weighed by how rare it is (SIF, Arora et al. 2017).
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

import msgspec
import numpy as np

from gateway.classify.features import measure_text
from router_models.encoder import Encoder, Floats32

WIDTH = 256
BATCH = 512
# The encoder's vocabulary stands in the order of how frequent its words are, after a thousand that are not words.
FIRST_WORD = 996
SIF = 1e-2
MIN_PROMPTS = 3
MAX_WORD_CHARS = 24
_WORD = re.compile(r"[a-z]+")


class WordTable(msgspec.Struct, frozen=True):
    """Words and their vectors, float32 of shape (V, WIDTH)."""

    words: tuple[str, ...]
    vectors: Floats32


def choose_words(encoder: Encoder, prompts: Iterable[str]) -> list[str]:
    """Return the encoder's own words, the most frequent first, then those of at least MIN_PROMPTS prompts."""
    own = sorted((row, word) for word, row in encoder.tokenizer.get_vocab().items() if _WORD.fullmatch(word))
    words = [word for _, word in own]
    known = set(words)
    seen = Counter(word.decode() for prompt in prompts for word in measure_text(prompt).unknown)
    new = [word for word, count in seen.items() if count >= MIN_PROMPTS and len(word) <= MAX_WORD_CHARS]
    return words + sorted(set(new) - known)


def distil(encoder: Encoder, words: Sequence[str], progress: Callable[[int], None] = lambda _: None) -> WordTable:
    """Return the table of `words`, most frequent first. `progress` is told how many words each step took."""
    raw = np.zeros((len(words), encoder.width), dtype=np.float32)
    counts = np.array(encoder.count_tokens(list(words)))
    for count in np.unique(counts):
        rows = np.flatnonzero(counts == count)
        for start in range(0, len(rows), BATCH):
            batch = rows[start : start + BATCH]
            raw[batch] = encoder.embed([words[row] for row in batch])
            progress(len(batch))
    centred = raw - raw.mean(axis=0)
    directions = np.linalg.svd(centred, full_matrices=False)[2][:WIDTH]
    vectors = centred @ directions.T
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True) + 1e-6
    return WordTable(tuple(words), np.asarray(vectors * rarity(encoder, words)[:, np.newaxis], dtype=np.float32))


def rarity(encoder: Encoder, words: Sequence[str]) -> Floats32:
    """Return the SIF weight of each word, 0 to 1, its frequency told by Zipf's law from its rank."""
    own = encoder.tokenizer.get_vocab()
    rank = np.array([own.get(word, len(own)) for word in words]) - FIRST_WORD
    frequency = 0.1 / np.maximum(rank, 1.0)
    return np.asarray(SIF * 0.1 / (SIF * 0.1 + frequency), dtype=np.float32)
