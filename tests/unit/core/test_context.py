"""The facts of a request, and what follows from them."""

import pytest

from gateway.core.context import CacheOutcome, Tier
from gateway.core.errors import InternalError, OverloadedError
from tests.builders import context, decided_context, ladder


@pytest.mark.parametrize(
    ("models", "tiers"),
    [
        (["a"], [Tier.STRONG]),
        (["a", "b"], [Tier.WEAK, Tier.STRONG]),
        (["a", "b", "c", "d"], [Tier.WEAK, Tier.MIDDLE, Tier.MIDDLE, Tier.STRONG]),
    ],
)
def test_the_ends_of_a_ladder_are_weak_and_strong_and_all_between_is_middle(models, tiers):
    steps = ladder(*models)
    assert [steps.tier(model) for model in models] == tiers
    assert [steps.rank(model) for model in models] == list(range(len(models)))


def test_a_fallback_from_outside_the_ladder_has_no_rank_and_no_tier():
    assert ladder().rank("stranger") == -1
    assert decided_context(model="stranger").tier is None


def test_a_context_knows_its_tier_once_a_model_answered():
    assert decided_context().tier is None
    assert decided_context(model="small").tier is Tier.WEAK
    assert context(model="small").tier is None


def test_an_outcome_is_ok_cancelled_or_the_errors_code():
    assert context().outcome == "ok"
    assert context(is_cancelled=True).outcome == "cancelled"
    assert context(failure=OverloadedError("full"), is_cancelled=True).outcome == "overloaded"


@pytest.mark.parametrize(
    ("outcome", "is_own"),
    [
        (CacheOutcome.MISS, True),
        (CacheOutcome.BYPASS, True),
        (CacheOutcome.HIT, False),
        (CacheOutcome.SHARED, False),
    ],
)
def test_a_call_is_a_requests_own_unless_the_cache_answered(outcome, is_own):
    assert context(cache_outcome=outcome).is_own_call is is_own


@pytest.mark.parametrize("name", ["asked", "asked_ladder", "decided"])
def test_a_stage_out_of_order_is_a_fault_of_ours(name):
    with pytest.raises(InternalError):
        getattr(context(), name)
    assert getattr(decided_context(), name) is not None
