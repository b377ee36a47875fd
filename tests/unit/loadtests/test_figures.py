"""The statistics that the load tests' verdicts rest on."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtests.figures import Estimate, estimate, has_worsened, is_suspect, quantile, ratios

FINITE = st.lists(st.floats(0.1, 1e6), min_size=1, max_size=30)


@pytest.mark.parametrize(("share", "value"), [(0, 1), (0.5, 2.5), (1, 4), (0.25, 1.75)])
def test_a_quantile_lies_between_its_neighbours(share, value):
    assert quantile([4, 1, 3, 2], share) == value


def test_a_quantile_goes_evenly_from_one_value_to_the_next():
    assert quantile([0, 10, 30, 100], 0.6) == pytest.approx(26)


@given(FINITE, st.floats(0, 1))
def test_a_quantile_stays_within_the_values(values, share):
    assert min(values) * (1 - 1e-9) <= quantile(values, share) <= max(values) * (1 + 1e-9)


def test_few_rounds_are_told_with_their_range():
    assert estimate([3, 1, 2]) == Estimate(2, 1, 3)
    assert estimate([50, 1, 9, 10, 11]) == Estimate(10, 1, 50)


def test_many_rounds_are_told_with_an_interval_narrower_than_their_range():
    values = [10.0] * 9 + [10.5, 9.5, 30.0]
    assert estimate(values) == Estimate(10, 10, 10)


@given(FINITE)
def test_an_interval_holds_its_median_and_is_the_same_each_time(values):
    one = estimate(values)
    assert one.low <= one.median <= one.high
    assert one == estimate(values)


def test_ratios_are_of_the_same_round():
    assert ratios([10, 40], [5, 10]) == [2, 4]
    with pytest.raises(ValueError, match="zip"):
        ratios([1], [1, 2])


@pytest.mark.parametrize(
    ("now", "worsened", "suspect"),
    [
        (Estimate(10, 9.5, 10.5), False, False),
        (Estimate(11.4, 11.3, 11.5), False, False),
        (Estimate(12, 11.2, 12.5), True, True),
        (Estimate(12, 10.9, 14), False, True),
        (Estimate(5, 4.9, 5.1), False, False),
    ],
    ids=["the same", "worse by less than 15 %", "worse", "worse, but within the noise", "better"],
)
def test_a_ratio_has_worsened_when_it_is_worse_by_15_percent_and_by_more_than_noise(now, worsened, suspect):
    then = Estimate(10, 9, 11)
    assert has_worsened(now, then) is worsened
    assert is_suspect(now, then) is suspect
