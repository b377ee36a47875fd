"""The file of the learning log: whole lines, for one pair of eyes, bounded, whoever else writes to it or moves it."""

import errno
import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from gateway.telemetry import append_file
from gateway.telemetry.append_file import AppendFile

WRITER = """
import pathlib, sys
from gateway.telemetry.append_file import AppendFile
file = AppendFile(pathlib.Path(sys.argv[1]), int(sys.argv[2]))
for number in range(300):
    file.append(b"%s-%d " % (sys.argv[3].encode(), number) + b"x" * (number % 50) + b"\\n")
"""


@pytest.fixture
def path(tmp_path):
    return tmp_path / "learning.jsonl"


def make(path, max_bytes=1_000_000):
    return AppendFile(Path(path), max_bytes)


def test_lines_are_appended_for_the_owner_only(path):
    path.write_bytes(b"old\n")
    path.chmod(0o644)
    file = make(path)
    file.append(b"one\n")
    file.append(b"two\nthree\n")
    assert path.read_bytes() == b"old\none\ntwo\nthree\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_full_file_is_put_aside_and_only_one_such_is_kept(path):
    file = make(path, 10)
    for line in (b"1234567\n", b"abcdefg\n", b"ABCDEFG\n"):
        file.append(line)
    assert path.read_bytes() == b"ABCDEFG\n"
    assert path.with_name("learning.jsonl.1").read_bytes() == b"abcdefg\n"
    assert len(list(path.parent.iterdir())) == 2
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize("move", [Path.unlink, lambda path: path.rename(f"{path}.moved")])
def test_a_file_that_is_moved_away_is_made_anew(path, move):
    file = make(path)
    file.append(b"one\n")
    move(path)
    file.append(b"two\n")
    assert path.read_bytes() == b"two\n"
    file.close()
    file.close()
    file.append(b"three\n")
    assert path.read_bytes() == b"two\nthree\n"


def test_a_line_that_found_no_space_is_taken_back_whole(path, monkeypatch):
    file = make(path)
    file.append(b"one\n")
    write = os.write

    def half(fd, data):
        if len(data) < 5:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(fd, data[: len(data) // 2])

    monkeypatch.setattr(append_file.os, "write", half)
    with pytest.raises(OSError, match="No space"):
        file.append(b"a line that is too long\n")
    monkeypatch.undo()
    assert path.read_bytes() == b"one\n"
    file.append(b"two\n")
    assert path.read_bytes() == b"one\ntwo\n"


def test_what_is_no_regular_file_is_refused_at_once(path):
    os.mkfifo(path)
    with pytest.raises(OSError):
        make(path).append(b"one\n")
    with pytest.raises(OSError):
        make("/dev/null").append(b"one\n")
    with pytest.raises(OSError):
        make(path.parent / "nowhere" / "file").append(b"one\n")


def test_processes_write_whole_lines_each_in_its_own_order(path):
    command = [sys.executable, "-c", WRITER, str(path), "1000000"]
    writers = [subprocess.Popen([*command, name]) for name in "abc"]
    assert [writer.wait(60) for writer in writers] == [0, 0, 0]
    lines = [line.split()[0].split("-") for line in path.read_text().splitlines()]
    assert len(lines) == 900
    for name in "abc":
        assert [int(number) for own, number in lines if own == name] == list(range(300))


def test_no_line_is_torn_or_lost_where_many_turn_the_file_over(path):
    """Files that are turned over fall away; what is left must be whole lines, and the last of each writer there."""
    writers = [AppendFile(path, 4_000) for _ in range(4)]

    def write(name, file):
        for number in range(200):
            file.append(b"%s-%03d %s\n" % (name, number, b"x" * (number % 40)))

    threads = [threading.Thread(target=write, args=(b"%d" % name, file)) for name, file in enumerate(writers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    left = path.with_name("learning.jsonl.1").read_text() + path.read_text()
    for line in left.splitlines():
        head, _, rest = line.partition(" ")
        assert len(rest) == int(head.split("-")[1]) % 40
    assert path.stat().st_size <= 4_000
    assert any(line.split("-")[1].startswith("199") for line in left.splitlines())
