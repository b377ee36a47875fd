"""What a span is before it is encoded: plain values, so that nothing but `otlp.py` needs OpenTelemetry."""

from collections.abc import Mapping, Sequence
from enum import IntEnum
from typing import NamedTuple, Protocol

Value = str | int | float | bool | Sequence[str]
Attributes = Mapping[str, Value]

NOTHING: Attributes = {}


class Kind(IntEnum):
    """Which side of a call a span tells of; OTLP's numbers."""

    INTERNAL = 1
    SERVER = 2
    CLIENT = 3


class Span(NamedTuple):
    """One span. Times are nanoseconds since 1970; `events` are names with their times.

    `has_remote_parent`: the parent is another process's.
    """

    name: str
    kind: Kind
    span_id: bytes
    parent_id: bytes
    began_ns: int
    ended_ns: int
    attributes: Attributes = NOTHING
    is_error: bool = False
    events: Sequence[tuple[str, int]] = ()
    has_remote_parent: bool = False


class Batch(Protocol):
    """Spans that are sent together."""

    span_count: int

    def add(self, trace_id: str, spans: Sequence[Span]) -> None:
        """Take in spans of one trace."""
        ...

    def encode(self) -> bytes:
        """Return all of them as a request's body."""
        ...


class Encoding(Protocol):
    """How spans are told to a collector."""

    content_type: str

    def open_batch(self) -> Batch:
        """Return a batch that is empty yet."""
        ...

    def count_rejected(self, answer: bytes) -> int:
        """Return how many spans a collector says it has not taken, in an answer that says it took the request."""
        ...
