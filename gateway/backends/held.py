"""An answer whose beginning is held back until enough of it is known. Knows neither models nor what is done then."""

import asyncio
from collections.abc import AsyncIterator, Callable

from gateway.backends.confidence import Reading
from gateway.core.reply import Reply, Spent
from gateway.schema.logprobs import strip_body, strip_event
from gateway.schema.sse import events_in

MAX_HELD_BYTES = 4 * 1024 * 1024
"""256 tokens with 20 alternatives each take half a megabyte. What is longer is no beginning."""


class Held:
    """A reply of which nobody has seen anything yet. `close` must be awaited, unless it is awaited as the reply's."""

    def __init__(self, reply: Reply, tokens: int) -> None:
        self._reply = reply
        self._source = reply.blocks
        self._close_reply = reply.close
        self._blocks: list[bytes] = []
        self._held_bytes = 0
        self._next: asyncio.Task[bytes | None] | None = None
        self.reading = Reading(tokens)

    async def read(self, wait_s: float) -> None:
        """Read a stream until enough is known, it ends, or the time is over; of what is not streamed, read all."""
        if not self._reply.is_streaming:
            self._blocks = [b"".join([block async for block in self._source])]
            self.reading.add(self._blocks[0])
            return
        loop = asyncio.get_running_loop()
        end_s = loop.time() + wait_s
        while not self.reading.is_enough and self._held_bytes <= MAX_HELD_BYTES:
            # A task, as a time-out would cancel the read and with it the stream, which may have to go on.
            self._next = self._next or asyncio.create_task(self._read_next())
            await asyncio.wait({self._next}, timeout=end_s - loop.time())
            if not self._next.done():
                return
            block, self._next = self._next.result(), None
            if block is None:
                return
            self._blocks.append(block)
            self._held_bytes += len(block)
            self.reading.add_block(block)

    async def _read_next(self) -> bytes | None:
        return await anext(self._source, None)

    def spent(self) -> Spent:
        """Return what has come so far, to be paid for."""
        reply = self._reply
        return Spent(reply.model, b"".join(self._blocks), reply.is_streaming, len(self.reading.logprobs))

    def release(self, *, strips: bool) -> AsyncIterator[bytes]:
        """Return the answer from its beginning, without its log probabilities where it `strips` them."""
        if not self._reply.is_streaming:
            return self._whole(strip_body if strips else _keep)
        return self._stream(_strip_block if strips else _keep)

    async def _whole(self, shape: Callable[[bytes], bytes]) -> AsyncIterator[bytes]:
        yield shape(b"".join([*self._blocks, *[block async for block in self._source]]))

    async def _stream(self, shape: Callable[[bytes], bytes]) -> AsyncIterator[bytes]:
        held, self._blocks = b"".join(self._blocks), []
        if held:
            yield shape(held)
        if self._next is not None:
            block = await self._next
            self._next = None
            if block is None:
                return
            yield shape(block)
        async for block in self._source:
            yield shape(block)

    async def close(self) -> None:
        """Stop the work upstream."""
        try:
            if self._next is not None:
                self._next.cancel()
                await asyncio.gather(self._next, return_exceptions=True)
        finally:
            await self._close_reply()


def _keep(block: bytes) -> bytes:
    return block


def _strip_block(block: bytes) -> bytes:
    if b'"logprobs"' not in block:
        return block
    return b"".join(strip_event(event) for event in events_in(block))
