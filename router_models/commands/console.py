"""What the training commands share on the console: how they refuse, show progress and write files whole."""

import os
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import click

T = TypeVar("T")


class Refusal(click.ClickException):  # what the user meets is a refusal
    """What was asked can't be done; the message says what to do. Exit code 2."""

    exit_code = 2

    def show(self, file: Any = None) -> None:
        """Print the message alone: no usage, no traceback."""
        click.echo(self.message, file=file, err=file is None)


@contextmanager
def refusing(*errors: type[Exception]) -> Iterator[None]:
    """Turn errors that carry a message for the user into refusals."""
    try:
        yield
    except errors as error:
        raise Refusal(str(error)) from error


def check_writable(folder: Path) -> None:
    """Refuse a folder that can't be written to before minutes are spent on what goes there."""
    nearest = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
        raise Refusal(f"--out {folder}: {nearest} can't be written to")


def progress(rows: Iterable[T], label: str, length: int | None = None) -> Iterator[T]:
    """Yield the rows behind a progress bar on standard error, which a pipe or a file never sees."""
    with click.progressbar(
        rows, length=length, label=label, file=sys.stderr, hidden=not sys.stderr.isatty(), update_min_steps=50
    ) as bar:
        yield from bar


def say(line: str) -> None:
    """Tell something beside the result, on standard error."""
    click.echo(line, err=True)


def write_whole(path: Path, data: bytes) -> None:
    """Write a file whole or not at all: an interruption leaves the old one as it was."""
    write_folder(path.parent, {path.name: data})


def write_folder(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write files beside their places first, then move each into place, in order."""
    folder.mkdir(parents=True, exist_ok=True)
    partial: dict[str, Path] = {}
    try:
        for name, data in files.items():
            handle, made = tempfile.mkstemp(prefix=f".{name}.", dir=folder)
            partial[name] = Path(made)
            with os.fdopen(handle, "wb") as file:
                file.write(data)
            partial[name].chmod(0o644)
        for name, path in partial.items():
            path.replace(folder / name)
    except BaseException:
        for path in partial.values():
            path.unlink(missing_ok=True)
        raise
