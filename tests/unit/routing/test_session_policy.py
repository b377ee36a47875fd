"""A conversation keeps its model, where only the score speaks against it and the cache is worth it."""

import msgspec
import pytest

from gateway.core.context import Candidate, Reason, Wishes
from gateway.core.session import Recall, Session
from gateway.routing.policies import Choice, ComplexityPolicy, PinnedPolicy
from gateway.routing.routes import build_policy
from gateway.routing.session import SessionPolicy
from gateway.settings.routes import PolicyKind, PolicySettings, RouteSettings, SessionSettings
from tests.builders import facts, ladder, model, price, recall

STEPS = ladder("small", "middle", "large")
PRICES = {"small": price(4.0, 4.0, 0.4), "middle": price(6.0, 6.0, 0.6), "large": price(10.0, 20.0, 1.0)}
ABLE = tuple(Candidate(name) for name in STEPS.models)
THRESHOLD = 0.5
EASY, MIDDLE, HARD = 0.1, 0.3, 0.8


def choose(score, turn=None, *, inner=None, wishes=None, candidates=ABLE, margin=0.02, **told):
    known = msgspec.structs.replace(facts(score, wishes, **told), recall=turn, candidates=candidates)
    return SessionPolicy(inner or ComplexityPolicy(THRESHOLD), PRICES, margin).choose(STEPS, known)


class Saying:
    """A policy that says one thing."""

    needs_score = True

    def __init__(self, *choice):
        self.choice = Choice(*choice)

    def choose(self, steps, known):
        return self.choice


def test_an_easy_turn_stays_with_the_strong_model_while_that_pays_and_says_why():
    choice = choose(EASY, recall(), output_tokens=100)
    assert (choice.model, choice.reason, choice.threshold) == ("large", Reason.SESSION, THRESHOLD)
    assert choice.rent_usd == pytest.approx(13_000e-6)


@pytest.mark.parametrize(("paid", "model"), [(19_399e-6, "large"), (19_401e-6, "small")])
def test_it_leaves_once_the_rents_would_come_to_the_fee(paid, model):
    assert choose(EASY, recall(rent_usd=paid), output_tokens=100).model == model


def test_dear_words_are_a_reason_to_leave_sooner():
    assert choose(EASY, recall(), output_tokens=1_300).model == "large"
    assert choose(EASY, recall(), output_tokens=1_400).model == "small"


@pytest.mark.parametrize(
    "turn",
    [
        pytest.param(None, id="a route that remembers nothing"),
        pytest.param(Recall(Session("key"), 160.0, (1,), 10_000), id="a conversation nobody knows"),
        pytest.param(recall("retired"), id="a model that is not on the ladder"),
        pytest.param(recall(now_s=500.0), id="a cache that has died"),
        pytest.param(recall(lengths=(9, 9)), id="another conversation under the same name"),
        pytest.param(recall("small"), id="the model that is chosen anyway"),
    ],
)
def test_without_a_live_cache_elsewhere_the_score_decides(turn):
    assert choose(EASY, turn) == Choice("small", Reason.SCORE, THRESHOLD)


@pytest.mark.parametrize("wanted", [MIDDLE, HARD])
def test_a_hard_turn_leaves_the_weak_model_whatever_that_costs(wanted):
    """It began with "hi": quality first."""
    choice = choose(wanted, recall("small"))
    assert (choice.model, choice.reason) == ("large" if wanted is HARD else "middle", Reason.SCORE)


@pytest.mark.parametrize(
    ("score", "margin", "model", "reason"),
    [
        (0.5199, 0.02, "middle", Reason.SESSION),
        (0.5201, 0.02, "large", Reason.SCORE),
        (0.5, 0.02, "middle", Reason.SESSION),
        (0.5, 0.0, "large", Reason.SCORE),
        (0.499, 0.02, "middle", Reason.SCORE),
    ],
)
def test_only_within_the_margin_a_weaker_model_is_kept(score, margin, model, reason):
    choice = choose(score, recall("middle"), margin=margin)
    assert (choice.model, choice.reason, choice.rent_usd) == (model, reason, 0.0)


def test_the_margin_does_not_keep_a_model_two_steps_too_weak():
    assert choose(0.51, recall("small")).model == "large"


def test_where_all_go_to_the_strong_side_no_margin_keeps_any_back():
    assert choose(0.01, recall("small"), inner=ComplexityPolicy(0.0)).model == "large"


def test_within_the_margin_too_there_must_be_a_cache_to_keep():
    assert choose(0.51, recall("middle", now_s=500.0)).model == "large"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        pytest.param({"wishes": Wishes(threshold=0.6)}, "small", id="a threshold the client asked for"),
        pytest.param({"inner": PinnedPolicy("small")}, "small", id="a pinned model"),
        pytest.param({"inner": Saying("middle", Reason.DOMAIN, THRESHOLD)}, "middle", id="a specialist"),
        pytest.param({"inner": Saying("small", Reason.PRIVATE, THRESHOLD)}, "small", id="a local model"),
    ],
)
def test_what_was_asked_for_is_given(changes, expected):
    assert choose(EASY, recall(), **changes).model == expected
    assert choose(EASY, recall(), **changes).reason is not Reason.SESSION


@pytest.mark.parametrize("why", [Reason.CAPABILITY, Reason.CONTEXT, Reason.PRIVATE])
@pytest.mark.parametrize("dropped", ["small", "large"])
def test_among_models_that_cannot_serve_nothing_is_weighed(dropped, why):
    candidates = tuple(Candidate(name, why if name == dropped else None) for name in STEPS.models)
    assert choose(EASY, recall(), candidates=candidates) == Choice("small", Reason.SCORE, THRESHOLD)


def test_without_a_judgement_the_strong_side_serves():
    choice = choose(None, recall("middle"))
    assert (choice.model, choice.reason) == ("large", Reason.CLASSIFIER_UNAVAILABLE)


def test_a_choice_without_a_threshold_is_not_bent():
    assert choose(EASY, recall("small"), inner=Saying("middle", Reason.SCORE)).model == "middle"


def test_it_needs_a_score_where_its_inner_policy_does():
    assert SessionPolicy(ComplexityPolicy(0.5), PRICES, 0.0).needs_score
    assert not SessionPolicy(PinnedPolicy("small"), PRICES, 0.0).needs_score


def test_a_route_gets_it_with_its_models_prices_and_its_margin():
    settings = PolicySettings(kind=PolicyKind.SESSION, threshold=THRESHOLD, session=SessionSettings(margin=0.0))
    route = RouteSettings(models=STEPS.models, policy=settings)
    policy = build_policy(route, {name: model(price=one) for name, one in PRICES.items()})
    kept = msgspec.structs.replace(facts(EASY), recall=recall(), candidates=ABLE)
    assert policy.choose(STEPS, kept).reason is Reason.SESSION
    near = msgspec.structs.replace(facts(0.51), recall=recall("middle"), candidates=ABLE)
    assert policy.choose(STEPS, near).model == "large"
