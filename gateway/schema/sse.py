"""Server-sent events as bytes: cut a stream at event borders, read and write `data:` lines.

Source: https://html.spec.whatwg.org/multipage/server-sent-events.html. A chunk from a socket may end anywhere, even
inside a character; only whole events leave this module, so nothing is ever appended to half an event.
"""

from collections.abc import Iterator

import msgspec

DONE = b"data: [DONE]\n\n"


class EventCutter:
    """Collect bytes and give back whole events.

    A lone CR as line end is allowed by the specification and sent by no known server; it is not understood here.
    """

    __slots__ = ("_rest",)

    def __init__(self) -> None:
        self._rest = b""

    @property
    def rest_bytes(self) -> int:
        """Return how many bytes of an unfinished event are held; blank ones don't count."""
        return len(self._rest.strip())

    def feed(self, data: bytes) -> bytes:
        """Return every event completed by `data`, as one block of bytes (empty when none is)."""
        if not self._rest and data.endswith(b"\n\n"):
            return data  # as nearly every chunk of nearly every server
        whole = self._rest + data if self._rest else data
        end = _end_of_last_event(whole)
        self._rest = whole[end:]
        return whole[:end]


def _end_of_last_event(data: bytes) -> int:
    lf = data.rfind(b"\n\n")
    crlf = data.rfind(b"\n\r\n")  # also after a line that ended in a bare LF: some proxies mix the two
    return max(lf + 2 if lf >= 0 else 0, crlf + 3 if crlf >= 0 else 0)


def events_in(block: bytes) -> Iterator[bytes]:
    """Yield the events of a block, each with its closing empty line as it came; their bytes add up to the block."""
    start = 0
    for line_start, line_end in _lines(block):
        if line_start > start and block[line_start:line_end].strip(b"\r\n") == b"":
            yield block[start:line_end]
            start = line_end
    if start < len(block):
        yield block[start:]


def _lines(block: bytes) -> Iterator[tuple[int, int]]:
    start = 0
    while (at := block.find(b"\n", start)) >= 0:
        yield start, at + 1
        start = at + 1


def data_of(event: bytes) -> bytes:
    """Return the payload of one event: its `data:` lines joined by newlines, empty when it has none."""
    lines = [line[5:].removeprefix(b" ") for line in event.splitlines() if line.startswith(b"data:")]
    return b"\n".join(lines)


def event_of(payload: object) -> bytes:
    """Return one event that carries `payload` as JSON."""
    # Raw parts may hold line ends between tokens, where an upstream sent one object in several `data:` lines.
    return b"data: " + msgspec.json.encode(payload).replace(b"\n", b"\ndata: ") + b"\n\n"
