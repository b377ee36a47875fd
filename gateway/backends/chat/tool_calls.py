"""Tool calls in a model's text, back in OpenAI's shape."""

from typing import Protocol

import msgspec


class CallDelta(msgspec.Struct, frozen=True):
    """A bit of a call: first its name, with its id, then its arguments, as JSON text."""

    index: int
    call_id: str | None = None
    name: str | None = None
    arguments: str = ""


class ToolCalls(Protocol):
    """Finds the calls in one answer's text, as it comes."""

    is_full: bool

    def feed(self, text: str) -> list[str | CallDelta]:
        """Take the next of the text; return texts and calls as far as they are certain."""
        ...

    def end(self) -> list[str | CallDelta]:
        """Return what was held back."""
        ...
