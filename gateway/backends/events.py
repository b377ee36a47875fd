"""From whatever an upstream sends to a stream that can be trusted: whole events, and an honest end.

Official clients take an end of stream without `[DONE]` in silence, so an answer that broke off would pass for a short
one. Here it raises. Source: OpenAI's streaming reference; servers differ in spaces, line ends and closing events.
"""

import re
from collections.abc import Iterator

import msgspec

from gateway.core.errors import UpstreamFailureError, UpstreamInterruptedError
from gateway.schema.response import decode_answer
from gateway.schema.sse import DONE, EventCutter, data_of, events_in

MAX_EVENT_BYTES = 16 * 1024 * 1024
"""An event without an end must not fill the memory."""

_DONE = re.compile(rb"^data: ?\[DONE\]", re.MULTILINE)
_DATA = re.compile(rb"^data:", re.MULTILINE)
_FINISHED = re.compile(rb'"finish_reason"\s*:\s*"[^"]')
# A line of an event: a field's name, or a comment.
_EVENT_LINE = re.compile(rb"^(?:data|event|id|retry)?:", re.MULTILINE)


class EventReader:
    """Reads one stream's chunks and gives back blocks of whole events, with one `[DONE]` at the end.

    A stream that never said `[DONE]` is whole if all of its `choice_count` choices finished; otherwise it is not.
    What nearly every chunk lacks is looked for as plain bytes, before anything is searched by pattern or decoded.
    """

    __slots__ = ("_choice_count", "_cutter", "_ending", "_finished", "_model", "failure", "is_done")

    def __init__(self, model: str, choice_count: int = 1) -> None:
        self._model = model
        self._choice_count = choice_count
        self._cutter = EventCutter()
        self._finished: dict[bytes, str] = {}
        self._ending = b""
        self.is_done = False
        self.failure: UpstreamFailureError | None = None
        """What is wrong with the stream behind what was given back last; nothing more can be read."""

    def feed(self, chunk: bytes) -> bytes:
        """Return the events that a chunk completes: none after `[DONE]`, none after an error."""
        block = self._cutter.feed(chunk)
        if len(block) < len(chunk):
            self._check_rest()
        if not block:
            return block
        # Not `in`, which first takes its left side for a number; what that raises costs as much as the search.
        if block.find(b'"error"') >= 0:
            block = self._up_to_error(block)
        elif not block.startswith(b"data:") and block.strip() and _EVENT_LINE.search(block) is None:
            self.failure = UpstreamFailureError(f"{self._model} sent something else than events.")
            return b""
        if block.find(b"[DONE]") >= 0 and (end := _DONE.search(block)) is not None:
            self.is_done, self.failure = True, None
            self._ending = block[: end.start()]
            return self._ending + DONE
        if len(self._finished) < self._choice_count and _FINISHED.search(block) is not None:
            self._finished.update(_finished_in(block))
        return block

    def _up_to_error(self, block: bytes) -> bytes:
        """Return what stands before an error in band: it came first, however the network has cut the stream."""
        sound_bytes = 0
        for event in events_in(block):
            self.failure = _find_error(self._model, data_of(event))
            if self.failure is not None:
                return block[:sound_bytes]
            sound_bytes += len(event)
        return block

    def _check_rest(self) -> None:
        if self._cutter.rest_bytes > MAX_EVENT_BYTES:
            self.failure = UpstreamFailureError(f"{self._model} sent an event without an end.")

    def finish_reasons(self) -> list[str]:
        """Return why each choice has ended that has; reads what came along with `[DONE]`, which nobody else needs."""
        return [*{**self._finished, **dict(_finished_in(self._ending))}.values()]

    def end(self) -> bytes:
        """Return what ends a stream without `[DONE]`. Raises UpstreamInterruptedError if the answer has no end."""
        if len(self._finished) < self._choice_count or self._cutter.rest_bytes:
            raise UpstreamInterruptedError(f"{self._model} ended its stream before its answer.")
        self.is_done = True
        return DONE


def has_data(block: bytes) -> bool:
    """Tell whether a block holds data: comments keep a connection alive, they don't begin an answer."""
    return _DATA.search(block) is not None


def _finished_in(block: bytes) -> Iterator[tuple[bytes, str]]:
    """Yield index and reason of each choice that finishes here.

    Only events that may hold one are decoded: a few a stream.
    """
    for event in events_in(block):
        if _FINISHED.search(event) is not None:
            yield from _finished_of(data_of(event))


def _finished_of(payload: bytes) -> list[tuple[bytes, str]]:
    try:
        answer = decode_answer(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return []
    return [(bytes(choice.index), choice.finish_reason) for choice in answer.choices or () if choice.finish_reason]


def _find_error(model: str, payload: bytes) -> UpstreamFailureError | None:
    if b'"error"' not in payload:
        return None
    try:
        answer = decode_answer(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return UpstreamFailureError(f"{model} sent an event that is not JSON.")
    return UpstreamFailureError(f"{model} reported an error in its stream.") if answer.is_error else None
