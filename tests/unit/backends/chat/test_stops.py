"""Stop strings in a text that comes in pieces."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.backends.chat.stops import StopTrimmer


def trim(stops, *pieces):
    trimmer = StopTrimmer(stops)
    text = "".join(trimmer.feed(piece) for piece in pieces) + trimmer.end()
    return text, trimmer.has_stopped


@pytest.mark.parametrize(
    ("stops", "pieces", "text"),
    [
        ((), ["a", "b"], "ab"),
        (("END",), ["one EN", "D two"], "one "),
        (("END",), ["one E", "N", "D"], "one "),
        (("END",), ["one EN"], "one EN"),
        (("END",), ["one EEND"], "one E"),
        (("END",), ["ENEN", "D"], "EN"),
        (("\n\n",), ["a\n", "\nb"], "a"),
        (("b", "a"), ["xaby"], "x"),
        # Of two that hold one another the one that ends first: there a model would have stopped.
        (("bc", "abcd"), ["xabcd"], "xa"),
        (("bc", "abc"), ["xabc"], "x"),
        (("é",), ["caf", "é!"], "caf"),
        (("", "b"), ["ab"], "a"),
    ],
)
def test_a_text_ends_before_its_first_stop_string(stops, pieces, text):
    assert trim(stops, *pieces)[0] == text
    assert trim(stops, *"".join(pieces))[0] == text
    assert trim(stops, *pieces)[1] == (text != "".join(pieces))


def test_no_more_is_held_back_than_could_be_one():
    trimmer = StopTrimmer(("END", "DONE"))
    assert trimmer.feed("one E") == "one "
    assert trimmer.feed("very D") == "Every "
    assert trimmer.feed("ay") == "Day"


def test_nothing_comes_after_a_stop_string():
    trimmer = StopTrimmer(("x",))
    assert trimmer.feed("axb") == "a"
    assert trimmer.feed("c") == ""
    assert trimmer.end() == ""


unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


@unhurried
@given(
    text=st.text("ab\n", max_size=12),
    stops=st.lists(st.text("ab\n", min_size=1, max_size=4), max_size=3),
    size=st.integers(1, 5),
)
def test_however_a_text_is_cut_it_ends_at_the_same_place(text, stops, size):
    pieces = [text[at : at + size] for at in range(0, len(text), size)]
    assert trim(stops, *pieces) == trim(stops, text)
    told, has_stopped = trim(stops, text)
    assert text.startswith(told)
    assert has_stopped == any(stop in text for stop in stops)
    assert not any(stop in told for stop in stops)
