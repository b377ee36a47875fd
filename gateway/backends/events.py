"""From whatever an upstream sends to a stream that can be trusted: whole events, and an honest end.

Official clients take an end of stream without `[DONE]` in silence, so an answer that broke off would pass for a short
one. Here it raises. Source: OpenAI's streaming reference; servers differ in spaces, line ends and closing events.
"""

import re
from collections.abc import AsyncIterator, Iterator

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


async def whole_events(model: str, chunks: AsyncIterator[bytes], choice_count: int = 1) -> AsyncIterator[bytes]:
    """Yield blocks of whole events and one `[DONE]` at the end.

    A stream that never said `[DONE]` is whole if all of its `choice_count` choices finished; otherwise it is not.

    Raises:
        UpstreamFailureError: an error in the stream, or bytes that are no events.
        UpstreamInterruptedError: the stream ended before the answer did.
    """
    cutter = EventCutter()
    finished: set[bytes] = set()
    async for chunk in chunks:
        block = cutter.feed(chunk)
        if cutter.rest_bytes > MAX_EVENT_BYTES:
            raise UpstreamFailureError(f"{model} sent an event without an end.")
        if not block:
            continue
        _check(model, block)
        if (end := _DONE.search(block)) is not None:
            yield block[: end.start()] + DONE
            return
        if len(finished) < choice_count:
            finished.update(_finished_in(block))
        yield block
    if len(finished) < choice_count or cutter.rest_bytes:
        raise UpstreamInterruptedError(f"{model} ended its stream before its answer.")
    yield DONE


async def up_to_first_data(model: str, blocks: AsyncIterator[bytes]) -> bytes:
    """Return all blocks up to the first with data: comments keep a connection alive, they don't begin an answer.

    Raises UpstreamFailureError where the comments fill the memory, and whatever `blocks` raises.
    """
    read = bytearray()
    async for block in blocks:
        read += block
        if _DATA.search(block) is not None:
            break
        if len(read) > MAX_EVENT_BYTES:
            raise UpstreamFailureError(f"{model} sent comments without an end.")
    return bytes(read)


def _finished_in(block: bytes) -> Iterator[bytes]:
    """Yield the index of each choice that finishes here. Only events that may hold one are decoded: a few a stream."""
    if _FINISHED.search(block) is None:
        return
    for event in events_in(block):
        if _FINISHED.search(event) is not None:
            yield from _finished_of(data_of(event))


def _finished_of(payload: bytes) -> list[bytes]:
    try:
        answer = decode_answer(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return []
    return [bytes(choice.index) for choice in answer.choices or () if choice.finish_reason]


def _check(model: str, block: bytes) -> None:
    """Raise for an error in band, and for a block without a line of an event, such as an HTML page."""
    if b'"error"' in block:
        for event in events_in(block):
            _check_event(model, data_of(event))
    elif block.strip() and _EVENT_LINE.search(block) is None:
        raise UpstreamFailureError(f"{model} sent something else than events.")


def _check_event(model: str, payload: bytes) -> None:
    if b'"error"' not in payload:
        return
    try:
        answer = decode_answer(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise UpstreamFailureError(f"{model} sent an event that is not JSON.") from exc
    if answer.is_error:
        raise UpstreamFailureError(f"{model} reported an error in its stream.")
