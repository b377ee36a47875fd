"""A small training that these tests share: rows of our own, a few written prompts, a random word table."""

import json
import random
from collections import Counter

import msgspec
import numpy as np
import pytest

from gateway.classify.features import measure_text
from router_models.corpus import PROMPTS, load_kinds
from router_models.distill import WordTable
from router_models.train import train

TABLE_WORDS, TABLE_WIDTH = 400, 24


@pytest.fixture(scope="session")
def word_table():
    """The written prompts' most frequent words, with random vectors."""
    seen = Counter(word.decode() for row in load_kinds() for word in measure_text(row.prompt).unknown)
    words = tuple(word for word, _ in seen.most_common(TABLE_WORDS))
    return WordTable(words, np.random.default_rng(0).normal(size=(len(words), TABLE_WIDTH)).astype(np.float32))


@pytest.fixture(scope="session")
def few_prompts(tmp_path_factory):
    """A folder like `prompts/` with a few of each kind and of each domain."""
    folder = tmp_path_factory.mktemp("prompts")
    for part, count in (("kinds", 4), ("domains", 4)):
        (folder / part).mkdir()
        for file in sorted((PROMPTS / part).iterdir()):
            lines = [line for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
            (folder / part / file.name).write_text("\n".join(lines[:count]) + "\n", encoding="utf-8")
    return folder


def own_rows(benches=3, rows=40):
    """Questions that both sides answer, and proofs that the strong side alone does."""
    rng = random.Random(1)
    domains = {0: "history", 1: "math"}
    for bench in range(benches):
        for number in range(rows):
            is_hard = number % 2
            prompt = f"Prove that {number} divides {number * bench}" if is_hard else f"Who wrote book {number}?"
            weak, strong = (0.2, 0.9) if is_hard else (0.9, 0.92)
            # The last bench names no domain, as data may.
            named = {"domain": domains[is_hard]} if bench < 2 else {}
            yield {"prompt": prompt, "weak": weak + rng.random() / 20, "strong": strong, "bench": f"b{bench}"} | named


@pytest.fixture(scope="session")
def write_own():
    def write(path, rows=None):
        path.write_text("\n".join(map(json.dumps, own_rows() if rows is None else rows)))
        return path

    return write


@pytest.fixture(scope="session")
def train_small(word_table, few_prompts):
    """Train as `postern train` does, on little."""

    def run(data, out, seed=7, progress=lambda _: None):
        return train(data, out, seed, progress, words=word_table, prompts=few_prompts)

    return run


class Trained(msgspec.Struct, frozen=True):
    folder: object
    said: list[str]


@pytest.fixture(scope="session")
def trained(train_small, write_own, tmp_path_factory):
    """One small training's artifact and what it said; nobody may write to it."""
    folder, said = tmp_path_factory.mktemp("trained"), []
    return Trained(train_small(write_own(folder / "own.jsonl"), folder / "mine", 11, said.append), said)
