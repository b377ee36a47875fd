"""Texts as numbers: scaled, clipped, in the directions in which prompts differ most."""

import numpy as np
import pytest

from gateway.classify.features import FEATURE_NAMES, measure_text
from router_models.corpus import load_kinds
from router_models.space import CLIP, RANKED, fit_space, to_int8

PROMPTS = [row.prompt for row in load_kinds()[::5]]
STRANGE = ["", "証明してください", "zzzzqq", "9" * 2000]


@pytest.fixture(scope="module")
def space(word_table):
    return fit_space(word_table, PROMPTS)


def test_a_text_is_measured_and_its_words_share_one_vote(space):
    texts = space.read(["Write a function. Write!", "zzzzqq"])
    known = [word for word in ("write", "a", "function") if word in space.words]
    assert texts.votes[0].nnz == len(known) >= 2
    assert texts.votes[0].power(2).sum() == pytest.approx(1)
    assert np.array_equal(texts.features[0], measure_text("Write a function. Write!").features)
    assert (texts.votes[1].nnz, np.abs(texts.whole[1]).max(), np.abs(texts.stem[1]).max()) == (0, 0, 0)
    assert texts.signals.shape == (2, 4)


def test_options_count_for_the_whole_and_not_for_the_stem(space):
    asked = "Which of these do you write?"
    plain, with_options = space.read([asked, f"{asked}\nA. what\nB. how\nC. function\nD. people"]).stem
    assert with_options == pytest.approx(plain, abs=1e-6)
    whole = space.read([asked, f"{asked}\nA. what\nB. how\nC. function\nD. people"]).whole
    assert not np.allclose(whole[0], whole[1], atol=0.01)


def test_how_many_words_a_text_has_does_not_stretch_its_vector(space):
    once, four = space.read(["function", "function write people what"]).stem
    longest = np.linalg.norm(space.table.astype(np.float32) * space.scale, axis=1).max()
    assert 0 < np.linalg.norm(once) <= longest
    assert 0 < np.linalg.norm(four) <= 2 * longest


def test_the_representation_is_bounded(space):
    texts = space.read(PROMPTS + STRANGE)
    read = space.represent(texts)
    assert read.shape == (len(PROMPTS) + len(STRANGE), space.width)
    assert np.isfinite(read).all()
    assert np.abs(read[:, : len(FEATURE_NAMES)]).max() <= CLIP + 1e-4


def test_measures_are_scaled_and_directions_ordered_by_how_much_prompts_differ(space):
    read = space.represent(space.read(PROMPTS))
    measures, directions = read[:, : len(FEATURE_NAMES)], read[:, len(FEATURE_NAMES) :]
    spread = space.read(PROMPTS).features.std(axis=0)
    inside = (np.abs(measures) < CLIP - 1e-3).all(axis=0) & (spread > 1e-3)
    assert measures[:, inside].mean(axis=0) == pytest.approx(0, abs=0.01)
    assert measures[:, inside].std(axis=0) == pytest.approx(1, abs=0.01)
    assert directions.mean(axis=0) == pytest.approx(0, abs=0.02)
    assert directions[:, 0].std() > directions[:, 5].std() > directions[:, -1].std()


def test_the_shipped_heads_read_measures_and_the_first_directions(space):
    read = space.represent(space.read(PROMPTS[:3]))
    assert space.ranked(read).shape == (3, len(FEATURE_NAMES) + RANKED)
    assert np.array_equal(space.ranked(read), read[:, : len(FEATURE_NAMES) + RANKED])


def test_a_measure_that_never_varies_is_not_blown_up(word_table):
    space = fit_space(word_table, ["what is the", "how do you"] * 20)
    assert space.spread.min() > 1e-3
    assert np.abs(space.represent(space.read(STRANGE))).max() <= CLIP + 1e-3


def test_int8_is_off_by_half_a_step_and_a_column_of_zeros_stays_one():
    table = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
    table[:, 2] = 0
    stored, scale = to_int8(table)
    assert (stored.dtype, scale.dtype) == (np.int8, np.float32)
    assert (np.abs(stored * scale - table) <= scale / 2 + 1e-7).all()
    assert not stored[:, 2].any()
