"""The walk: its order, its one account per request, and what it does when a stage fails or the client goes away."""

import asyncio
from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace

import pytest

from gateway.auth.keys import KeyRing
from gateway.backends.resilience import Dispatcher, Replicas
from gateway.cache.exact import ExactCache
from gateway.cache.flights import Flights
from gateway.cache.sessions import Sessions
from gateway.core.context import CacheOutcome, Phase, Reason, Tier, Usage, Wishes
from gateway.core.errors import InternalError, InvalidJsonError, UpstreamInterruptedError, UpstreamUnavailableError
from gateway.core.judgement import Judgement
from gateway.core.personal import PersonalKind
from gateway.limits.in_flight import InFlight
from gateway.pipeline import Parts, Pipeline
from gateway.routing.exchange import HeldShare
from gateway.routing.routes import build_routes
from gateway.schema.response import decode_answer
from gateway.settings.root import Settings
from gateway.settings.routes import PolicyKind, PolicySettings, RouteSettings
from gateway.settings.service import ExactCacheSettings, KeysSettings
from gateway.stores.memory import MemoryStore
from gateway.stores.store import StoreUnavailableError
from tests.builders import STREAM, body, chunk, context, model, price, raised_by, reply, request, usage_chunk

VERBS = (
    "identify",
    "receive",
    "admit",
    "lookup",
    "recall",
    "protect",
    "classify",
    "choose",
    "dispatch",
    "relay",
    "settle",
)
PRIVATE = (PolicyKind.PRIVATE, PolicyKind.COMPLEXITY)
USAGE = usage_chunk(prompt_tokens=100, completion_tokens=50)
BILLED_STREAM = STREAM.removesuffix(b"data: [DONE]\n\n") + USAGE + b"data: [DONE]\n\n"
MODELS = {
    "small": model(price=price(1.0, 2.0), local=True),
    "large": model(price=price(10.0, 20.0), domains=("law",)),
}
STREAMED = {"stream": True, "stream_options": {"include_usage": True}}


class Fake(SimpleNamespace):
    """Whatever has the attributes it is given; a backend must be hashable."""

    __hash__ = object.__hash__


class TracedPipeline(Pipeline):
    """A pipeline that writes down its verbs in their order."""

    def __init__(self, parts, told):
        super().__init__(parts)
        for verb in VERBS:
            setattr(self, verb, self._traced(verb, getattr(self, verb), told))

    @staticmethod
    def _traced(verb, run, told):
        def traced(*arguments, **named):
            told.append(verb)
            return run(*arguments, **named)

        return traced


class House:
    """A pipeline of fakes. At each of its awaits it can be told to stop for good or to fail."""

    def __init__(
        self,
        *,
        score=0.1,
        has_cache=False,
        keys=None,
        limit=5,
        fallback=(),
        kind=PolicyKind.COMPLEXITY,
        held=None,
        personal=(),
    ):
        self.score, self.domain, self.answer, self.judged = score, None, body(), 0
        self.tenants = set()
        self.personal = frozenset(personal)
        self.stop_at = self.fail_at = self.fault = None
        self.reached = asyncio.Event()
        self.looked_up = []
        self.told, self.records, self.fail_open, self.tracked, self.sent, self.asked = [], [], [], [], [], []
        self.closed_replies = 0
        self.is_taking = True
        self.answer_of = lambda _: None
        store = self._store(MemoryStore(10))
        cache = ExactCache(store, ExactCacheSettings(), lambda: self.fail_open.append("cache"))
        replicas = {name: Replicas([self._backend(name)], self.tracked.append) for name in MODELS}
        route = RouteSettings(
            models=("small", "large"), policy=PolicySettings(kind=kind, threshold=0.5), fallback=fallback
        )
        self.parts = Parts(
            models=MODELS,
            routes=build_routes(Settings(models=MODELS, routes={"auto": route}), {"auto": held} if held else None),
            keys=KeyRing(keys or KeysSettings()),
            in_flight=InFlight(limit),
            classifiers={"default": Fake(version="1", judge=self._judge)},
            detector=Fake(find_kinds=self._find_kinds),
            dispatcher=Dispatcher(replicas, dict.fromkeys(MODELS, 10.0), lambda *_: None),
            flights=Flights(),
            cache=cache if has_cache else None,
            sessions=Sessions(store, {}, lambda: self.fail_open.append("session")),
            record=self.records.append,
            count_fail_open=self.fail_open.append,
        )
        self.pipeline = TracedPipeline(self.parts, self.told)

    async def at(self, place):
        """Stand at an await: go on, stop for good, or fail."""
        if place == self.fail_at:
            raise self.fault
        if place == self.stop_at:
            self.reached.set()
            await asyncio.Event().wait()
        await asyncio.sleep(0)

    def _store(self, inner):
        async def get(key):
            self.looked_up.append(key)
            await self.at("store.get")
            return await inner.get(key)

        return Fake(get=get, set=inner.set)

    async def _find_kinds(self, asked, request_id, *, wants_all):
        await self.at("protect")
        return self.personal

    async def _judge(self, _, tenant):
        self.judged += 1
        self.tenants.add(tenant)
        await self.at("classify")
        return None if self.score is None else Judgement(self.score, domain=self.domain)

    def _backend(self, name):
        async def close():
            self.closed_replies += 1

        async def open_(call):
            self.asked.append(name)
            await self.at(f"upstream.open.{name}")
            await self.at("upstream.open")
            is_streaming = call.request.is_streaming
            found = whole_events_of(self.answer) if is_streaming else None
            decoded = None if is_streaming else self.answer_of(self.answer)
            return reply(model=name, is_streaming=is_streaming, close=close, blocks=self._blocks(found), answer=decoded)

        return Fake(url=name, open=open_, close=close)

    async def _blocks(self, events):
        for block in events or [self.answer]:
            await self.at("upstream.block")
            yield block

    def client(self, **fields):
        async def receive(ctx):
            await self.at("receive")
            return request(**fields)

        async def send(what, *arguments):
            await self.at(what)
            self.sent.append((what, *arguments))

        return Fake(
            receive=receive,
            answer=lambda _, whole: send("answer", whole),
            begin=lambda _: send("begin"),
            send=lambda block: send("send", block),
            end=lambda: send("end"),
            fail=lambda _, error: send("fail", error),
            is_taking=self.is_taking,
        )

    async def walk(self, wishes=None, **fields):
        ctx = context(wishes=wishes or Wishes())
        await self.pipeline.walk(ctx, self.client(**fields))
        return ctx

    @property
    def kinds_sent(self):
        return [kind for kind, *_ in self.sent]

    @property
    def bytes_sent(self):
        return b"".join(block for kind, *blocks in self.sent if kind in {"send", "answer"} for block in blocks)

    def assert_settled_once(self):
        assert len(self.records) == 1
        assert self.told.count("settle") == 1
        assert self.told[-1] == "settle"
        assert self.parts.in_flight.count == 0
        assert sum(self.tracked) == 0


def whole_events_of(stream):
    return [event + b"\n\n" for event in stream.split(b"\n\n") if event]


async def test_the_verbs_come_in_the_order_of_the_house():
    house = House(has_cache=True)
    await house.walk()
    assert house.told == list(VERBS)
    house.assert_settled_once()


async def test_an_answer_is_passed_on_as_it_came_and_accounted_for():
    house = House()
    ctx = await house.walk()
    assert house.sent == [("answer", body())]
    assert (ctx.model, ctx.reason, ctx.score, ctx.attempts, ctx.outcome) == ("small", Reason.SCORE, 0.1, 1, "ok")
    assert ctx.usage == Usage(10, 5)
    assert ctx.bill.cost_usd == pytest.approx(20e-6)  # 10 x $1/M + 5 x $2/M
    assert ctx.bill.baseline_usd == pytest.approx(200e-6)
    assert house.records == [ctx]
    assert house.closed_replies == 1


async def test_a_stream_is_begun_sent_and_ended_with_its_cost():
    house = House()
    house.answer = BILLED_STREAM
    ctx = await house.walk(**STREAMED)
    assert house.kinds_sent == ["begin", *["send"] * 5, "end"]
    assert house.bytes_sent.startswith(STREAM.removesuffix(b"data: [DONE]\n\n"))
    assert b'"cost_usd":0.0002}' in house.bytes_sent  # 100 x $1/M + 50 x $2/M
    assert (ctx.usage, ctx.bill.cost_usd) == (Usage(100, 50), pytest.approx(200e-6))
    assert ctx.first_token_s <= ctx.last_token_s


@pytest.mark.parametrize(("score", "chosen"), [(0.1, "small"), (0.5, "large"), (0.9, "large")])
async def test_the_score_chooses_the_model(score, chosen):
    house = House(score=score)
    assert (await house.walk()).model == chosen
    assert house.asked == [chosen]


async def test_without_a_score_the_strong_model_answers_and_the_failing_open_is_counted():
    house = House(score=None)
    ctx = await house.walk()
    assert (ctx.model, ctx.reason, ctx.score) == ("large", Reason.CLASSIFIER_UNAVAILABLE, None)
    assert house.fail_open == ["classify"]


@pytest.mark.parametrize(("tier", "chosen"), [(Tier.WEAK, "small"), (Tier.STRONG, "large")])
async def test_a_forced_tier_asks_no_classifier(tier, chosen):
    house = House(score=None)
    ctx = await house.walk(Wishes(tier=tier))
    assert (ctx.model, ctx.reason) == (chosen, Reason.FORCED)
    assert (house.judged, house.fail_open) == (0, [])


@pytest.mark.parametrize("tier", [None, Tier.WEAK])
async def test_a_model_asked_for_by_its_name_is_pinned_whatever_the_tier(tier):
    house = House()
    ctx = await house.walk(Wishes(tier=tier), model="large")
    assert (ctx.model, ctx.reason, house.judged) == ("large", Reason.PINNED, 0)


async def test_a_threshold_of_the_request_counts():
    assert (await House(score=0.3).walk(Wishes(threshold=0.2))).model == "large"


async def test_an_answer_given_before_is_given_again_without_judging_or_asking():
    house = House(has_cache=True, score=0.3)
    first = await house.walk()
    second = await house.walk()
    assert (first.cache_outcome, second.cache_outcome) == (CacheOutcome.MISS, CacheOutcome.HIT)
    assert (second.score, second.reason, second.model, second.attempts) == (0.3, Reason.CACHE, "small", 0)
    assert house.sent == [("answer", body())] * 2
    assert (house.judged, house.asked) == (1, ["small"])
    assert house.tenants == {first.caller.tenant}
    assert (second.bill.cost_usd, second.bill.saved_usd) == (0, pytest.approx(200e-6))


async def test_the_tokens_of_a_stored_answer_are_read_once(monkeypatch):
    house = House(has_cache=True)
    house.answer_of = decode_answer
    first = await house.walk()
    monkeypatch.setattr("gateway.pipeline.usage_of_body", None)
    second = await house.walk()
    assert second.cache_outcome is CacheOutcome.HIT
    assert first.usage == second.usage == Usage(10, 5)


@pytest.mark.parametrize(("is_taking", "deadlines"), [(True, 0), (False, 1)])
async def test_an_answer_that_is_there_has_a_deadline_where_its_client_must_be_waited_for(is_taking, deadlines):
    house = House(has_cache=True)
    await house.walk()
    told = []
    wheel = Fake(within=lambda seconds: told.append(seconds) or nullcontext())
    house.pipeline.parts = replace(house.parts, wheel=wheel)
    house.is_taking = is_taking
    assert (await house.walk()).cache_outcome is CacheOutcome.HIT
    assert len(told) == deadlines


async def test_a_stored_score_skips_judging_even_where_the_stored_answer_is_too_weak():
    house = House(has_cache=True, score=0.3)
    await house.walk()
    ctx = await house.walk(Wishes(threshold=0.2))
    assert (ctx.model, ctx.score, ctx.cache_outcome) == ("large", 0.3, CacheOutcome.MISS)
    assert (house.judged, house.asked) == (1, ["small", "large"])


@pytest.mark.parametrize(
    ("header", "outcome"),
    [("no-cache", CacheOutcome.BYPASS), ("no-store", CacheOutcome.BYPASS), ("max-age=0", CacheOutcome.MISS)],
)
async def test_a_client_that_wants_no_stored_answer_gets_a_fresh_one(header, outcome):
    house = House(has_cache=True)
    await house.walk()
    ctx = await house.walk(Wishes(cache_control=header))
    assert (ctx.cache_outcome, house.asked) == (outcome, ["small", "small"])


async def test_callers_with_different_credentials_never_share_a_stored_answer():
    house = House(has_cache=True)
    for bearer in (None, "one", "two"):
        assert (await house.walk(Wishes(bearer=bearer))).cache_outcome is CacheOutcome.MISS
    assert (await house.walk(Wishes(bearer="one"))).cache_outcome is CacheOutcome.HIT


async def test_a_store_that_is_away_is_passed_by_and_counted():
    house = House(has_cache=True)
    house.fail_at, house.fault = "store.get", StoreUnavailableError("away")
    ctx = await house.walk()
    assert (ctx.outcome, ctx.model, house.fail_open) == ("ok", "small", ["cache"])


@pytest.mark.parametrize("has_cache", [True, False])
async def test_a_fallback_answers_where_the_chosen_model_fails(has_cache):
    house = House(fallback=("large",), has_cache=has_cache)
    house.fail_at, house.fault = "upstream.open.small", UpstreamUnavailableError("away")
    ctx = await house.walk()
    assert (ctx.model, ctx.reason, ctx.attempts, ctx.decision.model) == ("large", Reason.FALLBACK, 2, "small")
    assert ctx.bill.saved_usd == 0
    house.assert_settled_once()


PLACES_OF_ERROR = ["receive", "upstream.open", "upstream.block", "store.get", "classify"]


@pytest.mark.parametrize("place", PLACES_OF_ERROR)
@pytest.mark.parametrize("fault", [InvalidJsonError("no"), UpstreamUnavailableError("away")])
async def test_an_error_in_a_stage_is_told_once_and_settled_once(place, fault):
    house = House(has_cache=True)
    house.fail_at, house.fault = place, fault
    ctx = await house.walk()
    assert house.sent == [("fail", fault)]
    assert (ctx.failure, ctx.outcome) == (fault, fault.code)
    house.assert_settled_once()


@pytest.mark.parametrize("place", [*PLACES_OF_ERROR, "answer"])
async def test_a_fault_of_ours_is_told_by_a_fixed_text_and_settled_once(place):
    house = House(has_cache=True)
    house.fail_at, house.fault = place, ValueError("the prompt was hunter2")
    ctx = await house.walk()
    [(kind, error)] = house.sent
    assert (kind, type(error), error.message) == ("fail", InternalError, InternalError("x").message)
    assert "hunter2" not in error.message
    assert error.__cause__ is house.fault
    assert ctx.outcome == "internal_error"
    house.assert_settled_once()


async def test_what_an_error_took_in_attempts_is_told():
    house = House(fallback=("large",))
    house.fail_at, house.fault = "upstream.open", UpstreamUnavailableError("away")
    assert (await house.walk()).attempts == 2


async def test_a_stream_that_breaks_off_is_told_inside_it_and_billed_by_what_came():
    house = House()
    house.answer = chunk("Hel") + chunk("lo")

    async def break_off():
        yield chunk("Hel")
        raise UpstreamInterruptedError("gone")

    house._blocks = lambda _: break_off()
    ctx = await house.walk(stream=True)
    assert house.kinds_sent == ["begin", "send", "fail"]
    assert (ctx.outcome, ctx.usage.completion_tokens, ctx.usage.is_estimated) == ("upstream_interrupted", 1, True)
    assert ctx.bill.cost_usd > 0
    house.assert_settled_once()


async def test_a_caller_without_a_key_is_turned_away_before_its_body_is_read():
    house = House(keys=KeysSettings(required=True))
    ctx = await house.walk()
    assert ctx.outcome == "invalid_api_key"
    assert house.told == ["identify", "settle"]
    house.assert_settled_once()


async def test_above_the_limit_a_request_is_shed_before_anything_is_looked_up():
    house = House(limit=1)
    house.parts.in_flight.enter()
    ctx = await house.walk()
    assert ctx.outcome == "overloaded"
    assert house.told == ["identify", "receive", "admit", "settle"]
    assert house.parts.in_flight.count == 1


async def test_an_unknown_model_is_told_before_a_place_is_taken():
    house = House()
    ctx = await house.walk(model="nobody")
    assert ctx.outcome == "model_not_found"
    assert house.told == ["identify", "receive", "settle"]


WHOLE = {
    "receive": Phase.RECEIVE,
    "store.get": Phase.LOOKUP,
    "classify": Phase.CLASSIFY,
    "upstream.open": Phase.UPSTREAM,
    "upstream.block": Phase.RELAY,
    "answer": Phase.RELAY,
}
STREAMING = {"begin": Phase.RELAY, "send": Phase.RELAY, "end": Phase.RELAY, "upstream.block": Phase.RELAY}
CASES = [(place, phase, {}) for place, phase in WHOLE.items()] + [
    (place, phase, STREAMED) for place, phase in STREAMING.items()
]


@pytest.mark.parametrize("has_cache", [True, False])
@pytest.mark.parametrize(("place", "phase", "fields"), CASES)
async def test_a_client_that_goes_away_at_any_await_is_settled_once_and_leaves_nothing_behind(
    place, phase, fields, has_cache
):
    if place == "store.get" and not has_cache:
        return
    house = House(has_cache=has_cache)
    house.answer = BILLED_STREAM if fields else body()
    house.stop_at = place
    before = asyncio.all_tasks()
    task = asyncio.create_task(house.walk(**fields))
    await asyncio.wait_for(house.reached.wait(), 1)
    task.cancel()
    assert isinstance(await raised_by(task), asyncio.CancelledError)
    house.assert_settled_once()
    [ctx] = house.records
    assert (ctx.is_cancelled, ctx.phase, ctx.outcome) == (True, phase, "cancelled")
    assert "fail" not in house.kinds_sent
    assert asyncio.all_tasks() == before
    is_opened = place in {"upstream.block", "answer", "begin", "send", "end"}
    assert house.closed_replies == is_opened


async def test_a_client_that_goes_away_while_it_is_told_an_error_is_settled_once():
    house = House()
    house.fail_at, house.fault = "upstream.open", UpstreamUnavailableError("away")
    house.stop_at = "fail"
    task = asyncio.create_task(house.walk())
    await asyncio.wait_for(house.reached.wait(), 1)
    task.cancel()
    assert isinstance(await raised_by(task), asyncio.CancelledError)
    house.assert_settled_once()


async def test_a_stream_cut_by_its_client_is_billed_by_what_it_got():
    house = House()
    house.answer, house.stop_at = STREAM, "end"
    task = asyncio.create_task(house.walk(stream=True))
    await asyncio.wait_for(house.reached.wait(), 1)
    task.cancel()
    await raised_by(task)
    [ctx] = house.records
    assert ctx.usage.is_estimated
    assert ctx.bill.cost_usd > 0


async def test_judging_alone_asks_no_upstream_and_takes_no_place():
    house = House(score=0.7)
    ctx = context()
    decision = await house.pipeline.judge(ctx, house.client())
    assert (decision.model, decision.reason) == ("large", Reason.SCORE)
    assert house.told == ["identify", "receive", "recall", "protect", "classify", "choose"]
    assert (house.asked, house.records) == ([], [])


TALK = [{"role": role, "content": "word " * 1_000} for role in ("user", "assistant", "user")]


@pytest.mark.parametrize("has_cache", [True, False])
async def test_a_route_that_keeps_no_conversations_looks_none_up(has_cache):
    house = House(has_cache=has_cache)
    ctx = await house.walk(messages=TALK)
    assert ctx.recall is None
    assert len(house.looked_up) == has_cache


async def test_a_route_that_does_looks_one_up_before_it_chooses():
    house = House(kind=PolicyKind.SESSION)
    ctx = await house.walk(messages=TALK)
    assert house.looked_up == [f"session:{ctx.recall.session.key}"]
    assert (ctx.model, ctx.reason, ctx.recall.session.model) == ("small", Reason.SCORE, "")


async def test_where_an_answer_is_found_the_conversation_it_was_asked_with_is_not_recalled():
    house = House(kind=PolicyKind.SESSION, has_cache=True)
    first, second = [await house.walk(messages=TALK) for _ in range(2)]
    assert (first.recall is None, second.recall, second.cache_outcome) == (False, None, CacheOutcome.HIT)
    assert len(house.looked_up) == 4


async def test_an_answer_and_a_conversation_are_asked_for_at_once():
    house = House(kind=PolicyKind.SESSION, has_cache=True)
    house.stop_at = "store.get"
    walk = asyncio.create_task(house.walk(messages=TALK))
    await house.reached.wait()
    await asyncio.sleep(0)
    assert [key.startswith("session:") for key in house.looked_up] == [False, True]
    walk.cancel()
    assert isinstance(await raised_by(walk), asyncio.CancelledError)
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_conversation_that_no_store_can_know_is_not_asked_for():
    house = House(kind=PolicyKind.SESSION, has_cache=True)
    ctx = await house.walk(messages=TALK[:1])
    assert (ctx.recall.session.model, len(house.looked_up)) == ("", 1)


async def test_a_conversation_whose_store_is_away_is_nobodys_and_counted():
    house = House(kind=PolicyKind.SESSION)
    house.fail_at, house.fault = "store.get", StoreUnavailableError("away")
    ctx = await house.walk(messages=TALK)
    assert (ctx.outcome, ctx.model, house.fail_open) == ("ok", "small", ["session"])


async def test_a_refusal_at_the_door_is_told_and_settled():
    house, ctx, error = House(), context(), InvalidJsonError("no")
    await house.pipeline.refuse(ctx, house.client(), error)
    assert house.sent == [("fail", error)]
    assert house.records == [ctx]


async def test_identical_requests_in_flight_share_one_call_and_one_bill():
    house = House(has_cache=True)
    contexts = await asyncio.gather(*(house.walk() for _ in range(4)))
    assert house.asked == ["small"]
    assert sorted(ctx.cache_outcome for ctx in contexts) == ["miss", "shared", "shared", "shared"]
    assert sum(ctx.bill.cost_usd for ctx in contexts) == pytest.approx(20e-6)
    assert house.sent == [("answer", body())] * 4


async def test_closing_lets_go_of_upstreams():
    house = House()
    await house.pipeline.close()
    assert house.closed_replies == 2  # the fake upstreams close as their replies do


class CountingShare(HeldShare):
    """A share whose threshold stands at 0.5; it notes what it is told."""

    def __init__(self):
        super().__init__(0.3, "default", {})
        self.seen = []

    def tracker(self, router):
        assert router == "default"
        return Fake(threshold=0.5, observe=lambda score, is_strong: self.seen.append((score, is_strong)))


@pytest.mark.parametrize(("score", "is_strong"), [(0.4, False), (0.5, True)])
async def test_who_holds_the_share_is_told_of_each_decision_of_the_score_before_its_call(score, is_strong):
    held = CountingShare()
    house = House(score=score, held=held)
    house.stop_at = "upstream.open"
    walk = asyncio.create_task(house.walk())
    await house.reached.wait()
    assert held.seen == [(score, is_strong)]
    walk.cancel()
    await asyncio.gather(walk, return_exceptions=True)


@pytest.mark.parametrize(
    ("wishes", "body"),
    [
        (Wishes(tier=Tier.STRONG), {}),
        (Wishes(threshold=0.2), {}),
        (Wishes(), {"model": "small"}),
        (Wishes(), {"tools": [{"type": "function", "function": {"name": "f"}}]}),
    ],
)
async def test_who_holds_the_share_is_told_of_nothing_that_something_else_decided(wishes, body):
    held = CountingShare()
    await House(score=0.1, held=held).walk(wishes, **body)
    assert held.seen == []


async def test_neither_a_hit_nor_an_explanation_nor_a_missing_score_moves_the_share():
    held = CountingShare()
    house = House(score=0.1, has_cache=True, held=held)
    first, second = await house.walk(), await house.walk()
    assert (first.decided.threshold, second.cache_outcome) == (0.5, CacheOutcome.HIT)
    assert held.seen == [(0.1, False)]
    house.score = None
    await house.walk(messages=[{"role": "user", "content": "Another"}])
    assert held.seen == [(0.1, False)]
    house.score = 0.2
    await house.pipeline.judge(context(), house.client())
    assert held.seen == [(0.1, False)]


async def test_what_is_personal_goes_to_a_local_model_whatever_the_score_and_the_header_say():
    for wishes in (None, Wishes(tier=Tier.STRONG)):
        house = House(score=0.9, kind=PRIVATE, personal={PersonalKind.EMAIL})
        record = await house.walk(wishes)
        assert (house.asked, record.reason, record.model) == (["small"], Reason.PRIVATE, "small")


async def test_what_is_not_personal_goes_where_it_would_on_a_private_route():
    house = House(score=0.9, kind=PRIVATE)
    record = await house.walk()
    assert (house.asked, record.reason) == (["large"], Reason.SCORE)


async def test_what_is_personal_never_falls_back_to_a_model_that_is_not_local():
    house = House(score=0.1, kind=PRIVATE, personal={PersonalKind.EMAIL}, fallback=("large", "small"))
    house.fail_at, house.fault = "upstream.open.small", UpstreamUnavailableError("down")
    record = await house.walk()
    assert set(house.asked) == {"small"}
    assert record.outcome == "upstream_unavailable"


async def test_a_pinned_model_is_asked_whatever_is_personal():
    house = House(kind=PRIVATE, personal={PersonalKind.EMAIL})
    await house.walk(model="large")
    assert house.asked == ["large"]


async def test_a_specialist_answers_in_its_domain_and_a_stored_answer_is_still_decided_by_it():
    held = CountingShare()
    house = House(score=0.1, has_cache=True, kind=(PolicyKind.DOMAIN,), held=held)
    house.domain = "law"
    first, second = await house.walk(), await house.walk()
    assert (first.model, first.reason, first.decided.threshold) == ("large", Reason.DOMAIN, 0.5)
    assert (second.model, second.reason, second.decided.reason) == ("large", Reason.CACHE, Reason.DOMAIN)
    assert (house.judged, house.asked, held.seen) == (1, ["large"], [])
    house.domain = "math"
    other = await house.walk(messages=[{"role": "user", "content": "Another"}])
    assert (other.model, other.reason) == ("small", Reason.SCORE)


@pytest.mark.parametrize("header", ["no-cache", "max-age=0"])
async def test_a_weaker_answer_never_takes_the_place_of_a_stronger_one_that_was_read_past(header):
    house = House(has_cache=True)
    await house.walk(Wishes(tier=Tier.STRONG))
    fresh = await house.walk(Wishes(tier=Tier.WEAK, cache_control=header))
    assert (fresh.model, house.asked) == ("small", ["large", "small"])
    again = await house.walk(Wishes(tier=Tier.STRONG))
    assert (again.cache_outcome, again.model) == (CacheOutcome.HIT, "large")
    await house.walk(Wishes(tier=Tier.STRONG, cache_control=header))
    assert house.asked == ["large", "small", "large"]
