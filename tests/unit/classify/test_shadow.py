"""Shadows: they judge behind the answer, and none of their faults reaches anybody."""

import asyncio
import threading

import pytest

from gateway.classify.shadow import Shadows
from gateway.core.judgement import Judgement
from gateway.schema.conversation import Conversation, Turn

ASK = Conversation((Turn("user", "hi"),))


class Judge:
    def __init__(self, fault=None, gate=None):
        self.fault, self.gate = fault, gate
        self.began = threading.Event()

    def judge_blocking(self, conversation):
        self.began.set()
        if self.gate is not None:
            self.gate.wait(5)
        if self.fault is not None:
            raise self.fault
        return Judgement(0.4)


class Desk:
    def __init__(self):
        self.told = []
        self.came = asyncio.Event()

    def tell(self, judgement, seconds):
        self.told.append((judgement and judgement.score, threading.current_thread() is threading.main_thread()))
        assert seconds >= 0
        self.came.set()

    async def wait(self, count):
        async with asyncio.timeout(5):
            while len(self.told) < count:
                self.came.clear()
                await self.came.wait()


@pytest.fixture
def shadows():
    found = Shadows(max_waiting=2)
    yield found
    found.close()


async def test_a_shadow_tells_on_the_loop_what_it_would_have_said(shadows):
    desk = Desk()
    assert shadows.offer("next", Judge(), ASK, desk.tell)
    assert desk.told == []
    await desk.wait(1)
    assert desk.told == [(0.4, True)]


async def test_a_shadow_that_raises_says_nothing_and_judges_on(shadows):
    desk = Desk()
    for judge in (Judge(ValueError("no")), Judge()):
        assert shadows.offer("next", judge, ASK, desk.tell)
    await desk.wait(2)
    assert [score for score, _ in desk.told] == [None, 0.4]


async def test_a_shadow_that_hangs_drops_what_comes_and_holds_nobody_else(shadows):
    desk, gate = Desk(), threading.Event()
    hanging = Judge(gate=gate)
    assert shadows.offer("next", hanging, ASK, desk.tell)
    await asyncio.to_thread(hanging.began.wait, 5)
    assert [shadows.offer("next", hanging, ASK, desk.tell) for _ in range(4)] == [True, True, False, False]
    assert shadows.offer("other", Judge(), ASK, desk.tell)
    await desk.wait(1)
    assert desk.told == [(0.4, True)]
    gate.set()
    await desk.wait(4)


async def test_closing_ends_the_threads():
    before = set(threading.enumerate())
    shadows, desk = Shadows(), Desk()
    for router in ("one", "two"):
        shadows.offer(router, Judge(), ASK, desk.tell)
    await desk.wait(2)
    made = set(threading.enumerate()) - before
    assert len(made) == 2
    shadows.close()
    async with asyncio.timeout(5):
        while any(thread.is_alive() for thread in made):  # noqa: ASYNC110 - a thread's end wakes nobody
            await asyncio.sleep(0.01)


def test_a_shadow_that_ends_after_the_loop_tells_nobody():
    gate, judge = threading.Event(), Judge()
    judge.gate = gate
    shadows = Shadows()

    async def offer():
        shadows.offer("next", judge, ASK, lambda *_: None)
        await asyncio.to_thread(judge.began.wait, 5)

    asyncio.run(offer())
    gate.set()
    shadows.close()
