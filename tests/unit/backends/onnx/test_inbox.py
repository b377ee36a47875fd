import threading
import time

import pytest

from gateway.backends.engine import Sampling
from gateway.backends.onnx.inbox import Inbox, pick
from gateway.backends.onnx.wire import BEAT_S, Begin, Cancel


def begin(number, **sampling):
    return Begin(number, "hello", Sampling(10, **sampling))


def numbers(begun):
    return [one.task for one in begun]


@pytest.mark.parametrize(
    ("waiting", "room", "begun"),
    [
        ("", 8, []),
        ("....", 8, [0, 1, 2, 3]),
        (".", 1, [0]),  # there is a place for all who wait
        ("...", 3, [0, 1, 2]),
        ("..", 1, []),  # more wait than have a place: until a whole engine's are free
        ("....", 3, []),
        (".....", 4, [0, 1, 2, 3]),
        ("........", 6, [0, 1, 2, 3, 4, 5]),
        ("s..", 1, [0]),  # who is alone anyway has nobody to wait for
        ("ss..", 1, [0]),
        (".s.", 1, []),  # but overtakes nobody
        ("ss", 1, [0]),
        ("...", 0, []),
    ],
)
def test_places_are_given_at_once_but_in_a_crowd_an_engine_at_a_time(waiting, room, begun):
    tasks = [begin(number, seed=1 if kind == "s" else None) for number, kind in enumerate(waiting)]
    assert numbers(pick(tasks, room, max_batch=8)) == begun


def test_a_batch_smaller_than_an_engine_is_filled_whole():
    tasks = [begin(number) for number in range(5)]
    assert numbers(pick(tasks, 1, max_batch=2)) == []
    assert numbers(pick(tasks, 2, max_batch=2)) == [0, 1]
    assert numbers(pick(tasks, 1, max_batch=1)) == [0]


def test_what_is_given_up_while_it_waits_is_never_begun_and_what_runs_is_told():
    inbox = Inbox(max_batch=8)
    for order in (begin(1), begin(2), Cancel(1), Cancel(7)):
        inbox.put(order)
    begun, cancelled = inbox.take(running=1)
    assert (numbers(begun), cancelled) == ([2], {7})
    assert inbox.take(running=1) == ([], frozenset())


def test_where_nothing_runs_the_worker_waits_for_a_task():
    inbox, taken = Inbox(max_batch=8), []
    worker = threading.Thread(target=lambda: taken.append(inbox.take(running=0)))
    worker.start()
    inbox.put(Cancel(5))
    worker.join(0.1)
    assert worker.is_alive()
    inbox.put(begin(6))
    worker.join(5)
    assert numbers(taken[0][0]) == [6]


def test_where_no_task_comes_the_worker_comes_by_to_say_that_it_lives():
    began_s = time.monotonic()
    assert Inbox(max_batch=8).take(running=0) == ([], frozenset())
    assert BEAT_S / 2 < time.monotonic() - began_s < BEAT_S * 3


def test_where_something_runs_the_worker_does_not_wait():
    assert Inbox(max_batch=8).take(running=3) == ([], frozenset())
