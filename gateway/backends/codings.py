"""Content codings: bodies that a server packed though it was asked not to. Knows gzip and deflate.

Source: RFC 9110, 8.4.1. Some servers send deflate without the zlib format around it that the RFC asks for.
"""

import zlib
from collections.abc import AsyncIterator
from typing import Final

from gateway.backends.http import HttpError

MAX_PIECE_BYTES: Final = 1_048_576
"""Unpacked at once: a kilobyte can hold a megabyte of zeros, and whoever reads has a bound of its own."""

_WBITS: Final = {b"gzip": 31, b"x-gzip": 31, b"deflate": 15}


async def decoded(chunks: AsyncIterator[bytes], coding: bytes) -> AsyncIterator[bytes]:
    """Yield a body unpacked. Raises HttpError for another coding, and for bytes that are not in theirs."""
    if coding not in _WBITS:
        raise HttpError("the answer has a content coding that was not asked for")
    unpacker = zlib.decompressobj(_WBITS[coding])
    is_first = True
    async for chunk in chunks:
        if is_first and coding == b"deflate" and not _is_zlib(chunk):
            unpacker = zlib.decompressobj(-15)
        is_first = False
        waiting = chunk
        while waiting:
            try:
                piece = unpacker.decompress(waiting, MAX_PIECE_BYTES)
            except zlib.error as exc:
                raise HttpError("the answer is not in its content coding") from exc
            waiting = unpacker.unconsumed_tail
            if piece:
                yield piece


def _is_zlib(chunk: bytes) -> bool:
    """Tell zlib's two bytes of header, of which the first is enough (RFC 1950, 2.2): 8 is its one method."""
    return chunk[0] & 0x0F == 8 and chunk[0] >> 4 <= 7
