"""What a classifier says: chances between two ends."""

import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.judgement import DOMAINS, Judgement, Reference

CHANCES = st.floats(0, 1)


def test_the_ends_are_what_the_heads_said_and_between_is_even_in_the_logit():
    judgement = Judgement(0.5, weak_chance=0.2, strong_chance=0.8)
    assert judgement.chance(0) == pytest.approx(0.2)
    assert judgement.chance(1) == pytest.approx(0.8)
    assert judgement.chance(0.5) == pytest.approx(0.5)
    assert judgement.chance(0.25) == pytest.approx(1 / (1 + math.exp(math.log(4) / 2)))


@pytest.mark.parametrize("heads", [{}, {"weak_chance": 0.5}, {"strong_chance": 0.5}])
def test_without_both_heads_there_is_no_chance(heads):
    assert Judgement(0.5, **heads).chance(0.5) is None


@given(CHANCES, CHANCES, CHANCES)
def test_a_chance_lies_between_the_ends_whatever_they_are(weak, strong, ability):
    found = Judgement(0.5, weak_chance=weak, strong_chance=strong).chance(ability)
    assert min(weak, strong) - 2e-6 <= found <= max(weak, strong) + 2e-6


def test_there_are_eighteen_domains():
    assert len(set(DOMAINS)) == 18


@pytest.mark.parametrize(
    "spread",
    [
        {"edges": [1, 2], "share": [0.5, 0.5]},
        {"edges": [2, 1], "share": [0.5, 0.25, 0.25]},
        {"edges": [1, 1], "share": [0.5, 0.25, 0.25]},
        {"edges": [1], "share": [1.5, -0.5]},
        {"edges": [1], "share": [0.5, 0.4]},
        {"edges": [], "share": []},
        {"edges": ["1"], "share": [0.5, 0.5]},
    ],
)
def test_a_distribution_that_is_none_is_refused(spread):
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"score": spread}, Reference)
