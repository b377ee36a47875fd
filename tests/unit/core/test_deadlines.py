"""Deadlines: they run out like asyncio's, up to a slot late, never early."""

import asyncio
import contextlib
import gc
import weakref

import pytest

from gateway.core.deadlines import LONG_S, LONG_SLOT_S, SLOT_S, Wheel


async def test_what_ends_in_time_is_left_alone():
    wheel = Wheel()
    with wheel.within(0.05):
        await asyncio.sleep(0)
    await asyncio.sleep(0.08)
    assert asyncio.current_task().cancelling() == 0


@pytest.mark.parametrize("seconds", [0.0, 0.001, 0.03, 0.05])
async def test_runs_out_up_to_a_slot_late_and_never_early(seconds):
    wheel, loop = Wheel(), asyncio.get_running_loop()
    began_s = loop.time()
    with pytest.raises(TimeoutError), wheel.within(seconds):
        await asyncio.sleep(10)
    took_s = loop.time() - began_s
    assert seconds <= took_s < seconds + SLOT_S + 0.1
    assert asyncio.current_task().cancelling() == 0


async def test_a_negative_time_is_over_at_once():
    with pytest.raises(TimeoutError), Wheel().within(-5.0):
        await asyncio.sleep(1)


async def test_a_long_deadline_falls_into_a_wide_slot(monkeypatch):
    wheel, loop = Wheel(), asyncio.get_running_loop()
    set_for = []
    wheel._loop = type("Loop", (), {"time": loop.time, "call_at": lambda _, when, *__: set_for.append(when)})()
    began_s = loop.time()
    wheel.after(LONG_S, lambda: None)
    assert LONG_S <= set_for[0] - began_s <= LONG_S + LONG_SLOT_S + 0.05


async def test_deadlines_of_one_slot_share_a_timer():
    wheel, loop = Wheel(), asyncio.get_running_loop()
    set_for = []
    wheel._loop = type("Loop", (), {"time": lambda _: 100.0, "call_at": lambda _, when, *__: set_for.append(when)})()
    for _ in range(1000):
        wheel.after(600.0, lambda: None)
    assert len(set_for) == 1
    assert loop is not None


async def test_a_cancellation_from_elsewhere_stays_one():
    async def wait():
        with Wheel().within(5):
            await asyncio.sleep(10)

    task = asyncio.create_task(wait())
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_cancellation_in_the_same_turn_wins_over_the_deadline():
    wheel = Wheel()

    async def wait():
        with wheel.within(0.02) as deadline:
            deadline._timer.cancel()
            deadline._pass()
            asyncio.current_task().cancel()
            await asyncio.sleep(10)

    task = asyncio.create_task(wait())
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_the_inner_of_two_deadlines_is_told_from_the_outer():
    wheel = Wheel()
    with wheel.within(5):
        with pytest.raises(TimeoutError), wheel.within(0.01):
            await asyncio.sleep(10)
        await asyncio.sleep(0)
    with pytest.raises(TimeoutError), wheel.within(0.01), wheel.within(5):
        await asyncio.sleep(10)


async def test_one_that_runs_out_may_cancel_another_of_its_slot():
    wheel, rung = Wheel(), []
    timers = []

    def ring(name, other):
        rung.append(name)
        timers[other].cancel()

    timers.append(wheel.after(0.01, lambda: ring("a", 1)))
    timers.append(wheel.after(0.01, lambda: ring("b", 0)))
    await asyncio.sleep(0.06)
    assert len(rung) == 1


async def test_what_was_met_is_not_kept():
    class Held:
        def call(self):
            pass

    wheel, held = Wheel(), Held()
    gone = weakref.ref(held)
    wheel.after(600, held.call).cancel()
    del held
    gc.collect()
    assert gone() is None


async def test_an_exception_passes_through():
    with pytest.raises(ValueError, match="mine"), Wheel().within(1):
        raise ValueError("mine")


@pytest.mark.parametrize("seconds", [60.0, 0.001], ids=["met", "missed"])
async def test_a_deadline_leaves_nothing_to_the_garbage_collector(seconds):
    wheel = Wheel()

    async def wait():
        with contextlib.suppress(TimeoutError), wheel.within(seconds):
            await asyncio.sleep(0.03)

    gc.collect()
    gc.disable()
    try:
        await asyncio.gather(*(asyncio.create_task(wait()) for _ in range(10)))
        assert gc.collect() == 0
    finally:
        gc.enable()
