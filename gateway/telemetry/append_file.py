"""A bounded file that several processes append whole lines to. Blocks: for a thread that may wait."""

import errno
import fcntl
import os
import stat
from contextlib import suppress
from pathlib import Path

MODE = 0o600


class AppendFile:
    """Lines of all processes go to one file; a full one is renamed to `PATH.1`, in place of the last such.

    Under a lock, so that nobody writes into a file that another has just renamed, and so that a line that found no
    space is taken back whole. A file that was moved away (logrotate) is made anew.
    """

    def __init__(self, path: Path, max_bytes: int) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._fd: int | None = None

    def append(self, lines: bytes) -> None:
        """Append whole lines, or nothing. Raises OSError."""
        fd = self._lock()
        try:
            size = os.fstat(fd).st_size
            if size and size + len(lines) > self._max_bytes:
                self._path.replace(self._path.with_name(self._path.name + ".1"))
                _unlock(fd)
                fd = self._lock()
                size = os.fstat(fd).st_size
            _write(fd, lines, size)
        finally:
            _unlock(fd)

    def _lock(self) -> int:
        """Return the file that the path names now, locked."""
        while True:
            fd = self._fd if self._fd is not None else self._open()
            fcntl.flock(fd, fcntl.LOCK_EX)
            if _is_at(self._path, fd):
                return fd
            self.close()

    def _open(self) -> int:
        # O_NONBLOCK: a path that names a pipe without a reader must fail, not hang.
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK
        fd = os.open(self._path, flags, MODE)
        try:
            _make_private(fd)
        except OSError:
            os.close(fd)
            raise
        self._fd = fd
        return fd

    def close(self) -> None:
        """Close the file; the next line opens it again."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


def _make_private(fd: int) -> None:
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        raise OSError(errno.EINVAL, "is no regular file")
    os.fchmod(fd, MODE)  # one that was there before may have been open to others


def _write(fd: int, lines: bytes, size: int) -> None:
    """Write all, or take back what was written of it."""
    try:
        left = memoryview(lines)
        while left:
            left = left[os.write(fd, left) :]
    except OSError:
        with suppress(OSError):
            os.ftruncate(fd, size)
        raise


def _unlock(fd: int) -> None:
    with suppress(OSError):  # closed in between: closing unlocks
        fcntl.flock(fd, fcntl.LOCK_UN)


def _is_at(path: Path, fd: int) -> bool:
    try:
        found, own = path.stat(), os.fstat(fd)
    except FileNotFoundError:
        return False
    return (found.st_dev, found.st_ino) == (own.st_dev, own.st_ino)
