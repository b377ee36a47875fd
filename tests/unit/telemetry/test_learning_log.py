"""The learning log: what is written of a request and of a mark, what never is, and what a slow or full disk costs."""

import json
import logging
import threading

import msgspec
import pytest

from gateway.core.context import Caller, Usage
from gateway.core.errors import UpstreamUnavailableError
from gateway.core.judgement import Judgement
from gateway.core.personal import PersonalKind
from gateway.schema.request import Operation
from gateway.settings.feedback import LearningLogSettings
from gateway.telemetry import learning_log
from gateway.telemetry.learning_log import LearningLog, tenant_digest
from tests.builders import decided_context, ladder, request

JUDGED = Judgement(0.2, weak_chance=0.6, strong_chance=0.9, domain="code")


class Desk:
    def __init__(self, path, monkeypatch):
        self.path, self.counts, self.logged = path, [], []
        monkeypatch.setattr(learning_log, "log", lambda event, **fields: self.logged.append((event, fields)))

    def open(self, is_personal=None, path=None):
        settings = LearningLogSettings(path=str(path or self.path))
        return LearningLog(settings, self.counts.append, is_personal)

    def rows(self):
        return [json.loads(line) for line in self.path.read_text(encoding="utf-8").splitlines()]


@pytest.fixture
def desk(tmp_path, monkeypatch):
    return Desk(tmp_path / "learning.jsonl", monkeypatch)


def finished(asked=None, **facts):
    known = {"model": "small", "router": "default", "judgement": JUDGED, "usage": Usage(10, 5)}
    return decided_context(**{**known, "request": asked or request(), **facts})


def test_a_request_and_its_mark_are_two_rows_that_share_an_id(desk):
    log = desk.open()
    log.record(finished())
    log.mark("client:me", "req-1", 0.8)
    log.close()
    asked, marked = desk.rows()
    assert asked.pop("time") == pytest.approx(marked.pop("time"), abs=60)
    assert asked == {
        "kind": "request",
        "tenant": tenant_digest("client:me"),
        "request_id": "req-1",
        "route": "auto",
        "router": "default",
        "score": 0.2,
        "weak_chance": 0.6,
        "strong_chance": 0.9,
        "domain": "code",
        "threshold": 0.5,
        "model": "small",
        "tier": "weak",
        "prompt_tokens": 10,
        "completion_tokens": 5,
        "messages": [{"role": "user", "content": "Hello there"}],
    }
    assert marked == {"kind": "feedback", "tenant": asked["tenant"], "request_id": "req-1", "mark": 0.8}
    assert desk.counts == ["written"] * 2


def test_a_row_is_one_line_of_utf8_whatever_the_body_was(desk):
    body = '{"model": "auto",\n "messages": [\n {"role": "user",\r\n "content": "zwei\\nZeilen é 😀"}]}'
    log = desk.open()
    log.record(
        finished(msgspec.structs.replace(request(), fields=msgspec.json.decode(body, type=dict[str, msgspec.Raw])))
    )
    log.close()
    [row] = desk.rows()
    assert row["messages"][0]["content"] == "zwei\nZeilen é 😀"


def test_tools_count_and_so_does_the_prompt_of_a_completion(desk):
    tools = [{"type": "function", "function": {"name": "look_up"}}]
    log = desk.open()
    log.record(finished(request(tools=tools)))
    log.record(finished(request(Operation.COMPLETION, prompt="Once upon")))
    log.close()
    chat, completion = desk.rows()
    assert chat["tools"] == tools
    assert (completion["prompt"], "messages" in completion) == ("Once upon", False)


@pytest.mark.parametrize(
    ("asked", "facts"),
    [
        (None, {"failure": UpstreamUnavailableError("away")}),
        (None, {"is_cancelled": True}),
        (None, {"ladder": None}),
        (None, {"ladder": msgspec.structs.replace(ladder("small"), is_pinned=True)}),
        (request(Operation.EMBEDDING), {}),
        (request(Operation.COMPLETION, prompt=["two", "prompts"]), {}),
        (request(Operation.COMPLETION, prompt=[1, 2, 3]), {}),
    ],
)
def test_what_nothing_can_be_learned_from_is_left_out(desk, asked, facts):
    log = desk.open()
    log.record(finished(asked, **facts))
    log.close()
    assert (desk.rows(), desk.counts) == ([], [])


def test_neither_key_nor_name_of_the_caller_is_written(desk):
    log = desk.open()
    log.record(finished(caller=Caller("alice", "client:alice")))
    log.record(finished(caller=None, judgement=None, usage=None, router=None))
    log.close()
    assert "alice" not in desk.path.read_text()
    first, second = desk.rows()
    assert first["tenant"] != second["tenant"]
    assert "score" not in second


def test_a_prompt_with_personal_data_is_not_written(desk):
    log = desk.open(is_personal=lambda asked: b"iban" in bytes(asked.fields["messages"]))
    for content in ("my iban is", "hello"):
        log.record(finished(request(messages=[{"role": "user", "content": content}])))
    log.mark("client:me", "req-1", 1.0)
    log.close()
    assert [row.get("messages", [{}])[0].get("content") for row in desk.rows()] == ["hello", None]
    assert desk.counts == ["personal", "written", "written"]


def test_a_prompt_that_the_walk_found_personal_is_not_written_unless_all_are(desk):
    for is_personal in (lambda *_: False, None):
        log = desk.open(is_personal)
        log.record(finished(personal=frozenset({PersonalKind.UNREAD})))
        log.close()
    assert (len(desk.rows()), desk.counts) == (1, ["personal", "written"])


def test_a_detector_that_fails_writes_nothing(desk):
    log = desk.open(is_personal=lambda *_: 1 / 0)
    log.record(finished())
    log.record(finished())
    log.close()
    assert (desk.rows(), desk.counts) == ([], ["unreadable"] * 2)
    assert len(desk.logged) == 1
    assert "Hello" not in str(desk.logged)


def test_a_request_that_is_too_long_is_counted_and_not_kept(desk):
    log = desk.open()
    log.record(finished(request(messages=[{"role": "user", "content": "x" * 300_000}])))
    log.close()
    assert (desk.rows(), desk.counts) == ([], ["too_long"])


def test_what_the_thread_cannot_keep_up_with_is_dropped_and_counted(desk, monkeypatch):
    monkeypatch.setattr(learning_log, "MAX_WAITING", 2)
    gate, began = threading.Event(), threading.Event()

    def wait(*_):
        began.set()
        gate.wait(5)
        return False

    log = desk.open(is_personal=wait)
    log.record(finished())
    began.wait(5)
    for _ in range(5):
        log.record(finished())
    assert desk.counts == ["full"] * 3
    gate.set()
    log.close()
    assert len(desk.rows()) == 3


def test_a_file_that_cannot_be_written_is_told_once_and_its_rows_are_counted(desk, tmp_path):
    log = desk.open(path=tmp_path / "nowhere" / "file")
    for _ in range(3):
        log.record(finished())
    log.close()
    assert desk.counts == ["failed"] * 3
    assert desk.logged == [
        ("learning_log_failed", {"level": logging.ERROR, "outcome": "failed", "problem": "No such file or directory"})
    ]


def test_a_file_that_cannot_be_written_for_a_while_goes_on_afterwards(desk, tmp_path):
    folder = tmp_path / "later"
    log = desk.open(path=folder / "file")
    log.record(finished())
    while desk.counts != ["failed"]:
        threading.Event().wait(0.01)
    folder.mkdir()
    log.record(finished())
    log.close()
    assert desk.counts == ["failed", "written"]


def test_many_rows_are_all_written_in_their_order(desk, monkeypatch):
    monkeypatch.setattr(learning_log, "MAX_BATCH_BYTES", 1_000)
    monkeypatch.setattr(learning_log, "MAX_WAITING", 1_000)
    log = desk.open()
    for number in range(500):
        log.mark("client:me", f"req-{number}", 1.0)
    log.close()
    assert [row["request_id"] for row in desk.rows()] == [f"req-{number}" for number in range(500)]


def test_a_thread_that_hangs_does_not_keep_the_process(desk, monkeypatch):
    monkeypatch.setattr(learning_log, "CLOSE_S", 0.05)
    monkeypatch.setattr(learning_log, "MAX_WAITING", 1)
    gate, began = threading.Event(), threading.Event()

    def wait(*_):
        began.set()
        gate.wait(5)
        return False

    log = desk.open(is_personal=wait)
    log.record(finished())
    began.wait(5)
    log.record(finished())
    log.close()
    assert log._thread.daemon
    gate.set()
