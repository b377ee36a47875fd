"""In step: the requests that arrived in one turn of the event loop go through a stage one after another.

A walk that goes from the key to the upstream in one go finds, at every stage, code and tables that the stages between
have pushed out of the processor's caches: a judgement takes 72 µs in a loop of its own and 142 within such a walk. Who
awaits IN_STEP lets the others of the turn catch up first. That costs 1.5 µs, and a request alone one empty turn.
"""

from collections.abc import Generator
from typing import Final


class _InStep:
    """What `asyncio.sleep(0)` does, without its coroutine."""

    __slots__ = ()

    def __await__(self) -> Generator[None, None, None]:
        yield


IN_STEP: Final = _InStep()
