"""Writes log lines to a stream: rows of requests gather, events go out at once and never overtake a row.

Through `logging`, and written one by one, a row takes 18 µs on a file and 23 on a pipe; here 5. A reader that is stuck
must not hold the event loop: what can't be written waits, bounded, and what finds no room is dropped and counted.
"""

import asyncio
import logging
import os
import select
import stat
import time
from typing import Final, TextIO

FIELDS: Final = "postern_fields"
"""The attribute of a log record that holds an event's fields."""

HOLD_S = 0.05
"""How long a row waits for others at most. A process that is killed outright loses as much."""
BATCH_BYTES = 65_536
"""Bytes that are written without waiting any longer."""
MAX_HELD_BYTES = 4_194_304
"""Bytes that wait for a stuck reader: some 8,000 rows."""
CLOSE_S = 1.0
"""How long a stuck reader may hold up the end of the process."""


class LogWriter(logging.Handler):
    """A handler for one stream.

    Lines of several processes never mix: a file takes a batch in one write, of which the kernel makes one piece; what
    is no file gets whole lines of PIPE_BUF bytes together at most, which POSIX promises not to interleave, and gets
    them when it has room. A longer line, as of a traceback, may be cut by others', and may wait for the reader.
    """

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self._stream = stream
        self._fd = _descriptor_of(stream)
        self._is_file = self._fd is not None and stat.S_ISREG(os.fstat(self._fd).st_mode)
        self._poll = select.poll()
        if self._fd is not None:
            self._poll.register(self._fd, select.POLLOUT)
        self._lines: list[bytes] = []
        self._held_bytes = 0
        self._dropped = 0
        self._is_torn = False
        self._timer: asyncio.TimerHandle | None = None
        self._second = -1
        self._stamp = ""
        self._millis = tuple(f".{number:03d}Z" for number in range(1000))

    def stamp(self) -> str:
        """Return the time now as log lines tell it. The text of a second is made once: formatting takes 2 µs."""
        now_s = time.time()
        second = int(now_s)
        if second != self._second:
            self._second, self._stamp = second, time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        return self._stamp + self._millis[int((now_s - second) * 1000)]

    def emit(self, record: logging.LogRecord) -> None:
        """Write an event, and every row before it."""
        try:
            self._take(self._line_of(record))
        except Exception:  # noqa: BLE001 - logging's own rule: a line that can't be made is told, and raises nothing
            self.handleError(record)
        self.flush()

    def put(self, line: bytes) -> None:
        """Take a row, a whole line, to be written soon: at once where no event loop runs that could do it later."""
        self._take(line)
        if self._held_bytes >= BATCH_BYTES:
            self.flush()
        elif self._timer is None:
            self._set_timer()

    def _take(self, line: bytes) -> None:
        if self._held_bytes + len(line) > MAX_HELD_BYTES:
            self._dropped += 1
            return
        self._lines.append(line)
        self._held_bytes += len(line)

    def _set_timer(self) -> None:
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self.flush()
        else:
            self._timer = loop.call_later(HOLD_S, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self.flush()
        if self._lines:
            self._set_timer()

    def flush(self) -> None:
        """Write what the stream has room for."""
        self._write_lines(patience_s=0.0)

    def close(self) -> None:
        """Write what is left, for CLOSE_S at most."""
        self._write_lines(patience_s=CLOSE_S)
        super().close()

    def _write_lines(self, patience_s: float) -> None:
        self.acquire()
        try:
            while self._lines and self._has_room(patience_s):
                count = len(self._lines) if self._is_file else self._count_fitting()
                piece = b"".join(self._lines[:count])
                del self._lines[:count]  # of the same list: the event loop may be adding to its end
                self._write_or_drop(piece, count)
            if not self._lines:
                self._held_bytes = 0
        finally:
            self.release()

    def _has_room(self, patience_s: float) -> bool:
        # A stream whose reader has gone says so here as well: the write then fails, and does not wait.
        return self._is_file or self._fd is None or bool(self._poll.poll(patience_s * 1000))

    def _count_fitting(self) -> int:
        """Return how many lines fit into one write that others' lines can't come into; at least one."""
        size = count = 0
        for line in self._lines:
            size += len(line)
            if count and size > select.PIPE_BUF:
                break
            count += 1
        return count

    def _write_or_drop(self, piece: bytes, count: int) -> None:
        """Write a piece. What can't be written (no reader, no space) is dropped: nobody can be told of it now."""
        self._held_bytes -= len(piece)
        try:
            self._write(b"\n" + piece if self._is_torn else piece)
        except (OSError, ValueError):  # ValueError: a stream that was closed
            self._dropped += count
            return
        self._is_torn = False
        if self._dropped:
            fields = {"name": "postern", "levelno": logging.WARNING, "levelname": "WARNING"}
            told = {"msg": "log_rows_dropped", FIELDS: {"count": self._dropped}}
            self._dropped = 0
            self._take(self._line_of(logging.makeLogRecord(fields | told)))

    def _write(self, piece: bytes) -> None:
        if self._fd is None:  # as test runners put there
            self._stream.write(piece.decode())
            self._stream.flush()
            return
        left = memoryview(piece)
        while left:
            left = left[os.write(self._fd, left) :]
            self._is_torn = bool(left)

    def _line_of(self, record: logging.LogRecord) -> bytes:
        return self.format(record).encode(errors="backslashreplace") + b"\n"


def _descriptor_of(stream: TextIO) -> int | None:
    try:
        return stream.fileno()
    except (OSError, ValueError):
        return None
