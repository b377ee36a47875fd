"""Text that comes in pieces: no character is ever cut, none is lost."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.backends.triton.text import LOST, Accumulated, Deltas

TEXTS = st.text(alphabet="aé€🙂\n", max_size=12)


def cut(data, places):
    borders = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[start:end] for start, end in pairwise(borders)]


def read_all(reader, parts):
    return [reader.feed(part) for part in parts] + [reader.feed(b"", is_last=True)]


@given(TEXTS, st.lists(st.integers(0, 60), max_size=6))
def test_bytes_cut_anywhere_come_out_as_the_same_whole_characters(text, places):
    pieces = read_all(Deltas(), cut(text.encode(), places))
    assert "".join(pieces) == text


@given(TEXTS, st.lists(st.integers(0, 60), max_size=6))
def test_text_so_far_comes_out_once_and_only_what_is_certain(text, places):
    data = text.encode()
    so_far = [data[: place % (len(data) + 1)].decode("utf-8", "replace").encode() for place in sorted(places)]
    so_far.sort(key=len)
    pieces = read_all(Accumulated(), [*so_far, data])
    assert "".join(pieces) == text


def test_half_a_character_at_the_very_end_is_told_as_lost():
    assert read_all(Deltas(), [b"a\xf0\x9f"]) == ["a", LOST]
    assert read_all(Accumulated(), ["a\N{REPLACEMENT CHARACTER}".encode()]) == ["a", LOST]


def test_the_last_response_gives_what_was_held_back():
    reader = Accumulated()
    assert reader.feed(f"a{LOST}".encode()) == "a"
    assert reader.feed(f"a{LOST}".encode(), is_last=True) == LOST
    assert reader.feed(b"", is_last=True) == ""


@pytest.mark.parametrize("shorter", ["ab", ""])
def test_text_that_was_given_is_never_given_again(shorter):
    reader = Accumulated()
    assert reader.feed(b"abc") == "abc"
    assert reader.feed(shorter.encode()) == ""
    assert reader.feed(b"abcd") == "d"
