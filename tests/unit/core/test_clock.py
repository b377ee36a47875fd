"""The stopwatch: every moment belongs to one stage or is left out."""

import pytest

from gateway.core.clock import Stage, Stopwatch
from gateway.core.context import RequestContext
from gateway.schema.request import Operation
from tests.builders import FakeClock


def test_a_lap_gives_the_time_since_the_last_one_to_its_stage():
    clock = FakeClock()
    watch = Stopwatch(clock)
    for stage, seconds in ((Stage.AUTH, 1), (Stage.CACHE, 2), (Stage.AUTH, 4)):
        clock.pass_s(seconds)
        watch.lap(stage)
    assert watch.durations_s == {Stage.AUTH: 5, Stage.CACHE: 2}
    assert watch.elapsed_s() == 7


def test_what_is_skipped_belongs_to_no_stage_but_has_elapsed():
    clock = FakeClock()
    watch = Stopwatch(clock)
    clock.pass_s(3)
    watch.skip()
    clock.pass_s(1)
    watch.lap(Stage.GATEWAY)
    assert watch.durations_s == {Stage.GATEWAY: 1}
    assert watch.elapsed_s() == 4


def test_the_overhead_is_every_stage_but_the_upstream():
    clock = FakeClock()
    ctx = RequestContext(Operation.CHAT, "id", stopwatch=Stopwatch(clock))
    assert ctx.overhead_s == 0
    for stage, seconds in ((Stage.AUTH, 0.25), (Stage.UPSTREAM, 8), (Stage.GATEWAY, 0.5)):
        clock.pass_s(seconds)
        ctx.stopwatch.lap(stage)
    assert ctx.overhead_s == pytest.approx(0.75)


def test_what_was_stopped_takes_no_longer_however_late_it_is_read():
    times = iter([1.0, 3.0, 9.0])
    stopwatch = Stopwatch(lambda: next(times))
    stopwatch.stop()
    assert (stopwatch.elapsed_s(), stopwatch.elapsed_s()) == (2.0, 2.0)
