"""An answer whose beginning is held back until enough of it is known. Knows neither models nor what is done then."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Self

from gateway.backends.confidence import Reading
from gateway.core.reply import Reply, Spent, pullable, read_all, stop_pulling
from gateway.schema.logprobs import strip_body, strip_event
from gateway.schema.sse import events_in

MAX_HELD_BYTES = 4 * 1024 * 1024
"""256 tokens with 20 alternatives each take half a megabyte. What is longer is no beginning."""


class Held:
    """A reply of which nobody has seen anything yet. `close` must be awaited, unless it is awaited as the reply's."""

    def __init__(self, reply: Reply, tokens: int) -> None:
        self._reply = reply
        self._source = pullable(reply.blocks)
        self._close_reply = reply.close
        self._blocks: list[bytes] = []
        self._held_bytes = 0
        self.reading = Reading(tokens)

    async def read(self, wait_s: float) -> None:
        """Read a stream until enough is known, it ends, or the time is over; of what is not streamed, read all."""
        if not self._reply.is_streaming:
            self._blocks = [await read_all(self._source)]
            self.reading.add(self._blocks[0])
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                await self._read_beginning()

    async def _read_beginning(self) -> None:
        while not self.reading.is_enough and self._held_bytes <= MAX_HELD_BYTES:
            block = await anext(self._source, None)
            if block is None:
                return
            self._blocks.append(block)
            self._held_bytes += len(block)
            self.reading.add_block(block)

    def spent(self) -> Spent:
        """Return what has come so far, to be paid for."""
        reply = self._reply
        return Spent(reply.model, b"".join(self._blocks), reply.is_streaming, len(self.reading.logprobs))

    def release(self, *, strips: bool) -> AsyncIterator[bytes]:
        """Return the answer from its beginning, without its log probabilities where it `strips` them."""
        if not self._reply.is_streaming:
            return self._whole(strip_body if strips else _keep)
        held, self._blocks = b"".join(self._blocks), []
        return _Released(held, self._source, _strip_block if strips else _keep)

    async def _whole(self, shape: Callable[[bytes], bytes]) -> AsyncIterator[bytes]:
        yield shape(b"".join([*self._blocks, *[block async for block in self._source]]))

    async def close(self) -> None:
        """Stop the work upstream."""
        try:
            await stop_pulling(self._source)
        finally:
            await self._close_reply()


class _Released:
    """An answer that goes on: what was held of it as one block, then the others as they come."""

    __slots__ = ("_held", "_shape", "_source")

    def __init__(self, held: bytes, source: AsyncIterator[bytes], shape: Callable[[bytes], bytes]) -> None:
        self._held = held
        self._source = source
        self._shape = shape

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        if self._held:
            block, self._held = self._held, b""
        else:
            block = await anext(self._source)
        return self._shape(block)


def _keep(block: bytes) -> bytes:
    return block


def _strip_block(block: bytes) -> bytes:
    if b'"logprobs"' not in block:
        return block
    return b"".join(strip_event(event) for event in events_in(block))
