"""Secrets show themselves to nobody who does not ask."""

import copy

import pytest

from gateway.core.secret import Secret
from tests.builders import model


@pytest.mark.parametrize("show", [repr, str, "{}".format, "%s".__mod__, lambda it: f"{it!r:>20}", lambda it: str([it])])
def test_no_way_of_printing_a_secret_shows_it(show):
    assert "hunter2" not in show(Secret("hunter2"))
    assert "hunter2" not in show(model(api_key=Secret("hunter2")))


def test_a_secret_is_told_to_who_asks_and_compares_by_its_text():
    assert Secret("a").reveal() == "a"
    assert Secret("a") == Secret("a") == copy.copy(Secret("a"))
    assert Secret("a") != Secret("b")
    assert Secret("a") != "a"
    assert len({Secret("a"), Secret("a"), Secret("b")}) == 2
