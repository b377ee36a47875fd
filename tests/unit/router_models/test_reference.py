"""The reference that training writes: deciles, with bins of their own for values that many prompts share."""

import msgspec
import numpy as np
import pytest

from router_models.reference import build_bins, build_reference


def shares_of(bins, values):
    places = np.searchsorted(bins["edges"], values, side="right")
    return np.bincount(places, minlength=len(bins["edges"]) + 1) / len(values)


def test_continuous_values_fall_into_ten_bins_of_a_tenth_each():
    bins = build_bins(np.random.default_rng(1).random(10_000))
    assert len(bins["edges"]) == 9
    assert bins["share"] == pytest.approx([0.1] * 10, abs=0.001)


def test_a_reference_is_json_in_the_signals_order():
    reference = build_reference([0.1, 0.2, 0.9], {"words": [1, 2, 3], "code": np.array([0, 0, 1], dtype=np.float32)})
    read = msgspec.json.decode(msgspec.json.encode(reference))
    assert read == reference
    assert list(read) == ["score", "signals"]
    assert list(read["signals"]) == ["words", "code"]


def test_shares_are_those_of_the_bins_by_which_live_values_are_told():
    values = np.random.default_rng(2).poisson(3, 5_000)
    bins = build_bins(values)
    assert bins["share"] == pytest.approx(shares_of(bins, values), abs=1e-6)
    assert sum(bins["share"]) == pytest.approx(1)


@pytest.mark.parametrize("share", [0.95, 0.85, 0.5])
def test_a_count_that_is_mostly_zero_keeps_its_zeros_in_a_bin_of_their_own(share):
    values = np.zeros(1_000)
    values[int(share * 1_000) :] = np.arange(1, 1_000 - int(share * 1_000) + 1)
    bins = build_bins(values)
    assert bins["share"][0] == pytest.approx(share)
    assert bins["edges"][0] == 1
    assert shares_of(bins, np.array([0.0]))[0] == 1
    assert shares_of(bins, np.array([1.0]))[0] == 0


def test_a_constant_has_a_bin_of_its_own_with_room_on_either_side():
    bins = build_bins([3.0, 3.0])
    assert bins["share"] == [0.0, 1.0, 0.0]
    assert [list(shares_of(bins, np.array([value]))).index(1) for value in (2.9, 3.0, 3.1)] == [0, 1, 2]


def test_the_most_frequent_value_may_be_the_largest():
    bins = build_bins([0.0, *[1.0] * 9])
    assert bins["share"] == [0.1, 0.9]


@pytest.mark.parametrize("values", [[], [1.0, float("nan")], [float("inf"), 0.0]])
def test_what_is_no_number_is_refused(values):
    with pytest.raises(ValueError, match="finite"):
        build_bins(values)
