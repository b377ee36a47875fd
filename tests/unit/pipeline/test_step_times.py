"""What waiting for the others of a turn does to a request's times."""

import asyncio

from gateway.core.clock import Stage, Stopwatch
from gateway.pipeline import Pipeline
from tests.builders import FakeClock, context


async def test_the_time_of_others_is_in_the_duration_and_in_no_stage():
    clock = FakeClock()
    ctx = context(stopwatch=Stopwatch(clock))
    clock.pass_s(1)
    asyncio.get_running_loop().call_soon(clock.pass_s, 3)
    await Pipeline._fall_in_step(ctx)
    ctx.stopwatch.lap(Stage.CACHE)
    assert ctx.stopwatch.durations_s == {Stage.GATEWAY: 1, Stage.CACHE: 0}
    assert ctx.stopwatch.elapsed_s() == 4
