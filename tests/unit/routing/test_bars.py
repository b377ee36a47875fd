"""How sure is sure enough: a bound that stands, and one that holds a share."""

import random

import pytest

from gateway.routing.bars import Bars
from gateway.settings.routes import CascadeSettings, PolicySettings, RouteSettings

FIFTH = CascadeSettings(escalate_share=0.2)


def given_up(bars, confidences, rule=FIFTH, model="small"):
    """Return the share of these that were not let go on."""
    answers = [bars.clears("auto", model, rule, confidence) for confidence in confidences]
    return answers.count(False) / len(answers)


@pytest.mark.parametrize(
    ("bound", "confidence", "is_enough"),
    [(0.3, 0.3, True), (0.3, 0.29, False), (0.3, 1.0, True), (0.0, 0.001, True), (0.0, 0.0, False), (1.0, 0.99, False)],
)
def test_a_bound_that_stands(bound, confidence, is_enough):
    assert Bars().clears("auto", "small", CascadeSettings(min_confidence=bound), confidence) is is_enough


@pytest.mark.parametrize("low", [0.0, 0.6, 0.95], ids=["spread", "sure", "very sure"])
def test_a_share_is_held_however_sure_a_model_is(low):
    rng, bars = random.Random(7), Bars()
    found = given_up(bars, [rng.uniform(low or 0.001, 1.0) for _ in range(500)])
    assert found == pytest.approx(0.2, abs=0.03)


def test_it_is_the_least_sure_that_are_given_up():
    rng, bars = random.Random(7), Bars()
    given_up(bars, [rng.uniform(0.5, 1.0) for _ in range(500)])
    assert not bars.clears("auto", "small", FIFTH, 0.52)
    assert bars.clears("auto", "small", FIFTH, 0.9)


def test_an_impossible_token_or_no_word_at_all_is_never_let_go_on():
    rule = CascadeSettings(escalate_share=0.0)
    assert given_up(Bars(), [0.0, 0.0], rule) == 1
    assert given_up(Bars(), [0.001, 0.5], rule) == 0


def test_each_model_and_measure_has_a_share_of_its_own():
    rng, bars = random.Random(7), Bars()
    given_up(bars, [rng.uniform(0.9, 1.0) for _ in range(500)])
    assert bars.clears("auto", "middle", FIFTH, 0.5)
    assert bars.clears("other", "small", FIFTH, 0.5)
    assert bars.clears("auto", "small", CascadeSettings(escalate_share=0.2, tokens=8), 0.5)
    assert not bars.clears("auto", "small", FIFTH, 0.5)


def test_another_share_goes_on_with_what_is_known():
    rng, bars = random.Random(7), Bars()
    confidences = [rng.uniform(0.9, 1.0) for _ in range(500)]
    given_up(bars, confidences)
    assert given_up(bars, confidences, CascadeSettings(escalate_share=0.5)) == pytest.approx(0.5, abs=0.03)
    assert bars.clears("auto", "small", CascadeSettings(escalate_share=0.5), 0.99)


def test_what_no_route_measures_any_more_is_forgotten():
    rng, bars = random.Random(7), Bars()
    given_up(bars, [rng.uniform(0.9, 1.0) for _ in range(500)])
    route = RouteSettings(models=("small", "large"), policy=PolicySettings(cascade=FIFTH))
    bars.forget_others({"auto": route})
    assert not bars.clears("auto", "small", FIFTH, 0.5)
    bars.forget_others({"other": route})
    assert bars.clears("auto", "small", FIFTH, 0.5)
