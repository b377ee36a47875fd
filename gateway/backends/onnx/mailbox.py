"""Where the answer to one task arrives, in the gateway.

A reader as slow as may be holds nobody up: what it has not taken is kept as one text, never longer than the window.
"""

import asyncio

from gateway.backends.engine import Piece
from gateway.backends.onnx.wire import Said
from gateway.core.errors import PosternError


class Mailbox:
    """One answer's end of the wire. `put` and `fail` never wait."""

    def __init__(self) -> None:
        self._unread: list[Said] = []
        self._failure: PosternError | None = None
        self._changed = asyncio.Event()
        self.is_begun = False
        self.is_over = False

    def put(self, said: Said) -> None:
        """Add more of the answer."""
        if self._unread:
            said = _joined(self._unread.pop(), said)
        self._unread.append(said)
        self.is_begun = True
        self.is_over = said.finish_reason is not None
        self._changed.set()

    def fail(self, failure: PosternError) -> None:
        """End the answer, unless it has ended."""
        if not self.is_over:
            self._failure, self.is_over = failure, True
            self._changed.set()

    async def take(self) -> Piece:
        """Return all that came since the last time, waiting for more. Raises what the answer failed with."""
        while not self._unread:
            if self._failure is not None:
                raise self._failure
            self._changed.clear()
            await self._changed.wait()
        said = self._unread.pop()
        return Piece(said.text, said.token_count, said.prompt_tokens, said.finish_reason)


def _joined(first: Said, then: Said) -> Said:
    counted = first.token_count + then.token_count
    return Said(then.task, first.text + then.text, counted, then.prompt_tokens, then.finish_reason)
