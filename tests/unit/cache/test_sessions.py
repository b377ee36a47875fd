"""Conversations remembered: whose they are, what is written of them, what is learned, and that none of it is needed."""

import asyncio
import re

import msgspec
import pytest

from gateway.cache import sessions as module
from gateway.cache.sessions import Sessions, continue_session, learn
from gateway.core.context import CacheOutcome, Caller, Decision, Reason, Usage, Wishes
from gateway.core.errors import UpstreamUnavailableError
from gateway.core.session import HitShares, Session
from gateway.settings.routes import SessionSettings
from gateway.stores.memory import MemoryStore
from gateway.stores.store import StoreUnavailableError
from tests.builders import FakeClock, decided_context, held, recall, request

SETTINGS = SessionSettings()
LONG = "word " * 2_000
FIRST = [{"role": "system", "content": LONG}, {"role": "user", "content": "hi"}]
SECOND = [*FIRST, {"role": "assistant", "content": "hello"}, {"role": "user", "content": "and then?"}]
KEPT = Decision("large", Reason.SESSION, 0.5, (), rent_usd=0.25)
CHOSEN = Decision("large", Reason.SCORE, 0.5, ())


class CountingStore(MemoryStore):
    """A store that counts, and can be away."""

    def __init__(self):
        super().__init__(100)
        self.gets, self.sets, self.is_away = [], [], False

    async def get(self, key):
        self.gets.append(key)
        if self.is_away:
            raise StoreUnavailableError
        return await super().get(key)

    async def set(self, key, value, ttl_s):
        self.sets.append((key, value, ttl_s))
        if self.is_away:
            raise StoreUnavailableError
        await super().set(key, value, ttl_s)


class Remembered:
    """Sessions over a counting store."""

    def __init__(self):
        self.store, self.learned, self.failures = CountingStore(), {}, 0
        self.clock = FakeClock(1_000.0)
        self.sessions = Sessions(self.store, self.learned, self._fail, self.clock)

    def _fail(self):
        self.failures += 1

    async def recall(self, messages, **facts):
        ctx = decided_context(request=request(messages=messages), prompt_tokens=2_600, **facts)
        ctx.recall = await self.sessions.recall(ctx, SETTINGS)
        return ctx

    async def answer(self, messages, model="large", usage=None, **facts):
        ctx = await self.recall(messages, **facts)
        ctx.model, ctx.usage = model, usage or Usage(2_500, 100)
        self.sessions.remember(ctx)
        await self.sessions.close()
        return ctx


@pytest.fixture
def remembered():
    return Remembered()


async def test_the_next_turn_recalls_who_answered_the_last(remembered):
    await remembered.answer(FIRST)
    remembered.clock.pass_s(60)
    found = (await remembered.recall(SECOND)).recall
    assert (found.session.model, found.session.rent_usd) == ("large", 0.0)
    assert found.session.held["large"] == held(2_500, 100, 1_000.0, estimated_tokens=2_600, lengths=(10_000, 2))
    assert (found.now_s, found.lengths, found.estimated_tokens) == (1_060.0, (10_000, 2, 5, 9), 2_600)
    assert found.count_prefix("large") == 2_500 + 4 + 2


async def test_a_turn_without_an_answer_in_it_asks_no_store(remembered):
    await remembered.recall(FIRST)
    assert remembered.store.gets == []


async def test_a_conversation_too_short_for_any_cache_costs_nothing(remembered):
    ctx = decided_context(request=request(messages=SECOND), prompt_tokens=511)
    await remembered.sessions.recall(ctx, SETTINGS)
    await remembered.answer(FIRST, usage=Usage(1_000, 23))
    assert (remembered.store.gets, remembered.store.sets) == ([], [])
    await remembered.answer(FIRST, usage=Usage(1_000, 24))
    assert len(remembered.store.sets) == 1


async def test_what_is_kept_dies_with_the_upstreams_cache_and_holds_no_word(remembered):
    await remembered.answer(FIRST, wishes=Wishes(session="SECRET-SESSION"))
    ((key, value, ttl_s),) = remembered.store.sets
    assert ttl_s == 300
    assert re.fullmatch("session:[0-9a-f]{64}", key)
    assert b"SECRET" not in value + key.encode()
    assert b"word" not in value


ALICE, BOB = Caller("alice", "client:alice"), Caller("bob", "client:bob")


@pytest.mark.parametrize(
    ("first", "second", "meet"),
    [
        ({"caller": ALICE}, {"caller": ALICE}, True),
        ({"caller": ALICE}, {"caller": BOB}, False),
        ({"wishes": Wishes(session="7")}, {"wishes": Wishes(session="7")}, True),
        ({"wishes": Wishes(session="7")}, {"wishes": Wishes(session="8")}, False),
        ({"wishes": Wishes(session="7")}, {}, False),
        ({"wishes": Wishes(session="")}, {}, True),
        ({"wishes": Wishes(session="7"), "caller": ALICE}, {"wishes": Wishes(session="7"), "caller": BOB}, False),
        ({"caller": None}, {"caller": ALICE}, False),
    ],
)
async def test_only_turns_of_one_tenant_and_one_name_meet(remembered, first, second, meet):
    await remembered.answer(FIRST, **first)
    found = (await remembered.recall(SECOND, **second)).recall
    assert (found.session.model == "large") is meet


async def test_two_routes_do_not_meet(remembered):
    ctx = await remembered.answer(FIRST)
    elsewhere = decided_context(request=request(messages=SECOND), prompt_tokens=2_600)
    elsewhere.ladder = msgspec.structs.replace(ctx.ladder, name="other")
    assert (await remembered.sessions.recall(elsewhere, SETTINGS)).session.model == ""


async def test_without_a_name_the_head_tells_conversations_apart(remembered):
    await remembered.answer(FIRST)
    others = [
        [{**SECOND[0], "content": LONG + "."}, *SECOND[1:]],
        [{**SECOND[0], "content": "Word" + LONG[4:]}, *SECOND[1:]],
        [SECOND[0], {**SECOND[1], "content": "ho"}, *SECOND[2:]],
        SECOND[1:],
        [{**SECOND[0], "role": "developer"}, *SECOND[1:]],
    ]
    for messages in others:
        assert (await remembered.recall(messages)).recall.session.model == ""
    later = [*SECOND[:2], {"role": "assistant", "content": "howdy"}, {"role": "user", "content": "else"}]
    assert (await remembered.recall(later)).recall.session.model == "large", "the same head: the lengths will tell"


async def test_a_client_that_names_a_conversation_by_odd_letters_is_served(remembered):
    await remembered.answer(FIRST, wishes=Wishes(session="\u00ff\ud800" * 5_000))
    assert len(remembered.store.sets[0][0]) == len("session:") + 64


async def test_a_dead_store_is_no_memory_and_counted(remembered):
    remembered.store.is_away = True
    ctx = await remembered.answer(SECOND)
    assert ctx.recall.session == Session(ctx.recall.session.key)
    assert remembered.failures == 2


@pytest.mark.parametrize(
    "value",
    [
        b"\xff\x00",
        msgspec.msgpack.encode(["another key", "large", 0.0, {"large": held()}]),
        msgspec.msgpack.encode(["KEY", "large", 0.0, {}]),
        msgspec.msgpack.encode(["KEY", 7]),
    ],
)
async def test_a_value_that_is_none_of_ours_is_nothing(remembered, value):
    key = (await remembered.recall(SECOND)).recall.session.key
    await remembered.store.set(f"session:{key}", value.replace(b"\xa3KEY", b"\xd9\x40" + key.encode()), 60)
    assert (await remembered.recall(SECOND)).recall.session == Session(key)


@pytest.mark.parametrize(
    "facts",
    [
        {"failure": UpstreamUnavailableError("x")},
        {"is_cancelled": True},
        {"cache_outcome": CacheOutcome.HIT},
    ],
)
async def test_an_answer_that_failed_or_came_from_the_cache_is_not_remembered(remembered, facts):
    await remembered.answer(FIRST, **facts)
    assert (remembered.store.sets, remembered.learned) == ([], {})


async def test_what_never_was_answered_or_remembered_is_passed_by(remembered):
    ctx = await remembered.recall(FIRST)
    for changes in ({"usage": None, "model": "large"}, {"usage": Usage(9_000, 1), "model": None}):
        ctx.usage, ctx.model = changes["usage"], changes["model"]
        remembered.sessions.remember(ctx)
    ctx.model, ctx.recall = "large", None
    remembered.sessions.remember(ctx)
    await remembered.sessions.close()
    assert remembered.store.sets == []


async def test_a_shared_answer_is_remembered_but_teaches_nothing_twice(remembered):
    await remembered.answer(FIRST, cache_outcome=CacheOutcome.SHARED)
    assert len(remembered.store.sets) == 1
    assert remembered.learned == {}


async def test_each_route_learns_for_itself_and_estimates_teach_nothing(remembered):
    await remembered.answer(FIRST, usage=Usage(2_500, 100, is_estimated=True))
    assert remembered.learned == {}
    await remembered.answer(FIRST, usage=Usage(2_500, 100, 2_500))
    assert remembered.learned == {"auto": {"large": HitShares(1.0, 0.2)}}
    await remembered.answer(SECOND, usage=Usage(2_600, 100, 0))
    assert remembered.learned["auto"]["large"] == HitShares(0.8, 0.2)
    assert (await remembered.recall(SECOND)).recall.shares == {"large": HitShares(0.8, 0.2)}


async def test_writes_under_way_are_bounded_and_awaited(remembered, monkeypatch):
    monkeypatch.setattr(module, "MAX_WRITES", 2)
    gate = asyncio.Event()

    async def slow_set(key, value, ttl_s):
        await gate.wait()

    remembered.store.set = slow_set
    for _ in range(3):
        ctx = await remembered.recall(FIRST)
        ctx.model, ctx.usage = "large", Usage(2_500, 100)
        remembered.sessions.remember(ctx)
    assert remembered.failures == 1
    closing = asyncio.create_task(remembered.sessions.close())
    await asyncio.sleep(0.01)
    assert not closing.done()
    gate.set()
    await closing


USAGE = Usage(10_000, 50)


def test_rent_adds_up_while_a_conversation_is_kept_and_is_forgotten_when_its_model_is_chosen():
    kept = continue_session(recall(rent_usd=0.5), "large", USAGE, KEPT)
    assert (kept.model, kept.rent_usd) == ("large", 0.75)
    assert continue_session(recall(rent_usd=0.5), "large", USAGE, CHOSEN).rent_usd == 0.0
    assert continue_session(recall(rent_usd=0.5), "small", USAGE, KEPT).rent_usd == 0.0, "a fallback answered"


def test_each_turn_renews_what_its_model_holds_and_keeps_what_others_still_may():
    others = {"small": held(at_s=0.0), "dead": held(at_s=-141.0)}
    session = continue_session(recall(others=others), "large", USAGE, CHOSEN)
    assert session.held == {
        "large": held(10_000, 50, 160.0, estimated_tokens=10_000, lengths=(32_000, 3_600, 400, 4_000)),
        "small": others["small"],
    }


def test_of_many_models_the_latest_are_kept():
    others = {f"m{at_s}": held(at_s=float(at_s)) for at_s in range(20)}
    session = continue_session(recall(others=others), "large", USAGE, CHOSEN)
    assert sorted(session.held) == sorted(["large", *(f"m{at_s}" for at_s in range(13, 20))])


@pytest.mark.parametrize(
    ("model", "usage", "changes", "learned"),
    [
        pytest.param("large", Usage(10_000, 1, 9_000), {}, (1.0, 0.5), id="all of 9,000 was cached"),
        pytest.param("large", Usage(10_000, 1, 9_900), {}, (1.0, 0.5), id="more than that can't be"),
        pytest.param("large", Usage(10_000, 1, 4_500), {}, (0.9, 0.5), id="half of it"),
        pytest.param("large", Usage(10_000, 1, 0), {}, (0.8, 0.5), id="none of it"),
        pytest.param("large", Usage(4_000, 1, 4_000), {}, (1.0, 0.5), id="all that there was"),
        pytest.param("large", Usage(10_000, 1, 0), {"now_s": 401.0}, (1.0, 0.5), id="dead of age: nobody's fault"),
        pytest.param("large", Usage(1_000, 1, 0), {}, (1.0, 0.5), id="too short"),
        pytest.param("small", Usage(10_000, 1, 0), {}, (1.0, 0.4), id="a stranger, nothing cached"),
        pytest.param("small", Usage(10_000, 1, 10_000), {}, (1.0, 0.6), id="a stranger, all cached"),
    ],
)
def test_a_report_is_worth_a_fifth(model, usage, changes, learned):
    found = learn(HitShares(1.0, 0.5), recall(**changes), model, usage)
    assert (found.warm, found.cold) == pytest.approx(learned)


def test_a_cache_that_never_hits_is_soon_worth_nothing():
    shares = HitShares()
    for _ in range(10):
        shares = learn(shares, recall(), "large", Usage(10_000, 1, 0))
    assert shares.warm < 0.11
