"""How the live test takes alerts apart, to see whether what they compare is there."""

import pytest

from tests.prometheus import sides_of


@pytest.mark.parametrize(
    ("query", "sides"),
    [
        ("up == 0", ["up"]),
        ("sum by (a) (rate(x[5m])) / (y > 0) > 1.5", ["sum by (a) (rate(x[5m])) / (y > 0)"]),
        ("a > 14.4 * 0.005 and b * 2 >= 10", ["a", "b * 2"]),
        ("up == 0 and on (job, and) max(b) unless c <= 2 * d", ["up", "max(b)", "c", "2 * d"]),
        ('x{y=~"a or b > 1"} != bool 3', ['x{y=~"a or b > 1"}']),
        ("-1 < x", ["x"]),
    ],
)
def test_an_alert_is_taken_apart(query: str, sides: list[str]) -> None:
    assert sides_of(query) == sides
