"""Stop strings in a text that comes in pieces. Pure."""

from collections.abc import Sequence


class StopTrimmer:
    """Cut a text at the first stop string; hold back only what could be the beginning of one.

    Some servers leave the stop string in, some take it out, some know none: all answers end the same.
    """

    __slots__ = ("_held", "_stops", "has_stopped")

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stop for stop in stops if stop)
        self._held = ""
        self.has_stopped = False

    def feed(self, text: str) -> str:
        """Return what may be shown of the text so far; nothing more once a stop string has been found."""
        if not self._stops:
            return text
        if self.has_stopped:
            return ""
        text = self._held + text
        found = [(at + len(stop), at) for stop in self._stops if (at := text.find(stop)) >= 0]
        if found:
            self.has_stopped, self._held = True, ""
            # The one that ends first: a model writes from left to right, and would have stopped there.
            return text[: min(found)[1]]
        keep = longest_beginning(text, self._stops)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]

    def end(self) -> str:
        """Return what was held back: no stop string came of it."""
        held, self._held = self._held, ""
        return held


def longest_beginning(text: str, stops: Sequence[str]) -> int:
    """Return how many characters at the end of `text` may be the beginning of a stop string."""
    return max((_beginning(text, stop) for stop in stops), default=0)


def _beginning(text: str, stop: str) -> int:
    sizes = range(min(len(text), len(stop) - 1), 0, -1)
    return next((size for size in sizes if text.endswith(stop[:size])), 0)
