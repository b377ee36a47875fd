"""What every policy promises to the walk."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.context import Reason, Wishes
from gateway.routing.routes import build_policy
from gateway.settings.routes import PolicyKind, PolicySettings, RouteSettings
from tests.builders import facts, ladder, model

MODELS = ("m0", "m1", "m2", "m3", "m4")
LADDERS = st.integers(1, 5).map(lambda count: ladder(*MODELS[:count]))
SCORES = st.none() | st.floats(0, 1)
WISHES = st.builds(Wishes, threshold=st.none() | st.floats(0, 1))
every_kind = pytest.mark.parametrize("kind", list(PolicyKind))


FLEET = {name: model(domains=("law",) if name in {"m1", "m3"} else ()) for name in MODELS}
DOMAIN = st.sampled_from([None, "law", "math"])


def policy_of(kind, steps, threshold=0.5):
    route = RouteSettings(models=steps.models, policy=PolicySettings(kind=kind, threshold=threshold, model="m0"))
    return build_policy(route, FLEET)


@every_kind
@given(LADDERS, SCORES, DOMAIN, WISHES, st.floats(0, 1))
def test_a_choice_is_on_the_ladder_and_has_a_reason(kind, steps, score, domain, wishes, threshold):
    choice = policy_of(kind, steps, threshold).choose(steps, facts(score, wishes, domain=domain))
    assert steps.rank(choice.model) >= 0
    assert choice.reason in Reason


@every_kind
@given(LADDERS, SCORES, DOMAIN, WISHES)
def test_the_same_facts_make_the_same_choice(kind, steps, score, domain, wishes):
    policy, told = policy_of(kind, steps), facts(score, wishes, domain=domain)
    assert policy.choose(steps, told) == policy.choose(steps, told)


@every_kind
@given(LADDERS, WISHES)
def test_a_policy_that_needs_a_score_goes_to_the_strong_side_without_one(kind, steps, wishes):
    policy = policy_of(kind, steps)
    if policy.needs_score:
        choice = policy.choose(steps, facts(None, wishes))
        assert (choice.model, choice.reason) == (steps.models[-1], Reason.CLASSIFIER_UNAVAILABLE)


@every_kind
@given(LADDERS, SCORES, WISHES)
def test_a_threshold_that_is_told_is_the_one_asked_for(kind, steps, score, wishes):
    choice = policy_of(kind, steps).choose(steps, facts(score, wishes))
    if choice.threshold is not None:
        assert choice.threshold == (0.5 if wishes.threshold is None else wishes.threshold)
