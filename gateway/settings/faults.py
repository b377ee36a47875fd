"""What is wrong with a configuration, and where. Knows nothing of how it was found.

A fault quotes keys and bounds, never a value: any value may turn out to be a secret in the wrong place.
"""

import difflib
from collections.abc import Iterable

import msgspec

_SHOWN_CHARACTERS = 128  # the longest name allowed: anything longer is cut, so that a fault stays one readable line
_SHOWN_NAMES = 12


class Fault(msgspec.Struct, frozen=True):
    """One fault: the key's path, what is wrong, what would be right."""

    path: str
    problem: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.path}: {self.problem}; {self.remedy}"


class SettingsError(Exception):
    """Tell every fault of a configuration that was refused, one a line."""

    def __init__(self, faults: Iterable[Fault]) -> None:
        self.faults = tuple(faults)
        super().__init__("\n".join(str(fault) for fault in self.faults))


def under(path: str, key: object) -> str:
    """Return the path of `key` inside `path`; the root's path is empty."""
    return f"{path}.{show(key)}" if path else show(key)


def show(key: object) -> str:
    """Return a key as one short printable line."""
    text = str(key) if isinstance(key, str | int | float | None) else type(key).__name__
    text = text if text.isprintable() and text else ascii(text)
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}…"


def suggest(name: str, known: Iterable[str]) -> str:
    """Return what `name` should have been: the nearest known name, or else the known names."""
    names = list(known)
    near = difflib.get_close_matches(name[:_SHOWN_CHARACTERS], names, n=1)
    if near:
        return f"did you mean {show(near[0])}?"
    listed = ", ".join(show(known_name) for known_name in names[:_SHOWN_NAMES])
    return f"one of: {listed}{', …' if len(names) > _SHOWN_NAMES else ''}" if listed else "there is none yet"
