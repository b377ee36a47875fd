"""Log lines: one JSON object each, or one line for people; never a secret."""

import json
import logging

import pytest

from gateway.core.context import Bill, CacheOutcome, Reason, Usage
from gateway.core.errors import InvalidJsonError, UpstreamUnavailableError, internal_error
from gateway.core.judgement import Judgement
from gateway.core.secret import Secret
from gateway.telemetry.access_log import log_request
from gateway.telemetry.logs import LOGGER, JsonFormatter, TerminalFormatter, log, log_failure, set_up_logs
from tests.builders import context, decided_context, request

CONTRACTED = {
    "request_id", "caller", "route", "model", "tier", "reason", "score", "threshold", "cache", "attempts", "status",
    "prompt_tokens", "completion_tokens", "cost_usd", "baseline_usd", "ttft_ms", "duration_ms", "overhead_ms",
}  # fmt: skip


class Collector(logging.Handler):
    """Keep every record."""

    def __init__(self):
        super().__init__()
        self.records = []

    def emit(self, record):
        self.records.append(record)


@pytest.fixture
def records(monkeypatch):
    """What was logged since."""
    collector = Collector()
    monkeypatch.setattr(LOGGER, "handlers", [collector])
    monkeypatch.setattr(LOGGER, "propagate", False)
    monkeypatch.setattr(LOGGER, "disabled", False)
    before = LOGGER.level
    LOGGER.setLevel(logging.INFO)
    yield collector.records
    LOGGER.setLevel(before)


def as_json(record):
    line = JsonFormatter().format(record)
    assert "\n" not in line
    return json.loads(line)


def test_a_line_is_one_json_object_whatever_its_fields(records):
    log("an_event", text='a\nb "c" é', number=0.5, missing=None, odd=object, names=("a", "b"), nan=float("nan"))
    row = as_json(records[0])
    assert (row["event"], row["level"], row["text"], row["number"]) == ("an_event", "info", 'a\nb "c" é', 0.5)
    assert (row["missing"], row["names"], row["nan"]) == (None, ["a", "b"], None)
    assert row["time"].endswith("Z")


def test_a_percent_sign_in_an_event_is_just_one(records):
    log("100%s sure", share="5%")
    assert as_json(records[0])["event"] == "100%s sure"


@pytest.mark.parametrize("formatter", [JsonFormatter(), TerminalFormatter()])
def test_a_secret_in_a_field_is_hidden(records, formatter):
    log("keyed", key=Secret("hunter2"), keys=[Secret("hunter2")])
    assert "hunter2" not in formatter.format(records[0])
    assert "***" in formatter.format(records[0])


def test_a_line_for_people_has_time_level_event_and_fields(records):
    log("an_event", level=logging.WARNING, number=5, text="x")
    line = TerminalFormatter().format(records[0])
    assert line[8:] == " warning an_event number=5 text=x"
    log("bare")
    assert TerminalFormatter().format(records[1]).endswith("info    bare")


def test_a_traceback_goes_into_the_object_or_after_the_line(records):
    with pytest.raises(ValueError) as caught:
        int("boom")
    log_failure(internal_error(caught.value))
    row = as_json(records[0])
    assert (row["event"], row["level"], row["detail"]) == ("internal_error", "error", "ValueError")
    assert row["traceback"].endswith("'boom'")
    assert TerminalFormatter().format(records[0]).endswith("'boom'")


def test_an_upstreams_fault_is_logged_only_for_what_the_client_was_not_told(records):
    log_failure(InvalidJsonError("The body is not JSON."))
    log_failure(UpstreamUnavailableError("phi can't be reached."))
    log_failure(UpstreamUnavailableError("phi can't be reached.", detail="http://10.0.0.1: refused"))
    assert [as_json(record) | {"time": 0} for record in records] == [
        {
            "time": 0,
            "level": "warning",
            "event": "upstream_fault",
            "code": "upstream_unavailable",
            "detail": "http://10.0.0.1: refused",
        }
    ]


def test_an_upstreams_fault_names_the_request_it_came_with(records):
    log_request(context(failure=UpstreamUnavailableError("phi can't be reached.", detail="refused")))
    assert [as_json(record)["request_id"] for record in records] == ["req-1", "req-1"]


def test_a_finished_request_is_one_line_with_every_fact(records):
    ctx = decided_context(
        model="small", reason=Reason.SCORE, judgement=Judgement(0.123456), cache_outcome=CacheOutcome.MISS
    )
    ctx.usage, ctx.bill, ctx.attempts, ctx.first_token_s = Usage(10, 5), Bill(0.001, 0.01), 1, 0.25
    log_request(ctx)
    row = as_json(records[0])
    assert set(row) >= CONTRACTED
    assert (row["event"], row["status"], row["caller"], row["route"]) == ("request", "ok", "me", "auto")
    assert (row["model"], row["tier"], row["reason"], row["cache"]) == ("small", "weak", "score", "miss")
    assert (row["score"], row["threshold"], row["ttft_ms"], row["attempts"]) == (0.1235, 0.5, 250.0, 1)
    assert (row["prompt_tokens"], row["cost_usd"], row["baseline_usd"]) == (10, 0.001, 0.01)


def test_a_request_refused_at_the_door_is_one_line_too(records):
    log_request(context(failure=InvalidJsonError("The body is not JSON.")))
    row = as_json(records[0])
    assert len(records) == 1
    assert (row["status"], row["model"], row["route"], row["prompt_tokens"]) == ("invalid_json", None, None, None)


@pytest.mark.parametrize("formatter", [JsonFormatter(), TerminalFormatter()])
def test_nothing_the_client_said_is_in_the_line(records, formatter):
    asked = request(messages=[{"role": "user", "content": "my-secret-prompt"}], user="my-secret-user")
    log_request(decided_context(request=asked, model="small"))
    assert "my-secret" not in formatter.format(records[0])


@pytest.fixture
def untouched_loggers():
    """Put the loggers back as they were."""
    names = ("postern", "uvicorn", "uvicorn.error")
    kept = {name: (logging.getLogger(name).handlers[:], logging.getLogger(name).level) for name in names}
    yield
    for name, (handlers, level) in kept.items():
        logger = logging.getLogger(name)
        logger.handlers[:], logger.propagate = handlers, True
        logger.setLevel(level)


@pytest.mark.usefixtures("untouched_loggers")
@pytest.mark.parametrize(
    ("is_json", "kind"), [(True, JsonFormatter), (False, TerminalFormatter), (None, JsonFormatter)]
)
def test_logs_are_json_unless_standard_error_is_a_terminal(is_json, kind, capsys):
    set_up_logs(is_json=is_json)
    set_up_logs(is_json=is_json)
    assert [type(handler.formatter) for handler in LOGGER.handlers] == [kind]
    log("once")
    logging.getLogger("uvicorn.error").info("chatter")
    assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.usefixtures("untouched_loggers")
async def test_a_row_that_waits_is_written_when_logs_are_set_up_anew(capsys):
    set_up_logs(is_json=True)
    log_request(context())
    set_up_logs(is_json=True)
    assert '"event":"request"' in capsys.readouterr().err
