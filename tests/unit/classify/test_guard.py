import asyncio
import math
import threading
import time

import pytest

from gateway.classify.features import FEATURE_NAMES, HEAD_CHARS, TAIL_CHARS, measure_text
from gateway.classify.guard import ON_LOOP_LIMIT_S, GuardedClassifier, time_worst_case, worst_case
from gateway.classify.turns import judged_texts
from gateway.classify.vocabulary import Vocabulary
from gateway.core.judgement import Distribution, Judgement, Reference
from gateway.schema.conversation import Conversation, Turn

SURE = Judgement(0.7)
ASK = Conversation((Turn("user", "hi"),))


class Stub:
    name = "stub"
    version = "1"
    reference = Reference(Distribution((), (1.0,)))

    def __init__(self, answer=SURE):
        self.answer = answer
        self.gate = None
        self.threads = []
        self.asked = []
        self.tenants = []

    def unread(self, conversation, tenant=None):
        return judged_texts(conversation)

    def judge(self, conversation, tenant=None):
        self.asked.append(conversation)
        self.tenants.append(tenant)
        self.threads.append(threading.current_thread().name)
        if self.gate is not None:
            self.gate.wait(5)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def quick(_):
    return 0.0


def slow(_):
    return 1.0


@pytest.fixture
def guard():
    made = []

    def make(stub, measure, **options):
        made.append((GuardedClassifier(stub, measure=measure, **options), stub))
        return made[-1][0]

    yield make
    for guarded, stub in made:
        if stub.gate is not None:
            stub.gate.set()
        guarded.close()


async def test_a_quick_classifier_runs_on_the_loop(guard):
    stub = Stub()
    guarded = guard(stub, quick)
    assert guarded.is_on_loop
    assert await guarded.judge(ASK) == SURE
    assert stub.threads == [threading.current_thread().name]


async def test_a_slow_classifier_runs_in_its_own_thread(guard):
    stub = Stub()
    guarded = guard(stub, slow, timeout_s=5)
    assert not guarded.is_on_loop
    assert await guarded.judge(ASK) == SURE
    assert stub.threads[0].startswith("classify")


@pytest.mark.parametrize("measure", [quick, slow])
async def test_the_classifier_is_told_whose_conversation_it_is(guard, measure):
    stub = Stub()
    await guard(stub, measure, timeout_s=5).judge(ASK, "tenant")
    assert stub.tenants == ["tenant"]


async def test_a_long_prompt_and_a_follow_up_stay_on_the_loop_where_the_costliest_text_takes_200_us(guard):
    stub = Stub()
    guarded = guard(stub, lambda _: 200e-6)
    follow_up = Conversation((Turn("user", "x" * 9000), Turn("assistant", "y" * 9000), Turn("user", "yes")))
    for conversation in (Conversation((Turn("user", "x" * 9000),)), follow_up):
        await guarded.judge(conversation)
    assert set(stub.threads) == {threading.current_thread().name}


async def test_the_limit_is_where_the_loop_ends(guard):
    assert not guard(Stub(), lambda _: ON_LOOP_LIMIT_S * 4).is_on_loop
    assert guard(Stub(), lambda _: ON_LOOP_LIMIT_S * 3.99).is_on_loop


@pytest.mark.parametrize("measure", [quick, slow])
@pytest.mark.parametrize(
    "answer",
    [
        RuntimeError("broken"),
        *(Judgement(wrong) for wrong in (math.nan, math.inf, -math.inf, "no number")),
        Judgement(0.5, weak_chance=math.nan),
        Judgement(0.5, strong_chance=math.inf),
        0.7,
    ],
)
async def test_a_fault_or_a_score_that_is_no_number_is_none(guard, measure, answer):
    assert await guard(Stub(answer), measure, timeout_s=5).judge(ASK) is None


def test_a_classifier_that_fails_its_warm_up_is_kept_off_the_loop():
    guarded = GuardedClassifier(Stub(RuntimeError("cold")))
    assert not guarded.is_on_loop
    guarded.close()


async def test_a_score_that_is_late_is_none(guard):
    stub = Stub()
    stub.gate = threading.Event()
    guarded = guard(stub, slow, timeout_s=0.02)
    started = time.perf_counter()
    assert await guarded.judge(ASK) is None
    assert time.perf_counter() - started < 1


async def test_a_full_queue_is_none_at_once_and_empties_again(guard):
    stub = Stub()
    stub.gate = threading.Event()
    guarded = guard(stub, slow, timeout_s=5, max_waiting=2)
    waiting = [asyncio.create_task(guarded.judge(ASK)) for _ in range(2)]
    await asyncio.sleep(0.01)
    assert await guarded.judge(ASK) is None
    assert len(stub.asked) == 1
    stub.gate.set()
    assert await asyncio.gather(*waiting) == [SURE, SURE]
    assert await guarded.judge(ASK) == SURE


async def test_a_timed_out_score_holds_its_place_until_it_ends(guard):
    stub = Stub()
    stub.gate = threading.Event()
    guarded = guard(stub, slow, timeout_s=0.02, max_waiting=1)
    assert await guarded.judge(ASK) is None
    assert await guarded.judge(ASK) is None
    assert len(stub.asked) == 1


async def test_cancellation_passes_through(guard):
    stub = Stub()
    stub.gate = threading.Event()
    task = asyncio.create_task(guard(stub, slow, timeout_s=5).judge(ASK))
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_after_close_there_is_no_score_and_no_slot_is_lost(guard):
    guarded = guard(Stub(), slow, max_waiting=1)
    guarded.close()
    assert [await guarded.judge(ASK) for _ in range(3)] == [None] * 3


async def test_close_does_not_cancel_those_who_wait(guard):
    stub = Stub()
    stub.gate = threading.Event()
    guarded = guard(stub, slow, timeout_s=5)
    waiting = [asyncio.create_task(guarded.judge(ASK)) for _ in range(2)]
    await asyncio.sleep(0.01)
    guarded.close()
    stub.gate.set()
    assert await asyncio.gather(*waiting) == [SURE, SURE]


def test_name_version_and_reference_are_the_classifiers(guard):
    guarded = guard(Stub(), quick)
    assert (guarded.name, guarded.version, guarded.reference) == ("stub", "1", Stub.reference)


def test_the_worst_case_is_a_longest_text_and_is_what_is_timed():
    stub = Stub()
    assert 0 <= time_worst_case(stub) < 0.1
    assert stub.asked == [worst_case()] * len(stub.asked)
    assert len(worst_case().turns[0].text) == HEAD_CHARS + TAIL_CHARS


async def test_a_follow_up_that_judges_many_texts_is_scored_off_the_loop(guard):
    stub = Stub()
    guarded = guard(stub, lambda _: ON_LOOP_LIMIT_S * 2)
    plan = Turn(
        "user", "Prove that the scheduler never starves a reader, step by step, and bound the waiting time. " * 4
    )
    follow_up = Conversation((plan, Turn("assistant", "First the invariant. " * 40), Turn("user", "yes, go on")))

    await guarded.judge(ASK)
    await guarded.judge(follow_up)

    assert [name.startswith("classify") for name in stub.threads] == [False, True]


async def test_what_is_remembered_costs_nothing(guard):
    stub = Stub()
    guarded = guard(stub, lambda _: ON_LOOP_LIMIT_S * 2, timeout_s=5)
    follow_up = Conversation((Turn("user", "x" * 9000), Turn("assistant", "y" * 9000), Turn("user", "yes, go on")))
    await guarded.judge(follow_up)
    stub.unread = lambda *_: ["yes, go on"]
    await guarded.judge(follow_up)
    assert [name.startswith("classify") for name in stub.threads] == [True, False]


@pytest.mark.parametrize(("chars", "is_quick"), [(0, True), (192, True), (380, True), (390, False), (100_000, False)])
async def test_a_long_text_is_scored_off_the_loop_where_a_short_one_is_not(guard, chars, is_quick):
    stub = Stub()
    await guard(stub, lambda _: ON_LOOP_LIMIT_S * 2, timeout_s=5).judge(Conversation((Turn("user", "x" * chars),)))
    assert stub.threads[0].startswith("classify") != is_quick


def test_the_worst_case_has_many_words_options_scripts_and_orders():
    text = worst_case().turns[0].text
    found = measure_text(text, Vocabulary(measure_text(text).unknown))
    assert len(found.known) > found.in_stem > 120
    assert found.features[FEATURE_NAMES.index("non_latin_share")] > 0
