"""One request's way through a cascade: who is asked with what, how often, until when, and what is left behind."""

import asyncio
import json
import math

import pytest

from gateway.backends.cascade import Errand, Escalation, open_reply
from gateway.backends.held import MAX_HELD_BYTES, Held
from gateway.backends.resilience import Dispatcher, Replicas
from gateway.core.context import Charge, Usage, Verdict
from gateway.core.errors import (
    InternalError,
    UpstreamContextError,
    UpstreamFailureError,
    UpstreamInterruptedError,
    UpstreamRejectionError,
    UpstreamUnavailableError,
)
from gateway.routing.bars import Bars
from gateway.schema.sse import DONE
from gateway.settings.routes import CascadeSettings
from tests.builders import collect, raised_by, reply, request

SURE, UNSURE = math.log(0.9), math.log(0.1)
RULE = CascadeSettings(tokens=3, quantile=0.0, min_confidence=0.5, wait_s=0.05)


def chunk(logprob=None, text="a"):
    told = None if logprob is None else {"content": [{"token": "a", "logprob": logprob}]}
    choice = {"index": 0, "delta": {"content": text}, "logprobs": told, "finish_reason": None}
    return b"data: " + json.dumps({"choices": [choice]}).encode() + b"\n\n"


def body(*logprobs):
    told = {"content": [{"token": "a", "logprob": one} for one in logprobs]} if logprobs else None
    return json.dumps({"choices": [{"message": {"content": "a"}, "logprobs": told}]}).encode()


class Model:
    """A replica that goes through a script: blocks, a failure, or a pause for good (None)."""

    def __init__(self, name, script):
        self.url, self.script, self.calls, self.closed = name, list(script), [], 0
        self.hangs = asyncio.Event()

    async def open(self, call):
        self.calls.append(call)
        act = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        if isinstance(act, Exception):
            raise act
        is_streaming = call.request.is_streaming
        blocks = self._blocks(act) if is_streaming else self._blocks([act])
        return reply(model=self.url, is_streaming=is_streaming, blocks=blocks, close=self._close)

    async def _blocks(self, acts):
        for act in acts:
            await asyncio.sleep(0)
            if act is None:
                self.hangs.set()
                await asyncio.Event().wait()
            if isinstance(act, Exception):
                raise act
            yield act

    async def _close(self):
        self.closed += 1

    async def close(self):
        pass


class House:
    """A weak and a strong model, and another that is a fallback."""

    def __init__(self, weak, strong=None, other=None, total_s=5.0, max_attempts=3, fallback=(), weak_replicas_down=0):
        scripts = {"weak": weak, "strong": strong or [body()], "other": other or [body()]}
        self.models = {name: Model(name, script) for name, script in scripts.items()}
        self.tracked, self.charged, self.fail_open = [], [], 0
        down = [Model("weak", [UpstreamUnavailableError("down")]) for _ in range(weak_replicas_down)]
        self.down = [one.calls for one in down]
        replicas = {name: Replicas([one], self.tracked.append) for name, one in self.models.items()}
        replicas["weak"] = Replicas([self.models["weak"], *down], self.tracked.append)
        self.dispatcher = Dispatcher(replicas, dict.fromkeys(self.models, total_s), lambda *_: None)
        self.plan = ["weak", *(name for name in fallback if name != "weak")]
        self.stronger = ["strong", *(name for name in fallback if name != "strong")]
        self.max_attempts = max_attempts

    def charge(self, spent):
        self.charged.append(spent)
        return Charge(spent.model, Usage(1, spent.token_count))

    def count(self):
        self.fail_open += 1

    async def open(self, rule=RULE, **fields):
        def clears(confidence):
            return Bars().clears("auto", "weak", rule, confidence)

        escalation = Escalation(self.stronger, rule, clears, self.charge, self.count)
        errand = Errand(request(**fields), "req-1", self.plan, self.max_attempts)
        return await open_reply(self.dispatcher, errand.with_escalation(escalation))

    @property
    def asked(self):
        return {name: len(one.calls) for name, one in self.models.items() if one.calls}

    def assert_nothing_is_left(self):
        assert sum(self.tracked) == 0


def stream(*logprobs, end=DONE):
    return [*(chunk(one) for one in logprobs), end]


async def test_without_an_escalation_it_is_a_plain_call():
    house = House([body(UNSURE)])
    answer = await open_reply(house.dispatcher, Errand(request(), "req-1", ["weak"], 3))
    assert await collect(answer) == body(UNSURE)
    assert answer.verdict is None
    assert "logprobs" not in house.models["weak"].calls[0].request.fields


async def test_a_sure_stream_goes_on_stripped_from_its_first_byte():
    house = House([stream(SURE, SURE, SURE, UNSURE)])
    answer = await house.open(stream=True)
    assert (answer.model, answer.verdict, answer.attempts) == ("weak", Verdict(pytest.approx(0.9)), 1)
    assert await collect(answer) == chunk() * 4 + DONE
    assert house.asked == {"weak": 1}
    house.assert_nothing_is_left()


async def test_the_confidence_at_the_bound_is_enough():
    answer = await House([body(SURE)]).open(CascadeSettings(min_confidence=math.exp(SURE)))
    assert answer.verdict.has_passed


async def test_an_unsure_stream_is_closed_before_the_stronger_model_is_asked():
    house = House([stream(SURE, UNSURE, SURE, SURE)], [stream()])
    answer = await house.open(stream=True)
    assert (answer.model, answer.attempts, answer.is_fallback) == ("strong", 2, False)
    assert answer.verdict == Verdict(pytest.approx(0.1), has_passed=False, charge=Charge("weak", Usage(1, 3)))
    assert house.models["weak"].closed == 1
    assert house.charged[0].body == b"".join(stream(SURE, UNSURE, SURE)[:3])
    assert await collect(answer) == DONE
    house.assert_nothing_is_left()


async def test_both_calls_share_the_first_ones_deadline():
    house = House([body(UNSURE)])
    await collect(await house.open())
    weak, strong = (house.models[name].calls[0] for name in ("weak", "strong"))
    assert strong.deadline_s == weak.deadline_s
    assert "logprobs" in weak.request.fields
    assert "logprobs" not in strong.request.fields


@pytest.mark.parametrize("asks", [True, False])
async def test_only_what_the_client_did_not_ask_for_is_taken_out(asks):
    answer = await House([body(SURE)]).open(logprobs=asks)
    assert await collect(answer) == (body(SURE) if asks else body())


async def test_a_model_that_falls_silent_is_judged_by_what_it_said():
    house = House([[chunk(SURE), None]])
    answer = await house.open(stream=True)
    assert answer.verdict == Verdict(pytest.approx(0.9))
    assert await anext(answer.blocks) == chunk()
    await answer.close()
    house.assert_nothing_is_left()


async def test_a_block_that_was_being_waited_for_is_not_lost():
    house = House([[]])
    release = asyncio.Event()

    async def blocks():
        yield chunk(SURE)
        await release.wait()
        yield chunk(UNSURE)
        yield DONE

    house.models["weak"]._blocks = lambda _: blocks()
    answer = await house.open(stream=True)
    release.set()
    assert await collect(answer) == chunk() * 2 + DONE


async def test_an_end_that_was_being_waited_for_is_an_end():
    house = House([[]])
    release = asyncio.Event()

    async def blocks():
        yield chunk(SURE)
        await release.wait()

    house.models["weak"]._blocks = lambda _: blocks()
    answer = await house.open(stream=True)
    release.set()
    assert await collect(answer) == chunk()


@pytest.mark.parametrize("act", [[chunk(SURE), None], [None]], ids=["after a token", "before any"])
async def test_one_who_leaves_while_tokens_are_held_leaves_nothing_behind(act):
    house = House([act])
    before = asyncio.all_tasks()
    task = asyncio.create_task(house.open(CascadeSettings(tokens=3, wait_s=60), stream=True))
    await house.models["weak"].hangs.wait()
    task.cancel()
    assert isinstance(await raised_by(task), asyncio.CancelledError)
    assert house.models["weak"].closed == 1
    assert [spent.token_count for spent in house.charged] == [len(act) - 1]
    assert asyncio.all_tasks() == before
    house.assert_nothing_is_left()


async def test_one_who_leaves_while_the_stronger_model_is_asked_has_been_charged():
    house = House([body(UNSURE)], [[None]])
    entered = asyncio.Event()

    async def hang(call):
        entered.set()
        await asyncio.Event().wait()

    house.models["strong"].open = hang
    task = asyncio.create_task(house.open())
    await entered.wait()
    task.cancel()
    assert isinstance(await raised_by(task), asyncio.CancelledError)
    assert len(house.charged) == 1
    house.assert_nothing_is_left()


async def test_a_fault_of_ours_while_tokens_are_held_closes_the_call():
    house = House([[chunk(SURE), InternalError("x")]])
    assert isinstance(await raised_by(house.open(stream=True)), InternalError)
    house.assert_nothing_is_left()


BROKEN = [chunk(SURE), UpstreamInterruptedError("gone")]


async def test_what_breaks_off_while_it_is_held_gives_way_to_the_fallback_and_is_paid_for():
    house = House([BROKEN], other=[stream()], fallback=["other"])
    answer = await house.open(stream=True)
    assert (answer.model, answer.is_fallback, answer.attempts) == ("other", True, 2)
    assert answer.verdict == Verdict(None, has_passed=False, charge=Charge("weak", Usage(1, 1)))
    assert await collect(answer) == DONE
    house.assert_nothing_is_left()


async def test_without_a_fallback_it_is_raised_with_its_attempts():
    house = House([BROKEN])
    failure = await raised_by(house.open(stream=True))
    assert (type(failure), failure.attempts, len(house.charged)) == (UpstreamInterruptedError, 1, 1)
    house.assert_nothing_is_left()


async def test_a_model_that_can_not_begin_gives_way_to_the_fallback():
    house = House([UpstreamUnavailableError("away")], fallback=["other"])
    answer = await house.open()
    assert (answer.model, answer.is_fallback, answer.attempts, answer.verdict) == ("other", True, 2, None)


async def test_so_does_one_whose_window_is_too_small():
    house = House([UpstreamContextError("small")], fallback=["other"])
    assert (await house.open()).model == "other"


async def test_past_the_deadline_no_fallback_is_asked():
    house = House([[]], total_s=0.05, fallback=["other"])

    async def fail_late(call):
        await asyncio.sleep(0.06)
        raise UpstreamUnavailableError("late")

    house.models["weak"].open = fail_late
    assert (await raised_by(house.open())).attempts == 1
    assert house.asked == {}


async def test_attempts_are_bounded_over_all_calls():
    away = UpstreamFailureError("away")
    house = House([body(UNSURE)], [away], [away], max_attempts=2, fallback=["other"])
    failure = await raised_by(house.open())
    assert (failure.attempts, house.asked) == (2, {"weak": 1, "strong": 1})
    house = House([away], max_attempts=1, fallback=["other"])
    assert (await raised_by(house.open())).attempts == 1
    assert house.asked == {"weak": 1}


@pytest.mark.parametrize("is_streaming", [True, False])
async def test_replicas_that_failed_leave_no_attempt_to_a_doubt_so_there_is_none(is_streaming):
    house = House([stream(UNSURE, UNSURE) if is_streaming else body(UNSURE)], weak_replicas_down=2)
    answer = await house.open(stream=is_streaming)
    assert (answer.model, answer.attempts, answer.verdict, house.fail_open) == ("weak", 3, Verdict(), 1)
    assert await collect(answer) == (chunk() * 2 + DONE if is_streaming else body())
    house.assert_nothing_is_left()


async def test_one_replica_that_failed_leaves_one():
    house = House([body(UNSURE)], weak_replicas_down=1)
    assert (await house.open()).verdict.has_passed is False
    house = House([body(UNSURE)], weak_replicas_down=2, fallback=["other"])
    answer = await house.open()
    assert (answer.model, answer.attempts, answer.is_fallback) == ("other", 3, True), "each fallback keeps its own"


async def test_when_the_stronger_model_fails_its_fallback_is_asked_plainly():
    house = House([body(UNSURE)], [UpstreamFailureError("away")], fallback=["strong", "weak"])
    answer = await house.open()
    assert (answer.model, answer.is_fallback, answer.attempts) == ("weak", True, 3)
    assert not answer.verdict.has_passed
    assert [("logprobs" in call.request.fields) for call in house.models["weak"].calls] == [True, False]


REJECTED = UpstreamRejectionError("no logprobs here")


async def test_a_server_that_refuses_log_probabilities_is_asked_without_and_goes_on_unjudged():
    house = House([REJECTED, body(UNSURE)])
    answer = await house.open()
    assert (answer.model, answer.attempts, answer.verdict, house.fail_open) == ("weak", 2, Verdict(), 1)
    assert [("logprobs" in call.request.fields) for call in house.models["weak"].calls] == [True, False]


async def test_what_is_refused_without_them_too_is_the_clients_fault():
    house = House([REJECTED], fallback=["other"])
    assert await raised_by(house.open()) is REJECTED
    assert (house.asked, house.fail_open) == ({"weak": 2}, 0)
    house = House([REJECTED])
    assert await raised_by(house.open(logprobs=True)) is REJECTED
    assert house.asked == {"weak": 1}


async def test_a_server_that_refuses_them_and_then_fails_gives_way_to_the_fallback():
    house = House([REJECTED, UpstreamUnavailableError("away")], fallback=["other"])
    answer = await house.open()
    assert (answer.model, answer.is_fallback, answer.attempts, house.fail_open) == ("other", True, 3, 0)


@pytest.mark.parametrize("is_streaming", [True, False])
async def test_what_tells_nothing_goes_on_and_is_counted(is_streaming):
    house = House([[chunk(), chunk(), DONE]] if is_streaming else [body()])
    answer = await house.open(stream=is_streaming)
    assert (answer.verdict, house.fail_open) == (Verdict(), 1)
    assert await collect(answer) == (chunk() * 2 + DONE if is_streaming else body())


async def test_a_beginning_does_not_fill_the_memory():
    block = b": " + b"x" * 65_536 + b"\n\n"
    held = Held(reply(*[block] * 100, is_streaming=True), 16)
    await held.read(5)
    assert MAX_HELD_BYTES < len(held.spent().body) <= MAX_HELD_BYTES + len(block)
    assert await collect(reply(blocks=held.release(strips=True), close=held.close)) == block * 100


async def test_closing_twice_harms_nobody():
    closed = []

    async def close():
        closed.append(1)

    held = Held(reply(chunk(SURE), is_streaming=True, close=close), 16)
    await held.read(0.01)
    await held.close()
    await held.close()
    assert closed == [1, 1], "the reply's own close bears it, and is asked each time"


async def test_an_answer_that_goes_on_loses_nothing_where_a_read_of_it_is_cancelled():
    release = asyncio.Event()

    async def blocks():
        yield chunk(SURE)
        await release.wait()
        yield DONE

    held = Held(reply(is_streaming=True, blocks=blocks()), 1)
    await held.read(1)
    released = held.release(strips=False)
    assert await anext(released) == chunk(SURE)
    reading = asyncio.create_task(anext(released))
    await asyncio.sleep(0.01)
    reading.cancel()
    assert isinstance(await raised_by(reading), asyncio.CancelledError)
    release.set()
    assert await anext(released) == DONE
    assert await anext(released, None) is None
    await held.close()


async def test_a_time_that_is_over_before_anything_came_lets_all_of_it_go_on():
    house = House([[]])
    release = asyncio.Event()

    async def blocks():
        await release.wait()
        yield chunk(UNSURE)
        yield DONE

    house.models["weak"]._blocks = lambda _: blocks()
    answer = await house.open(stream=True)
    assert (answer.verdict, house.fail_open) == (Verdict(), 1)
    release.set()
    assert await collect(answer) == chunk() + DONE
