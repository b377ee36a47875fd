"""A fault that repeats is told a bounded number of times, and how often it was not."""

import asyncio
import json
import logging

import pytest

from gateway.settings.logs import LogFormat, LogsSettings
from gateway.telemetry import repeats
from gateway.telemetry.log_writer import FIELDS
from gateway.telemetry.logs import log, set_up_logs
from gateway.telemetry.repeats import BURST, MAX_KEYS, WINDOW_S, Repeats
from tests.builders import FakeClock


def fault(event="upstream_fault", level=logging.WARNING, **fields):
    return logging.makeLogRecord({"name": "postern", "msg": event, "levelno": level, FIELDS: fields})


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def told():
    return []


@pytest.fixture
def repeats_of(clock, told):
    return Repeats(lambda event, count: told.append((event, count)), clock)


def passed(filter_, count, **fields):
    return sum(filter_.filter(fault(**fields)) for _ in range(count))


def test_a_burst_passes_and_no_more(repeats_of, clock, told):
    assert passed(repeats_of, 1000) == BURST
    clock.pass_s(WINDOW_S)
    assert passed(repeats_of, 1) == 1
    assert told == [("upstream_fault", 1000 - BURST)]


def test_what_was_all_told_is_not_counted(repeats_of, clock, told):
    passed(repeats_of, BURST)
    clock.pass_s(WINDOW_S)
    passed(repeats_of, BURST)
    assert told == []


@pytest.mark.parametrize("apart", [{"event": "other"}, {"code": "b"}, {"model": "b"}, {"problem": "b"}])
def test_another_cause_is_told_beside_it(repeats_of, apart):
    one = {"event": "upstream_fault", "code": "a", "model": "a", "problem": "a"}
    assert passed(repeats_of, 30, **one) == BURST
    assert passed(repeats_of, 30, **one | apart) == BURST


def test_one_fault_of_many_requests_is_one_fault(repeats_of):
    assert sum(passed(repeats_of, 1, request_id=f"req-{number}") for number in range(100)) == BURST


def test_what_is_no_fault_passes(repeats_of):
    assert passed(repeats_of, 1000, level=logging.INFO) == 1000


def test_what_it_remembers_is_bounded(repeats_of):
    for number in range(3 * MAX_KEYS):
        repeats_of.filter(fault(str(number)))
    assert len(repeats_of._windows) == MAX_KEYS + 1  # and the one of all others


def test_a_flood_of_faults_that_all_differ_is_bounded_too(repeats_of, clock, told):
    """A library's message may hold an address, or a request's number: no two are alike."""
    kept = sum(passed(repeats_of, 1, event=f"Task {number} was destroyed") for number in range(100_000))
    assert kept <= MAX_KEYS + BURST
    clock.pass_s(WINDOW_S)
    assert passed(repeats_of, 1, event="another") == 1
    assert passed(repeats_of, MAX_KEYS + BURST, event="one more") == BURST


def test_what_was_held_back_is_told_though_others_need_the_room(repeats_of, clock, told):
    passed(repeats_of, BURST + 5)
    clock.pass_s(WINDOW_S)
    for number in range(2 * MAX_KEYS):
        repeats_of.filter(fault(str(number)))
    assert ("upstream_fault", 5) in told


@pytest.mark.usefixtures("untouched_logs")
async def test_at_the_end_of_a_flood_its_size_is_told_though_nothing_follows(monkeypatch, capsys):
    monkeypatch.setattr(repeats, "WINDOW_S", 0.05)
    set_up_logs(LogsSettings(format=LogFormat.JSON))
    for number in range(1000):
        log("upstream_fault", level=logging.WARNING, request_id=str(number))
    await asyncio.sleep(0.2)
    rows = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [row["event"] for row in rows] == ["upstream_fault"] * BURST + ["events_suppressed"]
    assert (rows[-1]["of"], rows[-1]["count"], rows[-1]["level"]) == ("upstream_fault", 1000 - BURST, "warning")
