"""From whatever an upstream sends to a stream that can be trusted: whole events, and an honest end.

Official clients take an end of stream without `[DONE]` in silence, so an answer that broke off would pass for a short
one. Here it raises. Source: OpenAI's streaming reference; servers differ in spaces, line ends and closing events.
"""

import re
from collections.abc import AsyncIterator

import msgspec

from gateway.core.errors import UpstreamFailureError, UpstreamInterruptedError
from gateway.schema.response import decode_answer
from gateway.schema.sse import DONE, EventCutter, data_of, events_in

MAX_EVENT_BYTES = 16 * 1024 * 1024
"""An event without an end must not fill the memory."""

_DONE = re.compile(rb"^data: ?\[DONE\]", re.MULTILINE)
_FINISHED = re.compile(rb'"finish_reason":\s*"[^"]')
# A line of an event: a field's name, or a comment.
_EVENT_LINE = re.compile(rb"^(?:data|event|id|retry)?:", re.MULTILINE)


async def whole_events(model: str, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Yield blocks of whole events and one `[DONE]` at the end.

    A stream whose choices finished but that never said `[DONE]` is whole; one that ends without either is not.

    Raises:
        UpstreamFailureError: an error in the stream, or bytes that are no events.
        UpstreamInterruptedError: the stream ended before the answer did.
    """
    cutter = EventCutter()
    is_finished = False
    async for chunk in chunks:
        block = cutter.feed(chunk)
        if cutter.rest_bytes > MAX_EVENT_BYTES:
            raise UpstreamFailureError(f"{model} sent an event without an end.")
        if not block:
            continue
        _check(model, block)
        is_finished = is_finished or _FINISHED.search(block) is not None
        if (end := _DONE.search(block)) is not None:
            yield block[: end.start()] + DONE
            return
        yield block
    if not is_finished or cutter.rest_bytes:
        raise UpstreamInterruptedError(f"{model} ended its stream before its answer.")
    yield DONE


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
