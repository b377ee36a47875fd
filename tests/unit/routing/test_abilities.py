"""Where models stand between the router's weak and strong side."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.routing.abilities import fill_abilities, find_steps

GIVEN = st.lists(st.none() | st.floats(0, 1), min_size=1, max_size=6).map(
    lambda found: [None if one is None else sorted(known for known in found if known is not None)[n]
                   for one, n in zip(found, counted(found), strict=True)]
)  # fmt: skip


def counted(found):
    return [sum(one is not None for one in found[:place]) for place in range(len(found))]


@pytest.mark.parametrize(
    ("given", "filled"),
    [
        ([None], [1]),
        ([0.4], [0.4]),
        ([None, None], [0, 1]),
        ([None, None, None], [0, 0.5, 1]),
        ([0.2, None, 0.8], [0.2, 0.5, 0.8]),
        ([None, 0.8, None, None], [0, 0.8, 0.9, 1]),
        ([None, None, 0.5], [0, 0.25, 0.5]),
        ([0.1, 0.2, 0.9], [0.1, 0.2, 0.9]),
    ],
)
def test_what_is_not_given_takes_even_steps_between_its_neighbours(given, filled):
    assert fill_abilities(given) == pytest.approx(filled)


@pytest.mark.parametrize(
    ("abilities", "steps"),
    [
        ([1], [1]),
        ([0.4], [1]),
        ([0, 1], [0, 1]),
        ([0.2, 0.5, 0.7], [0, 0.6, 1]),
        ([0.5, 0.5, 0.5], [0, 0.5, 1]),
    ],
)
def test_steps_start_at_the_weakest_and_end_at_the_strongest(abilities, steps):
    assert find_steps(abilities) == pytest.approx(steps)


@given(GIVEN)
def test_abilities_and_steps_never_fall_and_stay_within_bounds(given):
    for found in (fill_abilities(given), find_steps(fill_abilities(given))):
        assert len(found) == len(given)
        assert all(-1e-9 <= low <= high + 1e-9 for low, high in zip(found, [*found[1:], 1.0], strict=True))
