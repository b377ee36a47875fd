"""Whether a request's CPU counts as flat."""

import pytest

from loadtests import growth, machine
from loadtests.growth import AXES, Turn


def turns(*cpu_us):
    return [Turn(one, 1000.0, 70.0) for one in cpu_us]


def found(axis, *others):
    first, *rest = axis.sizes
    return {first.title: turns(100, 200, 100)} | {size.title: turns(*others) for size in rest}


@pytest.mark.parametrize(
    ("others", "is_flat"), [((115, 230, 115), True), ((116, 232, 116), False), ((500, 90, 90), True)]
)
def test_a_size_is_flat_when_most_rounds_are_within_15_percent_of_the_firsts(others, is_flat):
    assert growth._verdict(AXES[0], found(AXES[0], *others)) is is_flat


def test_the_report_has_a_line_a_size_and_a_verdict_an_axis():
    text = list(growth._report({axis.name: found(axis, 100, 200, 116) for axis in AXES}))
    rows = [line for line in text if line.startswith("|")]
    assert len(rows) == 2 + sum(len(axis.sizes) for axis in AXES)
    assert sum(line.endswith(": flat") for line in text) == len(AXES)


def test_every_axis_begins_with_its_smallest_size_and_has_sizes_of_their_own():
    for axis in AXES:
        numbers = [int(size.title.replace(",", "")) for size in axis.sizes]
        assert numbers == sorted(set(numbers))


def test_the_command_that_is_told_is_the_one_that_ran(monkeypatch):
    monkeypatch.setattr("sys.argv", ["/anywhere/loadtests/growth.py", "--only", "keys"])
    assert machine.describe()["command"] == "python -m loadtests.growth --only keys"
