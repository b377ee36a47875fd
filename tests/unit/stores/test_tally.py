"""Sums that several add to."""

import struct

import pytest

from gateway.stores.tally import Change, Tally, change_tally, pack_tally, unpack_tally

TALLY = Tally((1.0, 2.0, 0.0), (-3.5, 7.0))


def test_a_tally_comes_back_as_it_was():
    assert unpack_tally(pack_tally(TALLY), 2) == TALLY


def test_older_weights_fade_and_sums_do_not():
    assert change_tally(TALLY, Change({0: 1.0, 2: 0.5}, 0.5, (1.0, 3.0))) == Tally((1.5, 1.0, 0.5), (-2.5, 10.0))


@pytest.mark.parametrize(
    "packed",
    [b"", b"x" * 9, struct.pack("<d", 1.0), struct.pack("<3d", -1, 0, 0), struct.pack("<3d", float("nan"), 0, 0),
     struct.pack("<3d", 1, float("inf"), 0)],
)  # fmt: skip
def test_what_is_no_tally_is_none(packed):
    assert unpack_tally(packed, 2) is None
