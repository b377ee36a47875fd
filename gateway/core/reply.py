"""What an upstream, a cache or a shared flight gives back: blocks of bytes and where they came from."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from typing import Self

import msgspec

from gateway.core.context import Usage, Verdict
from gateway.schema.response import Answer


class Reply(msgspec.Struct, eq=False):
    """An answer on its way.

    `blocks` yields the whole body at once, or, streamed, one or more whole server-sent events at a time. It raises
    `UpstreamError` when the answer breaks off. Unless it is a generator, a read that is cancelled loses nothing: the
    next one gets what it would have got. `close` must be awaited in the end, also after a cancellation; it stops
    whatever still works for this answer.
    """

    model: str
    is_streaming: bool
    blocks: AsyncIterator[bytes]
    close: Callable[[], Awaitable[None]]
    attempts: int = 1
    is_fallback: bool = False
    verdict: Verdict | None = None
    claim_bill: Callable[[], bool] = lambda: True
    """Tell whether whoever calls pays for the upstream call: true once for a shared answer, never for a stored one."""
    answer: Answer | None = None
    """A whole body as its backend has decoded it, so that nobody need do so again; None where it has not."""
    usage: Usage | None = None
    """What a whole body tells of its tokens, where somebody has read that already."""
    finish_reasons: Callable[[], Sequence[str]] = tuple
    """Tell why the choices ended whose end has come; nothing where nobody has looked."""


Take = Callable[[bytes], bool]
"""Takes a block at once. False: whoever gives it should wait before the next."""

Pour = Callable[[Take], Awaitable[None]]
"""Gives the blocks that are still to come to `take` in the very turn in which they come, and wakes no task for them.

It returns, at any time and without a reason, as soon as a read (`anext`) has something to tell: an end, a failure, a
block that came otherwise. Whoever pours goes on reading, and may pour again. Nothing else may read meanwhile.
"""


def pour_of(blocks: AsyncIterator[bytes]) -> Pour | None:
    """Return how blocks are poured, where they can be: to wake a task costs a chunk as much as all else in Python."""
    pour: Pour | None = getattr(blocks, "pour", None)
    return pour


class Spent(msgspec.Struct, frozen=True):
    """What came of an answer that was given up. `token_count` is 0 where its tokens could not be counted."""

    model: str
    body: bytes
    is_streaming: bool
    token_count: int = 0


class _Once:
    """One block. A class, as a generator takes three times as long."""

    __slots__ = ("_block",)

    def __init__(self, block: bytes) -> None:
        self._block: bytes | None = block

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        block = self.take()
        if block is None:
            raise StopAsyncIteration
        return block

    def take(self) -> bytes | None:
        """Return the block, unless it has been taken."""
        block, self._block = self._block, None
        return block


def once(body: bytes) -> AsyncIterator[bytes]:
    """Return the one block of an answer that is there already."""
    return _Once(body)


def is_here(blocks: AsyncIterator[bytes]) -> bool:
    """Tell whether all blocks are there, so that nobody waits for them."""
    return isinstance(blocks, _Once)


async def read_all(blocks: AsyncIterator[bytes]) -> bytes:
    """Return all blocks as one."""
    if isinstance(blocks, _Once):
        return blocks.take() or b""
    return b"".join([block async for block in blocks])


def pullable(blocks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Return blocks of which a read may be cancelled and done again, by somebody else too. See `stop_pulling`."""
    return _Shielded(blocks) if isinstance(blocks, AsyncGenerator) else blocks


async def stop_pulling(blocks: AsyncIterator[bytes] | None) -> None:
    """Cancel the read that may be under way of what `pullable` gave."""
    if isinstance(blocks, _Shielded):
        await blocks.stop()


class _Shielded:
    """Reads a generator, which a cancelled read would end, by tasks: who is cancelled leaves the task at work."""

    __slots__ = ("_next", "_source")

    def __init__(self, source: AsyncIterator[bytes]) -> None:
        self._source = source
        self._next: asyncio.Task[bytes | None] | None = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        self._next = self._next or asyncio.create_task(self._read())
        block = await asyncio.shield(self._next)
        self._next = None
        if block is None:
            raise StopAsyncIteration
        return block

    async def _read(self) -> bytes | None:
        return await anext(self._source, None)

    async def stop(self) -> None:
        """Cancel the read under way."""
        if self._next is not None:
            self._next.cancel()
            await asyncio.gather(self._next, return_exceptions=True)


async def nothing_to_close() -> None:
    """Close what holds nothing open."""
