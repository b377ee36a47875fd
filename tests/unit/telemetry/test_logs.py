"""Log lines: one JSON object each, or one line for people; never a secret."""

import io
import json
import logging
import subprocess
import sys
import warnings

import pytest

from gateway.core.context import Bill, CacheOutcome, Reason, Usage
from gateway.core.errors import InvalidJsonError, UpstreamUnavailableError, internal_error
from gateway.core.judgement import Judgement
from gateway.core.secret import Secret
from gateway.settings.logs import LogFormat, LogLevel, LogsSettings
from gateway.telemetry.access_log import log_faults, log_request
from gateway.telemetry.logs import LOGGER, JsonFormatter, TerminalFormatter, log, log_failure, set_up_logs
from tests.builders import context, decided_context, request

CONTRACTED = {
    "request_id", "caller", "route", "model", "tier", "reason", "score", "threshold", "cache", "attempts", "status",
    "prompt_tokens", "completion_tokens", "cost_usd", "baseline_usd", "ttft_ms", "duration_ms", "overhead_ms",
}  # fmt: skip


AS_JSON = LogsSettings(format=LogFormat.JSON)


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


@pytest.mark.usefixtures("untouched_logs")
@pytest.mark.parametrize(
    ("wished", "kind"), [("json", JsonFormatter), ("text", TerminalFormatter), (None, JsonFormatter)]
)
def test_logs_are_json_unless_standard_error_is_a_terminal(wished, kind, capsys):
    settings = LogsSettings(format=wished and LogFormat(wished))
    set_up_logs(settings)
    set_up_logs(settings)
    assert [type(handler.formatter) for handler in LOGGER.handlers] == [kind]
    log("once")
    logging.getLogger("uvicorn.error").info("chatter")
    assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.usefixtures("untouched_logs")
async def test_a_row_that_waits_is_written_when_logs_are_set_up_anew(capsys):
    set_up_logs(AS_JSON)
    log_request(context())
    set_up_logs(AS_JSON)
    assert '"event":"request"' in capsys.readouterr().err


class Terminal(io.StringIO):
    """A standard error that people look at."""

    def isatty(self):
        return True


@pytest.mark.usefixtures("untouched_logs")
@pytest.mark.parametrize(
    ("environ", "has_colors"),
    [({}, True), ({"NO_COLOR": "1"}, False), ({"NO_COLOR": ""}, True), ({"TERM": "dumb"}, False)],
)
def test_a_terminal_gets_colors_unless_it_wants_none(environ, has_colors, monkeypatch):
    for name in ("NO_COLOR", "TERM"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    set_up_logs()
    log("plain")
    log("bad", level=logging.ERROR, text="x")
    plain, bad = terminal.getvalue().splitlines()
    assert plain[8:] == " info    plain"
    assert (bad.startswith("\x1b[31m"), bad.endswith("\x1b[0m")) == (has_colors, has_colors)


@pytest.mark.usefixtures("untouched_logs")
def test_what_is_sent_elsewhere_has_no_colors_however_it_looks(capsys):
    set_up_logs(LogsSettings(format=LogFormat.TEXT))
    log("bad", level=logging.ERROR)
    assert "\x1b" not in capsys.readouterr().err


@pytest.mark.usefixtures("untouched_logs")
@pytest.mark.parametrize(("level", "told"), [("debug", "diwe"), ("info", "iwe"), ("warning", "we"), ("error", "e")])
def test_what_is_below_the_level_is_not_told(level, told, capsys):
    set_up_logs(LogsSettings(format=LogFormat.JSON, level=LogLevel(level)))
    for number in (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR):
        log(logging.getLevelName(number)[0].lower(), level=number)
    assert [json.loads(line)["event"] for line in capsys.readouterr().err.splitlines()] == list(told)


@pytest.mark.usefixtures("untouched_logs")
def test_what_libraries_say_comes_in_the_same_form_and_no_less_than_a_warning(capsys):
    """Below it they tell headers and bodies: keys and prompts."""
    set_up_logs(LogsSettings(format=LogFormat.JSON, level=LogLevel.DEBUG))
    logging.getLogger("uvicorn.error").error("Cancel %s running task(s)", 3)
    logging.getLogger("httpcore.http11").debug("send_request_headers authorization: Bearer hunter2")
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        warnings.warn("this is old", DeprecationWarning, stacklevel=1)
    rows = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [(row["event"], row["level"], row["logger"]) for row in rows] == [
        ("library_message", "error", "uvicorn.error"),
        ("library_message", "warning", "py.warnings"),
    ]
    assert rows[0]["message"] == "Cancel 3 running task(s)"
    assert "this is old" in rows[1]["message"]


def test_a_librarys_message_whose_arguments_do_not_fit_is_told_as_it_stands():
    record = logging.makeLogRecord({"name": "broken", "msg": "%d of", "args": ("many", "more")})
    assert as_json(record)["message"] == "%d of"


EVIL = 'a\r\nb\x1b[2J\x9b31m\u2028\u202e\x00\x7f c=d "e"'


@pytest.mark.parametrize("name", ["value", "event"])
@pytest.mark.parametrize("formatter", [JsonFormatter(), TerminalFormatter()])
def test_no_value_ends_the_line_or_commands_the_terminal(records, formatter, name):
    log(**{"event": "an_event", name: EVIL})
    line = formatter.format(records[0])
    assert line.isprintable()
    assert len(line.splitlines()) == 1


def test_json_still_holds_the_value_as_it_was(records):
    log("an_event", value=EVIL, path="a\udcffb")
    assert as_json(records[0])["value"] == EVIL
    assert as_json(records[0])["path"] == "a\udcffb"


def test_a_traceback_for_people_commands_no_terminal_either(records):
    with pytest.raises(ValueError) as caught:
        raise ValueError("\x1b[2J")
    log("an_event", exc_info=caught.value)
    assert "\x1b" not in TerminalFormatter().format(records[0])


def test_values_that_would_run_into_the_next_are_in_quotes(records):
    log("an_event", text="two words", empty="", equal="a=b", names=["a", "b"], plain="x")
    assert (
        TerminalFormatter()
        .format(records[0])
        .endswith("""an_event text="two words" empty= equal="a=b" names="['a', 'b']" plain=x""")
    )


CRASH = """
import sys, threading
from gateway.settings.logs import LogsSettings
from gateway.telemetry.logs import set_up_logs
set_up_logs(LogsSettings())
thread = threading.Thread(target=lambda: 1 / 0, name="worker")
thread.start()
thread.join()
import asyncio
async def main():
    task = asyncio.create_task(asyncio.sleep(0))
    task.add_done_callback(lambda _: 1 / 0)
    await task
    await asyncio.sleep(0)
asyncio.run(main())
raise RuntimeError("the end")
"""


def test_crashes_are_told_in_the_same_form():
    ended = subprocess.run([sys.executable, "-c", CRASH], capture_output=True, text=True, timeout=30, check=False)
    rows = [json.loads(line) for line in ended.stderr.splitlines()]
    assert ended.returncode == 1
    assert [(row["event"], row["level"]) for row in rows] == [
        ("thread_crashed", "error"),
        ("library_message", "error"),
        ("crashed", "error"),
    ]
    assert (rows[0]["thread"], rows[2]["problem"]) == ("worker", "RuntimeError")
    assert rows[2]["traceback"].endswith("RuntimeError: the end")
    assert "ZeroDivisionError" in rows[1]["traceback"]


def test_a_fault_names_the_model_that_was_chosen(records):
    log_request(decided_context(failure=UpstreamUnavailableError("phi can't be reached.", detail="refused")))
    assert (as_json(records[0])["event"], as_json(records[0])["model"]) == ("upstream_fault", "small")


def test_without_the_access_log_faults_are_told_and_nothing_else(records):
    log_faults(decided_context())
    log_faults(context(failure=UpstreamUnavailableError("phi can't be reached.", detail="refused")))
    assert [(row["event"], row["request_id"]) for row in map(as_json, records)] == [("upstream_fault", "req-1")]


def test_at_level_debug_every_decision_is_told(records):
    LOGGER.setLevel(logging.DEBUG)
    log_faults(decided_context(judgement=Judgement(0.25)))
    row = as_json(records[0])
    assert (row["event"], row["level"], row["request_id"], row["score"]) == ("decided", "debug", "req-1", 0.25)
    assert row["dropped"] == {}
