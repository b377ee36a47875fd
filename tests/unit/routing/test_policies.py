"""Who should serve: by score, by name, by force; and what stands in when the choice can't."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.core.context import Candidate, Ladder, Reason, Tier, Wishes
from gateway.routing.policies import Choice, ComplexityPolicy, PinnedPolicy, forced_choice, settle_choice
from tests.builders import facts, ladder

SHARES = st.floats(0, 1)
COUNTS = st.sampled_from([1, 2, 3, 5])


def steps(count):
    return ladder(*(f"m{rank}" for rank in range(count)))


def rank_of(score, threshold, count):
    chosen = ComplexityPolicy(threshold).choose(steps(count), facts(score))
    assert (chosen.reason, chosen.threshold) == (Reason.SCORE, threshold)
    return steps(count).rank(chosen.model)


@given(SHARES, SHARES, SHARES, COUNTS)
@example(5e-324, 1e-323, 1.0, 5)
@example(0.0, 0.0, 0.0, 3)
@example(1.0, 1.0, 1.0, 3)
def test_a_harder_prompt_never_gets_a_weaker_model(one, other, threshold, count):
    low, high = (rank_of(score, threshold, count) for score in sorted((one, other)))
    assert 0 <= low <= high <= count - 1


@given(SHARES, SHARES, COUNTS)
def test_a_score_from_the_threshold_on_goes_to_the_top_and_only_such_a_one(score, threshold, count):
    assert (rank_of(score, threshold, count) == count - 1) == (score >= threshold or count == 1)


@pytest.mark.parametrize(
    ("count", "threshold", "score", "rank"),
    [
        (1, 0.5, 0.0, 0),
        (2, 0.5, 0.49, 0),
        (2, 0.5, 0.5, 1),
        (3, 0.6, 0.29, 0),
        (3, 0.6, 0.31, 1),
        (3, 0.6, 0.6, 2),
        (5, 0.8, 0.19, 0),
        (5, 0.8, 0.21, 1),
        (5, 0.8, 0.41, 2),
        (5, 0.8, 0.61, 3),
        (5, 0.8, 0.81, 4),
        (3, 0.0, 0.0, 2),
        (3, 1.0, 1.0, 2),
        (3, 1.0, 0.999, 1),
    ],
)
def test_the_range_below_the_threshold_is_cut_evenly(count, threshold, score, rank):
    assert rank_of(score, threshold, count) == rank


def test_without_a_score_the_strongest_serves():
    policy = ComplexityPolicy(0.9)
    assert policy.choose(steps(3), facts(None)) == Choice("m2", Reason.CLASSIFIER_UNAVAILABLE, 0.9)


@pytest.mark.parametrize(("threshold", "model"), [(0.3, "m1"), (0.5, "m0"), (0.0, "m1")])
def test_a_threshold_of_the_request_replaces_the_routes(threshold, model):
    policy = ComplexityPolicy(0.9)
    assert policy.choose(steps(2), facts(0.4, Wishes(threshold=threshold))) == Choice(model, Reason.SCORE, threshold)


@given(st.none() | SHARES, COUNTS)
def test_a_pinned_policy_chooses_its_model_whatever_the_score(score, count):
    assert PinnedPolicy("m0").choose(steps(count), facts(score, Wishes(threshold=0.1))) == Choice("m0", Reason.PINNED)


@pytest.mark.parametrize(("tier", "model"), [(Tier.WEAK, "m0"), (Tier.STRONG, "m2")])
def test_a_forced_tier_is_an_end_of_the_ladder(tier, model):
    assert forced_choice(steps(3), tier, 0.4) == Choice(model, Reason.FORCED, 0.4)


@pytest.mark.parametrize(
    ("drops", "model", "reason"),
    [
        ([None, None, None, None], "m1", Reason.SCORE),
        ([Reason.CAPABILITY, None, Reason.CONTEXT, None], "m1", Reason.SCORE),
        ([None, Reason.CAPABILITY, None, None], "m2", Reason.CAPABILITY),
        ([None, Reason.CONTEXT, Reason.CAPABILITY, None], "m3", Reason.CONTEXT),
        ([None, Reason.CONTEXT, Reason.CAPABILITY, Reason.CAPABILITY], "m0", Reason.CONTEXT),
    ],
)
def test_who_cant_serve_gives_way_to_the_next_stronger_then_the_next_weaker(drops, model, reason):
    candidates = [Candidate(f"m{rank}", why) for rank, why in enumerate(drops)]
    assert settle_choice(Choice("m1", Reason.SCORE, 0.5), candidates) == Choice(model, reason, 0.5)


def test_the_nearest_weaker_stands_in_for_the_top():
    candidates = [Candidate("m0"), Candidate("m1"), Candidate("m2", Reason.CONTEXT)]
    assert settle_choice(Choice("m2", Reason.FORCED), candidates) == Choice("m1", Reason.CONTEXT)


def test_a_list_of_candidates_without_one_that_can_serve_is_a_fault_of_ours():
    with pytest.raises(AssertionError):
        settle_choice(Choice("m0", Reason.SCORE), [Candidate("m0", Reason.CONTEXT)])


@pytest.mark.parametrize(("score", "rank"), [(0.0, 0), (0.479, 0), (0.481, 1), (0.539, 1), (0.541, 2), (0.6, 3)])
def test_a_ladders_steps_are_its_models_abilities(score, rank):
    tall = Ladder("auto", ("m0", "m1", "m2", "m3"), steps=(0, 0.8, 0.9, 1))
    assert tall.rank(ComplexityPolicy(0.6).choose(tall, facts(score)).model) == rank
