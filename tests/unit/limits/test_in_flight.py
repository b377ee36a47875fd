"""Requests in flight: counted in, counted out, shed above the limit."""

import asyncio

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from gateway.core.errors import DrainingError, OverloadedError
from gateway.limits.in_flight import InFlight


class InFlightMachine(RuleBasedStateMachine):
    """Whatever comes and goes, the count is the number of those inside and never above the limit."""

    def __init__(self):
        super().__init__()
        self.limit = 3
        self.places = InFlight(self.limit)
        self.inside = 0

    @rule()
    def enter(self):
        is_full, is_draining = self.inside == self.limit, self.places.is_draining
        if is_full or is_draining:
            with pytest.raises(DrainingError if is_draining else OverloadedError) as caught:
                self.places.enter()
            assert caught.value.retry_after_s == 1
            return
        self.places.enter()
        self.inside += 1

    @precondition(lambda self: self.inside > 0)
    @rule()
    def leave(self):
        self.places.leave()
        self.inside -= 1

    @rule(is_draining=st.booleans())
    def drain(self, is_draining):
        self.places.is_draining = is_draining

    @invariant()
    def count_is_right(self):
        assert self.places.count == self.inside <= self.limit


TestInFlightMachine = InFlightMachine.TestCase


async def test_who_waits_for_the_last_one_is_told_when_it_leaves_and_not_before():
    places = InFlight(5)
    await asyncio.wait_for(places.wait_empty(), 1)
    places.enter()
    places.enter()
    waiting = [asyncio.create_task(places.wait_empty()) for _ in range(2)]
    await asyncio.sleep(0)
    places.leave()
    await asyncio.sleep(0.01)
    assert not any(task.done() for task in waiting)
    places.leave()
    await asyncio.wait_for(asyncio.gather(*waiting), 1)


async def test_waiting_goes_on_when_someone_new_came_in_at_once():
    places = InFlight(5)
    places.enter()
    waiting = asyncio.create_task(places.wait_empty())
    await asyncio.sleep(0)
    places.leave()
    places.enter()
    await asyncio.sleep(0.01)
    assert not waiting.done()
    places.leave()
    await asyncio.wait_for(waiting, 1)
