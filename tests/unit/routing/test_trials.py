"""Routers side by side: shares of conversations, each of which stays with one router."""

import pytest

from gateway.core.context import Caller, Wishes
from gateway.routing.routes import build_routes
from gateway.routing.trials import Mode, build_trials, point_of
from gateway.schema.conversation import Conversation, Turn
from gateway.schema.request import Operation
from gateway.settings.root import Settings
from gateway.settings.routes import PolicySettings, RouteSettings, TrialSettings
from tests.builders import context, model, request

HALF = {"new": TrialSettings(share=0.5)}


def conversation(*texts, role="user"):
    return Conversation(tuple(Turn(role, text) for text in texts))


def points(count, **more):
    given = {"route": "auto", "tenant": "client:me", "session": None} | more
    return [point_of(conversation=conversation(f"prompt {number}"), **given) for number in range(count)]


def test_shares_are_kept_over_many_conversations():
    trials = build_trials({"one": TrialSettings(share=0.1), "two": TrialSettings(share=0.3)})
    picked = [trials.pick("default", point) for point in points(5_000)]
    shares = {router: picked.count(router) / len(picked) for router in set(picked)}
    assert shares == pytest.approx({"one": 0.1, "two": 0.3, "default": 0.6}, abs=0.03)


def test_a_share_of_everything_leaves_nothing():
    trials = build_trials({"one": TrialSettings(share=0.5), "two": TrialSettings(share=0.5)})
    assert {trials.pick("default", point) for point in (0.0, 0.4999, 0.5, 0.9999)} == {"one", "two"}


def test_shadows_decide_nothing():
    trials = build_trials({"next": TrialSettings(shadow=True)})
    assert trials.shadows == ("next",)
    assert {trials.pick("default", point) for point in points(100)} == {"default"}
    assert build_trials({}) is None


def test_a_conversation_that_grows_stays_where_it_began():
    began = Conversation((Turn("system", "be kind"), Turn("user", "hello")))
    later = Conversation((*began.turns, Turn("assistant", "hi"), Turn("user", "prove it")))
    other = Conversation((Turn("system", "be kind"), Turn("user", "good bye")))
    found = [point_of("auto", "client:me", None, one) for one in (began, later, other)]
    assert found[0] == found[1] != found[2]


def test_a_session_stays_together_whatever_is_said_in_it():
    found = {point_of("auto", "client:me", "s-1", conversation(text)) for text in ("hello", "prove it")}
    assert len(found) == 1
    assert found != {point_of("auto", "client:me", "s-2", conversation("hello"))}


def test_routes_and_tenants_are_cut_each_by_itself():
    assert len({points(1, route=route, tenant=tenant)[0] for route in "ab" for tenant in "cd"}) == 4


@pytest.mark.parametrize("turns", [(), (Turn("assistant", "only me"),), (Turn("user", "\ud83d lone"),)])
def test_any_conversation_has_a_point(turns):
    assert 0 <= point_of("auto", "", "\ud83d" if not turns else None, Conversation(turns)) < 1


def route(**trials):
    policy = PolicySettings(routers=trials)
    models = {"small": model(), "large": model()}
    table = build_routes(Settings(models=models, routes={"auto": RouteSettings(("small", "large"), policy)}))
    return table.resolve("auto", Operation.CHAT)


def ctx_of(**facts):
    return context(request=request(), **facts)


def test_a_route_alone_or_with_shadows_only_picks_its_own():
    for found in (route(), route(next=TrialSettings(shadow=True))):
        assert found.pick_router(ctx_of()) == "default"
    assert route().mode_of("default") is Mode.MAIN


def test_a_route_picks_by_tenant_and_session():
    found = route(**HALF)
    picked = {
        session: found.pick_router(ctx_of(caller=Caller("me", "client:me"), wishes=Wishes(session=session)))
        for session in map(str, range(50))
    }
    assert set(picked.values()) == {"default", "new"}
    assert found.mode_of("new") is Mode.SHARE
    again = {found.pick_router(ctx_of(wishes=Wishes(session="7"))) for _ in range(5)}
    assert len(again) == 1
