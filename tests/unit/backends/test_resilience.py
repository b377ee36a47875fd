"""Attempts: who is asked, in which order, how often, and who is spared."""

import asyncio

import pytest
from msgspec import structs

from gateway.backends import resilience
from gateway.backends.backend import Health
from gateway.backends.resilience import COOLDOWN_S, Dispatcher, Plan, Replicas
from gateway.core.errors import (
    UpstreamContextError,
    UpstreamError,
    UpstreamRateLimitError,
    UpstreamRejectionError,
    UpstreamTimeoutError,
    UpstreamUnavailableError,
)
from tests.builders import FakeClock, call, raised_by, reply


class FakeBackend:
    """A replica that answers, or fails as it is told to."""

    def __init__(self, url, log=None, fault=None):
        self.url = url
        self.fault = fault
        self.log = [] if log is None else log
        self.pause_s = 0
        self.deadlines = []
        self.closed_replies = 0
        self.is_closed = False
        self.said = None
        self.says_first = []
        self.looks = 0

    async def look(self):
        self.looks += 1
        return self.says_first.pop(0) if self.says_first else self.said

    async def open(self, call):
        self.log.append(self.url)
        self.deadlines.append(call.deadline_s)
        if self.pause_s:
            await asyncio.sleep(self.pause_s)
        if self.fault is not None:
            raise self.fault
        return reply(model=self.url.partition(".")[0], close=self._close_reply)

    async def _close_reply(self):
        self.closed_replies += 1

    async def close(self):
        self.is_closed = True


class House:
    """Models with so many replicas each, and all that is told of them."""

    def __init__(self, total_s=None, **replica_counts):
        self.log, self.attempts, self.tracked, self.clock = [], [], [], FakeClock()
        self.backends = {
            model: [FakeBackend(f"{model}.{n}", self.log) for n in range(count)]
            for model, count in replica_counts.items()
        }
        replicas = {
            model: Replicas(backends, self.tracked.append, self.clock) for model, backends in self.backends.items()
        }
        self.replicas = replicas
        self.dispatcher = Dispatcher(
            replicas,
            dict.fromkeys(replicas, 10.0) | (total_s or {}),
            lambda *attempt: self.attempts.append(attempt),
        )

    def fail(self, model, fault=None):
        for backend in self.backends[model]:
            backend.fault = fault or UpstreamUnavailableError(f"{model} is away")

    async def open(self, *plan, max_attempts=3):
        return await self.dispatcher.open(plan, max_attempts, lambda end_s: structs.replace(call(), deadline_s=end_s))

    @property
    def models_asked(self):
        return [url.partition(".")[0] for url in self.log]


async def test_the_first_model_that_answers_is_the_answer():
    house = House(small=1, large=1)
    answer = await house.open("small", "large")
    assert (answer.model, answer.attempts, answer.is_fallback) == ("small", 1, False)
    assert house.attempts == [("small", "ok")]


async def test_fallbacks_are_looked_for_once_and_only_where_the_chosen_model_has_failed():
    house, looked_for = House(small=1, large=1), []

    def find_fallbacks():
        looked_for.append(1)
        return ["large"]

    async def open_():
        plan = Plan("small", find_fallbacks)
        answer = await house.dispatcher.open(plan, 3, lambda end_s: structs.replace(call(), deadline_s=end_s))
        return answer.model

    assert (await open_(), looked_for) == ("small", [])
    house.fail("small")
    assert (await open_(), looked_for) == ("large", [1])


def test_a_plan_is_the_chosen_model_and_then_its_fallbacks():
    plan = Plan("a", lambda: ["b", "c"])
    assert (list(plan), len(plan), list(plan[1:]), list(plan[:1])) == (["a", "b", "c"], 3, ["b", "c"], ["a"])
    assert (plan[0], plan[1], plan[-1]) == ("a", "b", "c")


async def test_a_fallback_is_told_as_one_with_the_attempts_it_took():
    house = House(small=1, large=1)
    house.fail("small")
    answer = await house.open("small", "large")
    assert (answer.model, answer.attempts, answer.is_fallback) == ("large", 2, True)
    assert house.attempts == [("small", "upstream_unavailable"), ("large", "ok")]


@pytest.mark.parametrize(
    ("replicas", "max_attempts", "asked"),
    [
        ((3, 3, 3), 3, ["a", "b", "c"]),
        ((3, 3, 3), 4, ["a", "a", "b", "c"]),
        ((3, 1, 1), 5, ["a", "a", "a", "b", "c"]),
        ((1, 3, 1), 5, ["a", "b", "b", "b", "c"]),
        ((1, 1, 3), 5, ["a", "b", "c", "c", "c"]),
        ((3, 3, 3), 10, ["a", "a", "a", "b", "b", "b", "c", "c", "c"]),
        ((3, 3, 3), 2, ["a", "b"]),
        ((3, 3, 3), 1, ["a"]),
    ],
)
async def test_replicas_come_first_but_every_model_after_them_keeps_an_attempt(replicas, max_attempts, asked):
    house = House(**dict(zip("abc", replicas, strict=True)))
    for model in "abc":
        house.fail(model)
    error = await raised_by(house.open("a", "b", "c", max_attempts=max_attempts))
    assert isinstance(error, UpstreamUnavailableError)
    assert error.attempts == len(asked)
    assert house.models_asked == asked
    assert len(set(house.log)) == len(house.log)  # no replica is asked twice


async def test_the_last_error_is_the_one_that_is_told():
    house = House(small=1, large=1)
    house.fail("small")
    house.fail("large", UpstreamRateLimitError("slow down", retry_after_s=7))
    error = await raised_by(house.open("small", "large"))
    assert (error.code, error.retry_after_s, error.attempts) == ("upstream_rate_limited", 7, 2)


async def test_a_request_that_is_at_fault_is_tried_nowhere_else():
    house = House(small=3, large=1)
    house.fail("small", UpstreamRejectionError("bad field"))
    error = await raised_by(house.open("small", "large"))
    assert (error.code, error.attempts, house.models_asked) == ("upstream_rejected", 1, ["small"])


async def test_a_window_too_small_spares_the_models_other_replicas_and_cools_nobody():
    house = House(small=3, large=1)
    house.fail("small", UpstreamContextError("too long"))
    answer = await house.open("small", "large", max_attempts=4)
    assert (answer.model, answer.attempts, house.models_asked) == ("large", 2, ["small", "large"])
    house.log.clear()
    first = house.backends["small"]
    for backend in first:
        backend.fault = None
    assert {(await house.open("small")).model for _ in range(3)} == {"small"}
    assert set(house.log) == {backend.url for backend in first}


async def test_a_fault_of_the_code_is_not_taken_for_one_of_the_upstream():
    house = House(small=2)
    house.fail("small", ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        await house.open("small")
    assert len(house.log) == 1


async def test_equals_take_turns():
    house = House(small=3)
    for _ in range(6):
        answer = await house.open("small")
        await answer.close()
    assert sorted(house.log[:3]) == sorted(house.log[3:]) == ["small.0", "small.1", "small.2"]


async def test_the_replica_with_the_fewest_requests_is_asked_first():
    house = House(small=3)
    held = [await house.open("small") for _ in range(3)]
    busy, *idle = house.log
    for answer in held[1:]:
        await answer.close()
    house.log.clear()
    for _ in range(6):
        await (await house.open("small")).close()
    assert set(house.log) == set(idle)
    await held[0].close()
    for _ in range(3):
        await (await house.open("small")).close()
    assert busy in house.log


async def test_a_replica_that_just_failed_is_asked_last_until_it_has_cooled():
    house = House(small=2)
    bad, good = house.backends["small"]
    bad.fault = UpstreamUnavailableError("away")
    for _ in range(2):  # both have had their turn
        await (await house.open("small")).close()
    house.log.clear()
    for _ in range(4):
        await (await house.open("small")).close()
    assert house.log == [good.url] * 4
    house.clock.pass_s(COOLDOWN_S)
    for _ in range(2):
        await (await house.open("small")).close()
    assert bad.url in house.log


async def test_of_replicas_that_all_failed_the_first_to_answer_again_is_warm_at_once():
    house = House(small=2)
    house.fail("small")
    await raised_by(house.open("small"))
    for backend in house.backends["small"]:
        backend.fault = None
    house.log.clear()
    for _ in range(4):
        await (await house.open("small")).close()
    assert len(house.log) == 4
    assert len(set(house.log)) == 1


async def test_a_reply_counts_as_in_flight_until_it_is_closed_and_closes_once():
    house = House(small=1)
    answer = await house.open("small")
    assert sum(house.tracked) == 1
    await answer.close()
    await answer.close()
    assert house.tracked == [1, -1]
    assert house.backends["small"][0].closed_replies == 1


async def test_a_call_that_fails_or_is_cancelled_leaves_nobody_in_flight():
    house = House(small=1)
    house.fail("small")
    await raised_by(house.open("small"))
    assert house.tracked == [1, -1]

    async def hang(_):
        await asyncio.Event().wait()

    house.backends["small"][0].open = hang
    task = asyncio.create_task(house.open("small"))
    await asyncio.sleep(0)
    assert sum(house.tracked) == 1
    task.cancel()
    assert isinstance(await raised_by(task), asyncio.CancelledError)
    assert sum(house.tracked) == 0
    assert house.attempts[-1] == ("small", "cancelled")


async def test_every_attempt_shares_one_deadline_that_of_the_chosen_model():
    house, deadlines = House({"small": 3.0}, small=2, large=1), []
    house.fail("small")
    for backend in (*house.backends["small"], *house.backends["large"]):
        backend.pause_s, backend.deadlines = 0.02, deadlines
    began_s = asyncio.get_running_loop().time()
    await house.dispatcher.open(["small", "large"], 3, lambda end_s: structs.replace(call(), deadline_s=end_s))
    assert deadlines == [pytest.approx(began_s + 3.0, abs=0.1)] * 3
    assert len(set(deadlines)) == 1


async def test_no_attempt_begins_after_the_deadline():
    house = House({"small": 0.05}, small=2, large=1)
    house.fail("small", UpstreamTimeoutError("too slow"))
    for backend in house.backends["small"]:
        backend.pause_s = 0.03
    error = await raised_by(house.open("small", "large"))
    assert (error.code, error.attempts, house.models_asked) == ("upstream_timeout", 2, ["small", "small"])


async def test_closing_closes_every_replica():
    house = House(small=2, large=1)
    await house.dispatcher.close()
    assert all(backend.is_closed for backends in house.backends.values() for backend in backends)


def test_every_upstream_error_but_a_small_window_is_a_reason_to_cool():
    assert issubclass(UpstreamContextError, UpstreamError)
    assert not issubclass(UpstreamRejectionError, UpstreamError)


class Pair:
    """A model with three replicas, and what each says of itself."""

    def __init__(self, *said):
        self.clock = FakeClock()
        self.backends = [FakeBackend(f"m.{n}") for n in range(len(said))]
        self.replicas = Replicas(self.backends, lambda _: None, self.clock, stale_s=6.0)
        for backend, health in zip(self.backends, said, strict=True):
            if health is not None:
                self.replicas.note(backend, health)

    def asked(self, times=6):
        """The places of the replicas that are asked first, and of those asked last."""
        orders = [[self.backends.index(one) for one in self.replicas.in_order()] for _ in range(times)]
        assert all(sorted(order) == list(range(len(self.backends))) for order in orders)
        return {order[0] for order in orders}, {order[-1] for order in orders}


@pytest.mark.parametrize(
    ("said", "first", "last"),
    [
        ((None, None, None), {0, 1, 2}, {0, 1, 2}),
        ((Health(waiting=3), Health(waiting=1), Health(waiting=2)), {1}, {0}),
        ((Health(waiting=3), None, Health(waiting=2)), {1}, {0}),
        ((Health(is_ready=False), Health(waiting=1000), Health(kv_cache_usage=1.0)), {1}, {0}),
        ((Health(kv_cache_usage=0.95), Health(waiting=5, kv_cache_usage=0.94), Health()), {2}, {0}),
        ((Health(running=100), Health(), Health()), {0, 1, 2}, {0, 1, 2}),
        ((Health(is_ready=False),) * 3, {0, 1, 2}, {0, 1, 2}),
    ],
)
def test_who_is_ready_and_has_room_is_asked_first_and_nobody_is_left_out(said, first, last):
    assert Pair(*said).asked() == (first, last)


def test_what_a_replica_said_counts_until_it_is_stale():
    pair = Pair(Health(is_ready=False), Health(waiting=5))
    assert pair.asked()[0] == {1}
    pair.clock.pass_s(6.1)
    assert pair.asked()[0] == {0, 1}


def test_own_requests_and_those_told_add_up():
    pair = Pair(Health(waiting=2), Health())
    pair.replicas._in_flight[pair.backends[1]] = 3
    assert pair.asked()[0] == {0}
    pair.replicas._in_flight[pair.backends[1]] = 1
    assert pair.asked()[0] == {1}


async def test_one_that_failed_comes_before_one_that_says_it_is_not_ready():
    pair = Pair(None, Health(is_ready=False), None)
    pair.backends[0].fault = UpstreamUnavailableError("away")
    await raised_by(pair.replicas.open(pair.backends[0], call()))
    assert [pair.backends.index(one) for one in pair.replicas.in_order()] == [2, 0, 1]


async def test_a_replica_that_answers_is_ready_whatever_it_said_before():
    pair = Pair(Health(is_ready=False), Health())
    await (await pair.replicas.open(pair.backends[0], call())).close()
    assert pair.asked()[0] == {0, 1}


async def test_replicas_that_are_not_ready_are_still_tried():
    house = House(small=2)
    for backend in house.backends["small"]:
        house.replicas["small"].note(backend, Health(is_ready=False))
    assert (await house.open("small")).model == "small"


async def test_a_replica_that_cannot_be_closed_keeps_no_other_open(monkeypatch):
    monkeypatch.setattr(resilience, "CLOSE_S", 0.05)
    pair = Pair(None, None, None)
    faulty, hanging, fine = pair.backends

    async def fail():
        raise ZeroDivisionError

    faulty.close, hanging.close = fail, asyncio.Event().wait
    async with asyncio.timeout(2):
        await pair.replicas.close()
    assert fine.is_closed


async def test_replicas_are_closed_by_the_last_who_holds_them():
    pair = Pair(None)
    first, second = pair.replicas.hold(), pair.replicas.hold()
    await first.close()
    assert not pair.backends[0].is_closed
    await second.close()
    assert pair.backends[0].is_closed
    pair.backends[0].is_closed = False
    await pair.replicas.close_now()
    assert not pair.backends[0].is_closed  # nobody closes it twice
