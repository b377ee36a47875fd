"""Specialists first, where the domain is known and the score is what would decide."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.context import Candidate, Reason, Wishes
from gateway.core.judgement import DOMAINS, Judgement
from gateway.routing.domains import DomainPolicy, find_specialists
from gateway.routing.policies import Choice, ComplexityPolicy, Facts, PinnedPolicy
from tests.builders import facts, ladder, model

LADDER = ladder("small", "medic", "counsel", "large")
MODELS = {
    "small": model(),
    "medic": model(domains=("medicine", "psychology", "Health")),
    "counsel": model(domains=("law", "legal", "economics")),
    "large": model(domains=("law",)),
}
POLICY = DomainPolicy(ComplexityPolicy(0.6), find_specialists(LADDER.models, MODELS))


def choose(score, domain, dropped=(), wishes=None):
    candidates = tuple(Candidate(name, Reason.CONTEXT if name in dropped else None) for name in LADDER.models)
    return POLICY.choose(LADDER, Facts(Judgement(score, domain=domain), wishes or Wishes(), candidates))


def test_specialists_are_found_by_domain_in_the_ladders_order_whatever_they_are_called():
    assert find_specialists(LADDER.models, MODELS) == {
        "health": ["medic"],
        "psychology": ["medic"],
        "law": ["counsel", "large"],
        "economics": ["counsel"],
    }


@pytest.mark.parametrize("score", [0.0, 0.3, 0.59, 0.6, 1.0])
def test_the_only_specialist_is_able_in_its_domain_however_hard_the_request(score):
    assert choose(score, "health") == Choice("medic", Reason.DOMAIN, 0.6)


@pytest.mark.parametrize(("score", "chosen"), [(0.0, "counsel"), (0.41, "counsel"), (0.59, "counsel"), (0.6, "large")])
def test_of_several_the_weakest_that_stands_as_high_as_the_score_calls_for(score, chosen):
    assert choose(score, "law") == Choice(chosen, Reason.DOMAIN, 0.6)


@pytest.mark.parametrize(("domain", "chosen"), [("math", "small"), (None, "small"), ("nonsense", "small")])
def test_in_any_other_domain_the_score_decides(domain, chosen):
    assert choose(0.1, domain) == Choice(chosen, Reason.SCORE, 0.6)


def test_a_specialist_that_cannot_serve_gives_way_to_the_next_and_then_to_the_score():
    assert choose(0.1, "law", dropped=["counsel"]) == Choice("large", Reason.DOMAIN, 0.6)
    assert choose(0.9, "law", dropped=["large"]) == Choice("counsel", Reason.DOMAIN, 0.6)
    assert choose(0.1, "law", dropped=["counsel", "large"]) == Choice("small", Reason.SCORE, 0.6)


def test_a_threshold_of_the_request_and_a_missing_judgement_leave_the_choice_as_it_is():
    assert choose(0.1, "health", wishes=Wishes(threshold=0.05)) == Choice("large", Reason.SCORE, 0.05)
    assert POLICY.choose(LADDER, facts(None)) == Choice("large", Reason.CLASSIFIER_UNAVAILABLE, 0.6)


def test_what_another_rule_chose_stands():
    policy = DomainPolicy(PinnedPolicy("small"), find_specialists(LADDER.models, MODELS))
    assert policy.choose(LADDER, facts(0.9, domain="law")) == Choice("small", Reason.PINNED)
    assert (policy.needs_score, POLICY.needs_score) == (False, True)


@given(st.floats(0, 1), st.sampled_from([None, *DOMAINS]), st.sets(st.sampled_from(LADDER.models), max_size=3))
def test_a_specialist_is_chosen_exactly_where_one_can_serve(score, domain, dropped):
    found = choose(score, domain, dropped)
    able = [name for name in find_specialists(LADDER.models, MODELS).get(domain, ()) if name not in dropped]
    assert (found.reason is Reason.DOMAIN) == bool(able)
    assert not able or found.model in able
