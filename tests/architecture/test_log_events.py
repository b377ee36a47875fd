"""Every event that is logged stands in docs/logs.md with its level and fields, and names its request if it has one."""

import ast
import re
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs" / "logs.md"
ROW = re.compile(
    r"^\| `(?P<event>\w+)` \| (?P<levels>[a-z, ]+) \|(?P<fields>[^|]*)\| (?P<why>[^|]+) \|$",
    re.MULTILINE,
)
ELSEWHERE = {
    "library_message": ({"warning", "error"}, {"logger", "message"}),
    "log_rows_dropped": ({"warning"}, {"count"}),
    "request": ({"info"}, None),
}
"""Logged without `log`: by the handler, by libraries, and the access log, whose fields a table of its own tells."""
OF_NO_REQUEST = {
    "classifier_unavailable", "crashed", "events_suppressed", "judgement_failed", "learning_log_failed",
    "library_message", "log_rows_dropped", "onnx_worker_ended", "onnx_worker_hangs", "parent_died", "reload_refused",
    "reloaded", "replica_not_ready", "replica_ready", "restart_needed", "router_refused", "router_swapped", "serving",
    "simulated_fleet", "stopped", "stopping", "stopping_workers", "store_answers", "store_failing", "thread_crashed",
    "tracing_failing", "tracing_recovered", "tracing_unavailable", "worker_died",
}  # fmt: skip
"""Events of the process, not of one request. `judgement_failed`: routers judge conversations, whoever asks."""
WITHOUT_ID = {
    ("gateway/api/connection.py", "a parser's fault: no request has been read"),
    ("gateway/app.py", "the tending of shares"),
    ("gateway/backends/resilience.py", "the closing of replicas"),
    ("gateway/backends/watch.py", "the looking after replicas"),
}
"""Where `log_failure` may be called without a request's id, and why."""


@dataclass
class Logged:
    """An event as the code logs it."""

    levels: set
    fields: set


def calls(name):
    """Every call of a function by this name: its file and its node."""
    for path in sorted((ROOT / "gateway").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == name:
                yield path.relative_to(ROOT).as_posix(), node


def logged():
    """Every event by its name."""
    found = {}
    for path, call in calls("log"):
        event = call.args[0]
        assert isinstance(event, ast.Constant), f"{path}:{call.lineno}: an event's name is written out"
        one = found.setdefault(event.value, Logged(set(), set()))
        given = {keyword.arg: keyword.value for keyword in call.keywords}
        level = given.pop("level", None)
        one.levels.add("info" if level is None else level.attr.lower())
        one.fields |= {"traceback"} if given.pop("exc_info", None) is not None else set()
        if None in given:  # `**where` of log_failure
            del given[None]
            one.fields |= {"request_id", "model"}
        one.fields |= set(given)
    for event, (levels, fields) in ELSEWHERE.items():
        one = found.setdefault(event, Logged(set(), set()))
        one.levels |= levels
        one.fields |= fields or set()
    return found


def documented():
    return {row["event"]: row for row in ROW.finditer(DOCS.read_text())}


EVENTS = logged()


def test_every_event_is_documented_and_no_other():
    assert set(documented()) == set(EVENTS)


@pytest.mark.parametrize("event", EVENTS)
def test_its_level_and_its_fields_are_what_is_logged(event):
    row = documented()[event]
    assert set(row["levels"].split(", ")) == EVENTS[event].levels
    if event != "request":
        assert set(re.findall(r"`(\w+)`", row["fields"])) == EVENTS[event].fields


@pytest.mark.parametrize("event", sorted(set(EVENTS) - {"request"}))
def test_an_event_of_a_request_names_it(event):
    assert ("request_id" in EVENTS[event].fields) is (event not in OF_NO_REQUEST)


def test_a_failure_is_logged_with_its_requests_id():
    without = {
        path for path, call in calls("log_failure") if not any(keyword.arg == "request_id" for keyword in call.keywords)
    }
    assert without == {path for path, _ in WITHOUT_ID}


def test_every_field_of_the_access_log_is_documented():
    tree = ast.parse((ROOT / "gateway" / "telemetry" / "access_log.py").read_text())
    rows = [node for node in tree.body if isinstance(node, ast.ClassDef) and node.name in ("_Row", "_TracedRow")]
    fields = [node.target.id for row in rows for node in row.body if isinstance(node, ast.AnnAssign)]
    table = DOCS.read_text().partition("## The access log")[2].partition("\n## ")[0]
    told = [name for names in re.findall(r"^\| (`.*?`) \|", table, re.MULTILINE) for name in re.findall(r"\w+", names)]
    assert told == fields[3:]
