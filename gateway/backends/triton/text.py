"""From the bytes of responses to text that never ends inside a character."""

import codecs
from typing import Protocol

LOST = "\N{REPLACEMENT CHARACTER}"


class TextReader(Protocol):
    """Reads the text of one answer, response by response."""

    def feed(self, data: bytes, *, is_last: bool = False) -> str:
        """Return the text that is certain now; with the last response, all of it."""
        ...


class Deltas:
    """Responses that hold what is new; a character that two of them share comes with the second."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def feed(self, data: bytes, *, is_last: bool = False) -> str:
        """Return the text that is certain now; with the last response, all of it."""
        return self._decoder.decode(data, final=is_last)


class Accumulated:
    """Responses that hold the whole text so far.

    A server that decodes half a character's tokens writes U+FFFD, and the character itself once the others have come;
    so one at the end is held back until something follows it. What was given can't be taken back: where a server
    changes its mind about earlier text, the rest is taken from the same place on.
    """

    def __init__(self) -> None:
        self._given = 0
        self._text = ""

    def feed(self, data: bytes, *, is_last: bool = False) -> str:
        """Return the text that is certain now; with the last response, all of it.

        The last may be empty: then what was held back comes.
        """
        self._text = data.decode("utf-8", "replace") or self._text
        certain = self._text if is_last else self._text.rstrip(LOST)
        new = certain[self._given :]
        self._given = max(self._given, len(certain))
        return new
