"""The store's breaker, by a clock of our own."""

from gateway.stores.breaker import Breaker
from tests.builders import FakeClock


def tripped(clock):
    breaker = Breaker(threshold=3, pause_s=2.0, clock=clock)
    for _ in range(3):
        breaker.failed()
    return breaker


def test_failures_below_the_threshold_or_broken_by_a_success_leave_it_closed():
    breaker = Breaker(threshold=3, clock=FakeClock())
    for _ in range(5):
        breaker.failed()
        breaker.failed()
        assert breaker.allows()
        breaker.succeeded()


def test_as_many_failures_in_a_row_open_it_for_the_pause():
    clock = FakeClock()
    breaker = tripped(clock)
    assert not breaker.allows()
    clock.pass_s(1.99)
    assert not breaker.allows()


def test_after_the_pause_one_caller_a_pause_may_try():
    clock = FakeClock()
    breaker = tripped(clock)
    for _ in range(3):
        clock.pass_s(2.0)
        assert [breaker.allows() for _ in range(3)] == [True, False, False]


def test_a_try_that_fails_opens_it_anew_and_one_that_succeeds_closes_it():
    clock = FakeClock()
    breaker = tripped(clock)
    clock.pass_s(2.0)
    assert breaker.allows()
    breaker.failed()
    clock.pass_s(1.99)
    assert not breaker.allows()
    clock.pass_s(0.01)
    assert breaker.allows()
    breaker.succeeded()
    assert [breaker.allows() for _ in range(3)] == [True, True, True]


def test_each_change_is_told_once():
    told = []
    breaker = Breaker(threshold=3, clock=FakeClock(), tell=told.append)
    breaker.succeeded()
    for _ in range(5):
        breaker.failed()
    assert told == [True]
    breaker.succeeded()
    breaker.succeeded()
    breaker.failed()
    assert told == [True, False]
