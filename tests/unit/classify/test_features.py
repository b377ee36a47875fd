# ruff: noqa: RUF001  # prompts in other scripts

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from gateway.classify.features import (
    FEATURE_NAMES,
    HEAD_CHARS,
    TAIL_CHARS,
    measure_text,
)
from gateway.classify.vocabulary import Vocabulary, rows_of


def features_of(text):
    return measure_text(text).features


def same(one, other):
    return np.array_equal(one.features, other.features) and one.unknown == other.unknown


def feature(text, name):
    return float(features_of(text)[FEATURE_NAMES.index(name)])


any_text = st.text(alphabet=st.characters(codec=None, exclude_categories=()), max_size=300)


@given(any_text)
def test_every_str_has_a_finite_vector_of_the_same_shape(text):
    features = features_of(text)
    assert features.shape == (len(FEATURE_NAMES),)
    assert features.dtype == np.float32
    assert np.isfinite(features).all()


@pytest.mark.parametrize(
    "text", ["", "\ud800", "\x00" * 5000, "x" * 2_000_000, "👩‍👩‍👧" * 3000, "\u0130" * 10, "\n" * 9000]
)
def test_odd_texts_have_finite_vectors(text):
    assert np.isfinite(features_of(text)).all()


def test_feature_names_are_unique():
    assert len(set(FEATURE_NAMES)) == len(FEATURE_NAMES)


def test_the_empty_text_has_one_line_and_nothing_else_counted():
    vector = dict(zip(FEATURE_NAMES, features_of("").tolist(), strict=True))
    assert {name: value for name, value in vector.items() if value} == pytest.approx(
        {"lines": np.log(2), "mean_word_chars": 1.0}
    )


def test_the_middle_of_a_long_text_is_not_read_but_its_length_is():
    head, tail = "a " * (HEAD_CHARS // 2), "z " * (TAIL_CHARS // 2)
    plain = features_of(head + "b " * 5000 + tail)
    other = features_of(head + "prove 123 c " * 1000 + tail)
    chars = FEATURE_NAMES.index("chars")
    assert np.array_equal(np.delete(plain, chars), np.delete(other, chars))
    assert plain[chars] == pytest.approx(np.log1p((HEAD_CHARS + TAIL_CHARS + 10_000) / 2), abs=2e-3)


def test_the_head_and_the_tail_of_a_long_text_are_read():
    filler = "word " * 3000
    assert feature("prove " + filler, "topic_proof") > 0
    assert feature(filler + "prove", "topic_proof") > 0


def test_a_repeated_word_counts_once_for_its_topic():
    assert feature("prove prove prove", "topic_proof") == feature("prove", "topic_proof") == pytest.approx(np.log(2))


@pytest.mark.parametrize(
    "text",
    [
        "Beweise, dass",
        "Démontrez que",
        "Demuestra que",
        "证明：存在",
        "証明せよ",
        "सिद्ध कीजिए",
        "أثبت أن",
        "докажите",
        "Prove que",
    ],
)
def test_a_proof_is_seen_in_many_languages(text):
    assert feature(text, "topic_proof") > 0


def test_capitals_do_not_change_a_topic():
    assert feature("PROVE É", "topic_proof") == feature("prove é", "topic_proof") > 0


def test_numbers_are_runs_of_digits():
    assert feature("12 a 3b45", "numbers") == pytest.approx(np.log1p(3))


def test_text_without_spaces_has_more_words_than_one():
    assert feature("证明存在无穷多个素数因为每个整数", "mean_word_chars") < 2


def test_topics_of_a_long_text_without_spaces_are_looked_for_at_its_ends():
    filler = "的" * 1000
    assert feature("证明" + filler, "topic_proof") > 0
    assert feature(filler + "证明", "topic_proof") > 0
    assert feature(filler[:500] + "证明" + filler[:500], "topic_proof") == 0


lines = st.lists(st.text(alphabet="abAB 12.?!+$é证", min_size=1, max_size=20).filter(str.strip), min_size=1, max_size=8)


@given(
    lines,
    st.sampled_from(["  ", "   \t", "\t "]),
    st.sampled_from(["\n\n", " \n", "\n \n\n", "\r\n"]),
    st.sampled_from(["", " ", "\n\t\n"]),
)
def test_case_blanks_and_blank_lines_change_nothing(rows, blank, ending, around):
    # "2." alone on its line is a bullet only by the blank behind it.
    assume(not any(row.strip().rstrip(".").isdecimal() and row.strip().endswith(".") for row in rows))
    plain = measure_text("\n".join(row.strip() for row in rows))
    spaced = around + ending.join(row.strip().replace(" ", blank) for row in rows) + around
    assert same(measure_text(spaced), plain)
    assert same(measure_text(spaced.upper().replace("É", "é")), plain)


def test_words_are_distinct_those_of_the_stem_first_and_what_stood_inside_others_behind_what_stood_alone():
    found = measure_text("Which is it, naïve one or is it?\nA. Zebra which\nB. apple zebra")
    assert found.unknown == [
        *(b"which", b"is", b"it", b"one", b"or", b"na", b"ve"),
        *(b"a", b"zebra", b"b", b"apple"),
    ]


@given(any_text)
def test_words_of_any_text_are_distinct_lowercase_letters(text):
    words = measure_text(text).unknown
    assert len(set(words)) == len(words)
    assert all(word.isalpha() and word.islower() for word in words)


WORDS = [b"prove", b"model", b"the", b"free", b"lock", b"route", b"a", b"b", b"of", b"one", b"ab"]


PIECES = [*(word.decode() for word in WORDS), "lock-free", "naïve", "ab1", "it", "\nA.", "\nB.", "."]


@given(
    any_text | st.lists(st.sampled_from(PIECES)).map(" ".join),
    st.sets(st.sampled_from(WORDS)).map(sorted),
)
def test_what_a_vocabulary_knows_changes_no_feature_and_only_tells_known_words_apart(text, known):
    plain, found = measure_text(text), measure_text(text, Vocabulary(known))
    assert np.array_equal(found.features, plain.features)
    words = [known[row] for row in rows_of(found.known)]
    assert len(set(words)) == len(words)
    assert sorted(words + found.unknown) == sorted(plain.unknown)
    assert found.unknown == [word for word in plain.unknown if word not in known]


def test_rows_of_the_stem_come_before_those_of_the_options():
    found = measure_text("the lock of one\nA. prove the\nB. free", Vocabulary(WORDS))
    words = [WORDS[row] for row in rows_of(found.known)]
    assert words[: found.in_stem] == [b"the", b"lock", b"of", b"one"]
    assert words[found.in_stem :] == [b"a", b"prove", b"b", b"free"]


def test_a_topic_needs_the_whole_word_known_or_not():
    for vocabulary in (Vocabulary([b"prove", b"lock"]), Vocabulary([])):
        topic = FEATURE_NAMES.index("topic_proof")
        assert measure_text("prove", vocabulary).features[topic] > 0
        assert measure_text("prove1", vocabulary).features[topic] == 0


def test_quotes_and_dashes_are_no_other_script():
    assert feature("\u201cWell\u201d \u2014 it\u2019s done \u2264 5", "non_latin_share") == 0
    assert feature("\u03b1\u03b2\u03b3", "non_latin_share") > 0


@pytest.mark.parametrize(
    "options",
    ["A. one\nB. two\nC. three", "(A) one\n(B) two", "A) one\nB) two", "a. one\n\n  b. two", "A.\none\nB.\ntwo"],
)  # fmt: skip
def test_options_are_taken_apart_from_the_stem_whatever_their_notation(options):
    stem = measure_text("Which of these is the answer?")
    found = measure_text(f"Which of these is the answer?\n{options}")
    assert np.array_equal(found.features, stem.features)
    assert found.unknown[: len(stem.unknown)] == stem.unknown
    assert len(found.unknown) > len(stem.unknown)


@pytest.mark.parametrize(
    "text",
    [
        "Who was it?\nA. Lincoln spoke first.\nThen he left.",
        "Explain:\nB. second\nA. first",
        "Options follow. A. one B. two",
        "if x:\n    a = 1\n    b = 2",
        "class Point:\n    a: int\n    b: int",
        "a.b()\nb.c()",
        "for a in b:\n    print(a)",
        "A man walked in.\nB",
    ],
)
def test_prose_and_code_have_no_options(text):
    every = Vocabulary(measure_text(text).unknown)
    found = measure_text(text, every)
    assert found.in_stem == len(found.known)


def test_bullets_are_counted_after_the_first_line():
    assert feature("List:\n- a\n* b\n  1. c\n2) d\n-e", "bullets") == pytest.approx(np.log1p(4))
