"""One timer for many waits: none may last too long, and none is ended for what another took."""

import asyncio

import pytest

from gateway.backends.silence import Silence
from gateway.core.deadlines import Wheel
from tests.builders import raised_by


class CountingWheel(Wheel):
    """Counts the timers that were set."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def after(self, seconds, callback):
        self.count += 1
        return super().after(seconds, callback)


def silence(most_s, deadline_s=60.0, wheel=None):
    return Silence(wheel or Wheel(), most_s, asyncio.get_running_loop().time() + deadline_s)


async def test_a_wait_that_lasts_too_long_ends_in_timeouterror():
    bound = silence(0.03)
    with bound:
        await asyncio.sleep(0)
    with pytest.raises(TimeoutError), bound:
        await asyncio.sleep(5)
    assert asyncio.current_task().cancelling() == 0


async def test_waits_that_are_short_may_be_many():
    bound = silence(0.5)
    for _ in range(12):
        with bound:
            await asyncio.sleep(0.05)
    with pytest.raises(TimeoutError), bound:
        await asyncio.sleep(5)


async def test_a_thousand_waits_take_one_timer():
    wheel = CountingWheel()
    bound = silence(1.0, wheel=wheel)
    for _ in range(1000):
        with bound:
            await asyncio.sleep(0)
    assert wheel.count == 1
    bound.end()
    bound.end()


async def test_time_between_waits_does_not_count():
    bound = silence(0.3)
    with bound:
        await asyncio.sleep(0)
    await asyncio.sleep(0.4)
    with bound:
        await asyncio.sleep(0.01)


async def test_the_deadline_bounds_every_wait():
    bound = silence(60, deadline_s=0.05)
    with bound:
        await asyncio.sleep(0.01)
    with pytest.raises(TimeoutError), bound:
        await asyncio.sleep(5)
    with pytest.raises(TimeoutError), bound:
        await asyncio.sleep(5)


async def test_whoever_is_cancelled_from_outside_stays_cancelled():
    bound = silence(0.02)

    async def wait():
        with bound:
            try:
                await asyncio.sleep(5)
            except asyncio.CancelledError:
                task.cancel()
                raise

    for delay_s in (0.0, 0.1):
        task = asyncio.create_task(wait())
        await asyncio.sleep(delay_s)
        task.cancel()
        assert isinstance(await raised_by(task), asyncio.CancelledError)


async def test_an_error_inside_is_passed_on():
    with pytest.raises(KeyError), silence(1.0):
        raise KeyError
