"""The log's writer: rows gather, nothing overtakes, nobody waits for a stuck reader, and what is lost is counted."""

import asyncio
import errno
import json
import logging
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gateway.core.context import Bill, CacheOutcome, Reason, Usage
from gateway.core.errors import UpstreamUnavailableError
from gateway.core.judgement import Judgement
from gateway.telemetry import log_writer
from gateway.telemetry.access_log import log_request
from gateway.telemetry.log_writer import BATCH_BYTES, HOLD_S, MAX_HELD_BYTES, LogWriter
from gateway.telemetry.logs import LOGGER, JsonFormatter, TerminalFormatter
from tests.builders import context, decided_context

LINE = b"x" * 499 + b"\n"


@pytest.fixture
def make():
    made = []

    def make(stream, formatter=None):
        writer = LogWriter(stream)
        writer.setFormatter(formatter or JsonFormatter())
        made.append(writer)
        return writer

    yield make
    for writer in made:
        logging.Handler.close(writer)


@pytest.fixture
def file(tmp_path):
    with (tmp_path / "log.jsonl").open("a+") as found:
        yield found


@pytest.fixture
def pipe():
    """A pipe's reading descriptor, and its writing end as a stream."""
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    with os.fdopen(writer, "w") as stream:
        yield reader, stream
    os.close(reader)


@pytest.fixture
def logger(monkeypatch):
    """Postern's logger, for one handler."""

    def use(handler):
        monkeypatch.setattr(LOGGER, "handlers", [handler])

    monkeypatch.setattr(LOGGER, "propagate", False)
    before = LOGGER.level
    LOGGER.setLevel(logging.INFO)
    yield use
    LOGGER.setLevel(before)


def read(file):
    return Path(file.name).read_bytes()


def read_all(reader):
    found = b""
    try:
        while block := os.read(reader, 1 << 20):
            found += block
    except BlockingIOError:
        pass
    return found


def event(name="an_event", **fields):
    return logging.makeLogRecord({"msg": name, "levelname": "WARNING", log_writer.FIELDS: fields})


async def test_rows_gather_and_are_written_together_soon(make, file, monkeypatch):
    writes, write = [], os.write
    monkeypatch.setattr(os, "write", lambda fd, data: writes.append(1) or write(fd, data))
    writer = make(file)
    for number in range(10):
        writer.put(b"%d\n" % number)
    assert read(file) == b""
    await asyncio.sleep(HOLD_S * 2)
    assert read(file) == b"".join(b"%d\n" % number for number in range(10))
    assert len(writes) == 1
    writer.put(b"later\n")
    await asyncio.sleep(HOLD_S * 2)
    assert read(file).endswith(b"later\n")


async def test_a_full_batch_does_not_wait(make, file):
    writer = make(file)
    for _ in range(BATCH_BYTES // len(LINE) + 1):
        writer.put(LINE)
    assert len(read(file)) >= BATCH_BYTES


def test_where_no_loop_runs_a_row_is_written_at_once(make, file):
    writer = make(file)
    writer.put(b"one\n")
    assert read(file) == b"one\n"


async def test_an_event_is_written_at_once_and_after_the_rows_before_it(make, file):
    writer = make(file)
    writer.put(b'{"event":"row"}\n')
    writer.handle(event())
    writer.put(b'{"event":"later"}\n')
    assert [json.loads(line)["event"] for line in read(file).splitlines()] == ["row", "an_event"]


async def test_an_event_from_another_thread_is_written_at_once_too(make, file):
    writer = make(file)
    writer.put(b'{"event":"row"}\n')
    await asyncio.to_thread(writer.handle, event())
    assert len(read(file).splitlines()) == 2


async def test_a_stuck_reader_holds_up_nobody_and_learns_what_it_missed(make, pipe):
    reader, stream = pipe
    writer = make(stream)
    count = 3 * MAX_HELD_BYTES // 500
    begun_s = time.monotonic()
    for number in range(count):
        writer.put(b"%-499d\n" % number)
        if number % 1000 == 0:
            writer.handle(event(number=number))
            await asyncio.sleep(0)
    assert time.monotonic() - begun_s < 5
    assert writer._held_bytes <= MAX_HELD_BYTES
    found = b""
    while writer._lines:
        found += read_all(reader)
        writer.flush()
    found += read_all(reader)
    lines = found.splitlines()
    events = [json.loads(line) for line in lines if line.startswith(b"{")]
    numbers = [int(line) for line in lines if not line.startswith(b"{")]
    assert numbers == sorted(numbers)
    assert events[-1]["event"] == "log_rows_dropped"
    assert events[-1]["level"] == "warning"
    assert len(lines) - 1 + events[-1]["count"] == count + len(range(0, count, 1000))
    assert writer._held_bytes == 0


async def test_a_reader_that_comes_back_gets_the_rest_without_another_row(make, pipe):
    reader, stream = pipe
    writer = make(stream)
    for _ in range(400):
        writer.put(LINE)
    await asyncio.sleep(HOLD_S * 2)
    assert writer._lines
    found = b""
    async with asyncio.timeout(5):
        while len(found) < 400 * len(LINE):
            found += read_all(reader)
            await asyncio.sleep(0.01)
    assert found == LINE * 400


async def test_ten_thousand_rows_for_a_reader_that_has_gone_are_dropped_in_peace(make):
    reader, end = os.pipe()
    with os.fdopen(end, "w") as stream:
        writer = make(stream)
        os.close(reader)
        for _ in range(10_000):
            writer.put(LINE)
        writer.handle(event())
        await asyncio.sleep(HOLD_S * 2)
        assert (writer._dropped, writer._lines, writer._held_bytes) == (10_001, [], 0)


def test_a_full_disk_loses_rows_never_the_line_after_them(make, file, monkeypatch):
    writer, write = make(file), os.write
    left = [5]

    def until_full(fd, data):
        if not left[0]:
            raise OSError(errno.ENOSPC, "No space left on device")
        written = write(fd, bytes(data)[: left[0]])
        left[0] -= written
        return written

    monkeypatch.setattr(os, "write", until_full)
    writer.put(b"first line\n")
    writer.put(b"second line\n")
    assert read(file) == b"first"
    monkeypatch.setattr(os, "write", write)
    writer.put(b'{"event":"third"}\n')
    torn, third, told = read(file).splitlines()
    assert (torn, json.loads(third)["event"]) == (b"first", "third")
    assert (json.loads(told)["event"], json.loads(told)["count"]) == ("log_rows_dropped", 2)


def test_a_line_longer_than_a_pipes_piece_is_written_whole(make, pipe):
    reader, stream = pipe
    writer = make(stream)
    writer.handle(event(text="y" * 10_000))
    assert len(json.loads(read_all(reader))["text"]) == 10_000


def test_a_closed_stream_harms_nobody(make, file):
    writer = make(file)
    file.close()
    writer.put(b"one\n")
    assert writer._dropped == 1


def test_an_event_that_cannot_be_told_raises_nothing(make, file, monkeypatch):
    monkeypatch.setattr(logging, "raiseExceptions", False)
    writer = make(file, logging.Formatter("%(nothing)s"))
    writer.handle(event())
    assert read(file) == b""


CONTEXTS = {
    "answered": decided_context(
        model="small",
        reason=Reason.SCORE,
        judgement=Judgement(0.123456),
        cache_outcome=CacheOutcome.MISS,
        usage=Usage(10, 5),
        bill=Bill(0.001, 0.01),
        attempts=1,
        first_token_s=0.25,
    ),
    "refused": context(),
    "failed": decided_context(failure=UpstreamUnavailableError("away")),
}


@pytest.mark.parametrize("formatter", [JsonFormatter(), TerminalFormatter()], ids=["json", "terminal"])
@pytest.mark.parametrize("ctx", CONTEXTS.values(), ids=CONTEXTS)
def test_a_row_reads_like_any_event_with_its_fields(make, file, logger, formatter, ctx, monkeypatch):
    monkeypatch.setattr(time, "time", lambda: 1_700_000_000.25)
    monkeypatch.setattr(ctx.stopwatch, "_clock", lambda: ctx.stopwatch.started_s + 0.0015)
    logger(make(file, formatter))
    log_request(ctx)
    [row] = read(file).decode().splitlines()
    records = []
    collector = logging.Handler()
    collector.emit = records.append
    logger(collector)
    log_request(ctx)
    assert row == formatter.format(records[-1])


@pytest.mark.parametrize("seconds", [0.0, 1e-7, 0.0123456, 1.0005, 12.3456789, 3600.0])
def test_milliseconds_are_told_to_the_nearest_microsecond(make, file, logger, seconds):
    logger(make(file))
    log_request(decided_context(first_token_s=seconds))
    assert json.loads(read(file))["ttft_ms"] == pytest.approx(seconds * 1000, abs=0.00051)


def test_the_time_of_a_row_is_its_own(make, file, monkeypatch):
    writer = make(file)
    for now_s, told in [
        (0.0, "1970-01-01T00:00:00.000Z"),
        (0.9999, "1970-01-01T00:00:00.999Z"),
        (61.5, "1970-01-01T00:01:01.500Z"),
    ]:
        monkeypatch.setattr(time, "time", lambda now_s=now_s: now_s)
        assert writer.stamp() == told


def test_no_row_is_made_where_nobody_wants_it(make, file, logger):
    logger(make(file))
    LOGGER.setLevel(logging.WARNING)
    log_request(decided_context())
    assert read(file) == b""


PUT = """
import asyncio, os, sys, time
from gateway.telemetry.access_log import log_request
from gateway.telemetry.logs import log, set_up_logs
from tests.builders import decided_context
set_up_logs()
ctx = decided_context()
async def main(count):
    for number in range(count):
        log_request(ctx)
        if number % 7 == 0:
            log("an_event", text="e" * number)
            await asyncio.sleep(0)
"""


def run(code, **how):
    return subprocess.Popen([sys.executable, "-c", PUT + code], **how)


@pytest.mark.parametrize(
    "ending", ["", "sys.exit(3)", "1 / 0", "import os, signal; os.kill(os.getpid(), signal.SIGINT); time.sleep(5)"]
)
def test_a_process_that_ends_has_written_every_row(ending):
    ended = run(f"asyncio.run(main(500)); {ending}", stderr=subprocess.PIPE)
    lines = ended.communicate(timeout=20)[1].splitlines()
    assert sum(b'"request"' in line for line in lines) == 500
    assert sum(b'"an_event"' in line for line in lines) == 72


def test_a_stuck_reader_does_not_keep_a_process_from_ending():
    reader, writer = os.pipe()
    ended = run("asyncio.run(main(2000))", stderr=writer)
    os.close(writer)
    begun_s = time.monotonic()
    assert ended.wait(timeout=20) == 0
    assert time.monotonic() - begun_s < 10
    os.close(reader)


@pytest.mark.parametrize("kind", ["pipe", "file", "appended"])
def test_lines_of_several_processes_never_mix(kind, tmp_path):
    path = tmp_path / "log.jsonl"
    if kind == "pipe":
        reader, writer = os.pipe()
    else:
        writer = os.open(path, os.O_WRONLY | os.O_CREAT | (os.O_APPEND if kind == "appended" else 0))
    writers = [run("asyncio.run(main(700))", stderr=writer) for _ in range(2)]
    os.close(writer)
    if kind == "pipe":
        with os.fdopen(reader, "rb") as stream:
            lines = stream.read().splitlines()
    codes = [one.wait(timeout=20) for one in writers]
    if kind != "pipe":
        lines = path.read_bytes().splitlines()
    assert codes == [0, 0]
    rows = [json.loads(line) for line in lines]
    assert sum(row["event"] == "request" for row in rows) == 1400
    assert sum(row["event"] == "an_event" for row in rows) == 200


SPAWN = """
def work():
    asyncio.run(main(50))

if __name__ == "__main__":
    import multiprocessing
    multiprocessing.get_context("spawn").Process(target=work).start()
"""


def test_a_worker_writes_its_rows_at_its_end(tmp_path):
    """Workers are spawned by multiprocessing, which has an ending of its own."""
    module = tmp_path / "spawned_worker.py"
    module.write_text(PUT + SPAWN)
    path = os.pathsep.join([str(Path.cwd()), str(tmp_path)])
    ended = subprocess.run(
        [sys.executable, str(module)],
        capture_output=True,
        timeout=20,
        check=True,
        env={**os.environ, "PYTHONPATH": path},
    )
    assert ended.stderr.count(b'"request"') == 50
