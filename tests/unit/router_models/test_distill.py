"""What the word table is: which words, in which directions, how much each weighs."""

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from router_models.distill import FIRST_WORD, MAX_WORD_CHARS, MIN_PROMPTS, choose_words, distil, rarity
from router_models.train import _distil

OWN = ["the", "of", "cat", "dog", "tree", "prove", "zebra", "quark"]


class Scripted:
    """An encoder of 16 numbers a text, told by its letters; its vocabulary begins where words do."""

    width = 16

    def __init__(self):
        vocabulary = {f"[unused{row}]": row for row in range(FIRST_WORD)}
        vocabulary |= {word: FIRST_WORD + row for row, word in enumerate([*OWN, "##ing", "Éa", "7"])}
        self.tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[unused0]"))
        self.tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
        self.batches = []

    def count_tokens(self, texts):
        return [3 if text in OWN else 4 for text in texts]

    def embed(self, texts):
        assert len({*self.count_tokens(texts)}) == 1, "texts of one call have one token count"
        self.batches.append(len(texts))
        return np.stack([np.random.default_rng(list(text.encode())).normal(size=16) for text in texts]) + 5


def test_the_encoders_own_words_come_first_and_in_its_order():
    assert choose_words(Scripted(), []) == OWN


def test_words_of_enough_prompts_join_whatever_their_count_in_one():
    prompts = ["grommet grommet grommet", *["sprocket the"] * MIN_PROMPTS, *["x" * (MAX_WORD_CHARS + 1)] * 5]
    assert choose_words(Scripted(), prompts) == [*OWN, "sprocket"]
    assert choose_words(Scripted(), [*prompts, "Zeta", "zeta ZETA", "aleph zeta", *["aleph"] * 2])[len(OWN) :] == [
        "aleph", "sprocket", "zeta",
    ]  # fmt: skip


@pytest.fixture
def table():
    return distil(Scripted(), [*OWN, *(f"new{letter}" for letter in "abcdefghijklmnop")])


def test_a_vector_a_word_as_long_as_the_word_is_rare(table):
    words = list(table.words)
    assert table.vectors.shape == (len(words), 16)
    assert table.vectors.dtype == np.float32
    lengths = np.linalg.norm(table.vectors, axis=1)
    # Divided by its rarity, each is a direction.
    assert lengths / rarity(Scripted(), words) == pytest.approx(np.ones(len(words)), abs=1e-4)


def test_directions_keep_the_angles_between_centred_words(table):
    words = list(table.words)
    own, new = words[:8], words[8:]
    raw = np.vstack([Scripted().embed(own), Scripted().embed(new)])
    raw -= raw.mean(axis=0)
    raw /= np.linalg.norm(raw, axis=1, keepdims=True)
    units = table.vectors / np.linalg.norm(table.vectors, axis=1, keepdims=True)
    assert units @ units.T == pytest.approx(raw @ raw.T, abs=1e-4)


def test_rarity_grows_with_the_rank_and_words_unknown_are_rarest():
    weights = rarity(Scripted(), [*OWN, "unknown"])
    assert (np.diff(weights) >= 0).all()
    assert weights[2] < weights[-2] < weights[-1]
    assert 0 < weights[0] < weights[-1] <= 1


def test_the_same_words_give_the_same_table(table):
    again = distil(Scripted(), table.words)
    assert np.array_equal(again.vectors, table.vectors)
    assert again.words == table.words


def test_batches_are_cut_and_told(monkeypatch):
    monkeypatch.setattr("router_models.distill.BATCH", 3)
    encoder, told = Scripted(), []
    distil(encoder, [*OWN, "newa", "newb"], told.append)
    assert encoder.batches == told == [3, 3, 2, 2]


def test_training_distils_from_the_folder_it_is_given_and_tells_how_far_it_is(monkeypatch, tmp_path):
    folders, said = [], []
    monkeypatch.setattr("router_models.train.Encoder.load", lambda folder: (folders.append(folder), Scripted())[1])
    monkeypatch.setattr("router_models.train.find_encoder", lambda: tmp_path / "installed")
    monkeypatch.setattr("router_models.distill.BATCH", 2)
    assert _distil([], tmp_path / "mine", said.append).words == tuple(OWN)
    _distil([], None, said.append)
    assert folders == [tmp_path / "mine", tmp_path / "installed"]
    assert said[:4] == [f"distilling the word table: {done} of 8 words" for done in (2, 4, 6, 8)]
