"""Tells when a configuration has changed: its file, or a file that its text takes a secret from."""

import stat
from pathlib import Path

from gateway.settings.interpolate import files_of

Mark = tuple[int, int, int] | None
"""What changes when a file does; None: there is none."""


class ConfigFiles:
    """The files of one configuration. A look costs a stat a file, 2 µs."""

    def __init__(self, config: Path | None) -> None:
        self._config = config
        self._config_mark: Mark = None
        self._others: set[Path] = set()

    def marks(self) -> tuple[Mark, ...] | None:
        """Return what changes when one of them does; None while there is no configuration file.

        A rotated secret is a change like any other, so that a key that is renewed on disk is taken over.
        """
        mark = mark_of(self._config)
        if self._config is None or mark is None:
            return None
        if mark != self._config_mark:
            self._config_mark = mark
            self._others = _secrets_of(self._config)
        return mark, *(mark_of(path) for path in sorted(self._others))


def mark_of(path: Path | None) -> Mark:
    """Return a file's mark; a mounted ConfigMap changes by its link's target, so links are followed.

    What is no file has none: who looked into a named pipe would wait for its next writer.
    """
    if path is None:
        return None
    try:
        found = path.stat()
    except (OSError, ValueError):  # ValueError: a name that no file can have
        return None
    return (found.st_mtime_ns, found.st_size, found.st_ino) if stat.S_ISREG(found.st_mode) else None


def _secrets_of(config: Path) -> set[Path]:
    try:
        return files_of(config.read_text(encoding="utf-8"), config.parent)
    except (OSError, ValueError):
        return set()
