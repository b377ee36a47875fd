"""`${NAME}` and `${file:PATH}` inside texts. Knows nothing of the keys the texts stand at."""

import re
from collections.abc import Mapping
from pathlib import Path

_REFERENCE = re.compile(r"\$\$|\$\{(?P<target>[^{}]*)\}|\$\{")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_FILE = "file:"
_MAX_FILE_BYTES = 65_536  # secrets are small: a wrong path (a device, a log) must not fill the memory


class UnresolvedError(Exception):
    """Tell what a reference lacks and what to do about it; its value is never part of it."""

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(problem)
        self.problem = problem
        self.remedy = remedy


class Interpolation:
    """Fill in references from `environ`, and from files, whose relative paths start at `folder`."""

    def __init__(self, environ: Mapping[str, str], folder: Path) -> None:
        self._environ = environ
        self._folder = folder

    def fill(self, text: str) -> str:
        """Return `text` with every reference replaced and `$$` as a dollar; raise UnresolvedError at the first bad one.

        What is filled in is not looked at again: a secret may hold a dollar.
        """
        return _REFERENCE.sub(self._resolve, text)

    def locate(self, name: str) -> str:
        """Return a path as seen from here; a relative one starts at the configuration's folder, `~` at home.

        Raises UnresolvedError for the home of someone unknown here.
        """
        try:
            return str(self._folder / Path(name).expanduser())
        except RuntimeError:
            raise UnresolvedError("starts at a home that is not known here", "write the path without ~") from None

    def _resolve(self, match: re.Match[str]) -> str:
        target = match["target"]
        if match[0] == "$$":
            return "$"
        if target is not None and target.startswith(_FILE) and target != _FILE:
            return self._read(target.removeprefix(_FILE))
        if target is not None and _NAME.fullmatch(target):
            return self._look_up(target)
        raise UnresolvedError("has a malformed ${…}", "write ${NAME} or ${file:PATH}, and $$ for a dollar")

    def _look_up(self, name: str) -> str:
        try:
            return self._environ[name]
        except KeyError:
            raise UnresolvedError(
                f"the environment variable {name} is not set", f"set {name}, or write $$ for a dollar"
            ) from None

    def _read(self, name: str) -> str:
        try:
            with (self._folder / name).open("rb") as file:
                content = file.read(_MAX_FILE_BYTES + 1)
            text = content.decode()
        except OSError as error:
            reason = error.strerror or "it cannot be read"
        except ValueError:  # not UTF-8, or a NUL in the path
            reason = "it is not UTF-8 text"
        else:
            if len(content) <= _MAX_FILE_BYTES:
                return text.rstrip("\r\n")
            reason = f"it is larger than {_MAX_FILE_BYTES} bytes"
        raise UnresolvedError(
            f"the file {name!a} cannot be used: {reason}", "name a small text file this process may read"
        )


def files_of(text: str, folder: Path) -> set[Path]:
    """Return the files that a text refers to by `${file:PATH}`, whether or not they are there."""
    targets = [match["target"] or "" for match in _REFERENCE.finditer(text)]
    return {folder / target.removeprefix(_FILE) for target in targets if target.startswith(_FILE)}
