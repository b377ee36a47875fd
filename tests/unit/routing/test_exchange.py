"""The trackers of the routes: kept over reloads, shared through the store, going on without it."""

import random

import pytest

from gateway.core.judgement import Distribution, Reference
from gateway.routing.exchange import Shares
from gateway.routing.strong_share import PRIOR_WEIGHT
from gateway.settings.routes import PolicyKind, PolicySettings, RouteSettings, TrialSettings
from gateway.stores.memory import MemoryStore
from gateway.stores.store import StoreUnavailableError
from tests.unit.routing.test_strong_share import send, share_of


class Router:
    def __init__(self, version="1", reference=None):
        self.version, self.reference = version, reference


class AwayStore(MemoryStore):
    """A store that can be away, or lose all it knows."""

    is_away = False

    async def change_tally(self, key, change, ttl_s):
        if self.is_away:
            raise StoreUnavailableError("away")
        return await super().change_tally(key, change, ttl_s)


def route(**policy):
    return RouteSettings(models=("small", "large"), policy=PolicySettings(**policy))


HELD = {"auto": route(strong_share=0.3)}


class Replica:
    def __init__(self, store, routes=HELD, version="1"):
        self.failures = 0
        self.shares = Shares(self.count)
        self.tracker = self.shares.renew(routes, {"default": Router(version)}, store)["auto"].tracker(None)

    def count(self):
        self.failures += 1


@pytest.fixture
def store():
    return AwayStore(100)


def test_only_routes_that_hold_a_share_have_a_tracker():
    routes = {
        "auto": route(strong_share=0.3),
        "plain": route(),
        "fixed": route(kind=PolicyKind.PINNED, model="small", strong_share=0.3),
    }
    shares = Shares(lambda: None)
    held = shares.renew(routes, {"default": Router()}, None)
    assert list(held) == ["auto"]
    assert shares.thresholds() == {"auto": held["auto"].threshold}


def test_a_reload_keeps_a_tracker_until_scores_mean_something_else():
    shares = Shares(lambda: None)

    def renew(version, **policy):
        held = shares.renew({"auto": route(**policy)}, {"default": Router(version)}, None).get("auto")
        return held and held.tracker("default")

    first = renew("1", strong_share=0.3)
    assert renew("1", strong_share=0.3) is first
    assert renew("1", strong_share=0.5) is first
    assert first.target == 0.5
    assert renew("2", strong_share=0.5) is not first
    assert renew("2") is None


def test_a_tracker_begins_with_its_routers_training():
    reference = Reference(Distribution((0.5,), (0.7, 0.3)))
    held = Shares(lambda: None).renew(HELD, {"default": Router(reference=reference)}, None)
    assert held["auto"].threshold == pytest.approx(0.5, abs=0.001)


def test_each_router_of_a_route_has_a_tracker_and_each_version_a_new_one():
    routers = {"default": Router("1"), "mine": Router("7"), "gone": Router("9")}
    trials = {"mine": TrialSettings(share=0.2), "gone": TrialSettings(share=0.1)}
    shares = Shares(lambda: None)
    held = shares.renew({"auto": route(strong_share=0.3, routers=trials)}, routers, None)["auto"]
    first = [held.tracker(name) for name in (None, "mine", "gone")]
    assert len(set(map(id, first))) == 3
    routers["mine"].version = "8"
    assert held.tracker("mine") is held.tracker("mine") is not first[1]
    del trials["gone"]
    again = shares.renew({"auto": route(strong_share=0.3, routers=trials)}, routers, None)["auto"]
    assert [name for name, _ in again.trackers()] == ["default", "mine"]
    assert again.tracker("default") is first[0]


async def test_replicas_know_what_the_others_have_seen(store):
    one, other = Replica(store), Replica(store)
    rng = random.Random(1)
    await one.shares.exchange()
    send(one.tracker, [rng.betavariate(2, 5) for _ in range(1000)])
    await one.shares.exchange()
    await other.shares.exchange()
    assert other.tracker.threshold == pytest.approx(one.tracker.threshold, abs=0.03)
    assert (one.failures, other.failures) == (0, 0)


async def test_a_restarted_replica_goes_on_where_it_was(store):
    old = Replica(store)
    rng = random.Random(2)
    send(old.tracker, [rng.betavariate(8, 2) for _ in range(800)])
    await old.shares.exchange()
    new = Replica(store)
    await new.shares.exchange()
    assert new.tracker.all_known().weights == pytest.approx(old.tracker.all_known().weights)
    assert abs(share_of(send(new.tracker, [rng.betavariate(8, 2) for _ in range(400)])) - 0.3) < 0.04


async def test_another_router_or_another_share_has_an_account_of_its_own(store):
    one = Replica(store)
    send(one.tracker, [0.9] * 500)
    await one.shares.exchange()
    for other in (Replica(store, version="2"), Replica(store, {"auto": route(strong_share=0.4)})):
        await other.shares.exchange()
        assert sum(other.tracker.all_known().weights) == pytest.approx(PRIOR_WEIGHT)


async def test_while_the_store_is_away_each_goes_on_and_tells_it_later(store):
    one, other = Replica(store), Replica(store)
    await one.shares.exchange()
    await other.shares.exchange()
    store.is_away = True
    rng = random.Random(3)
    assert abs(share_of(send(one.tracker, [rng.random() for _ in range(400)])) - 0.3) < 0.04
    for _ in range(3):
        await one.shares.exchange()
    assert one.failures == 3
    store.is_away = False
    await one.shares.exchange()
    await other.shares.exchange()
    assert other.tracker.all_known().sums[1] == 400
    assert other.tracker.all_known().weights == pytest.approx(one.tracker.all_known().weights)


async def test_a_store_that_has_lost_all_is_told_all_again(store):
    one, other = Replica(store), Replica(store)
    send(one.tracker, [0.8] * 300)
    await one.shares.exchange()
    await other.shares.exchange()
    await store.close()
    await other.shares.exchange()
    await one.shares.exchange()
    assert one.tracker.all_known().weights == pytest.approx(other.tracker.all_known().weights)
    assert one.tracker.all_known().sums == pytest.approx(other.tracker.all_known().sums)


async def test_two_that_begin_at_once_lose_nothing():
    class Racing(MemoryStore):
        async def change_tally(self, key, change, ttl_s):
            found = await super().change_tally(key, change, ttl_s)
            if found is None and racers:
                await racers.pop().shares.exchange()
            return found

    racers = []
    shared = Racing(10)
    late, early = Replica(shared), Replica(shared)
    send(late.tracker, [0.2] * 50)
    send(early.tracker, [0.9] * 50)
    racers.append(early)
    await late.shares.exchange()
    await late.shares.exchange()
    assert late.tracker.all_known().sums[1] == 100


async def test_without_a_store_there_is_nothing_to_exchange():
    one = Replica(None)
    send(one.tracker, [0.5] * 10)
    await one.shares.exchange()
    assert one.tracker.take_news().sums[1] == 10
