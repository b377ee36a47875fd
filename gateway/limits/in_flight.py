"""How many requests may be in flight at once."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from gateway.core.errors import DrainingError, OverloadedError

RETRY_AFTER_S = 1
"""A request takes about a second; a place comes free sooner than that."""


class InFlight:
    """Count the requests inside; shed what comes above `limit`, and everything once the gateway drains."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.count = 0
        self.is_draining = False
        self._empty = asyncio.Event()

    def enter(self) -> None:
        """Take a place; whoever does must `leave`. Raises OverloadedError or DrainingError."""
        if self.is_draining:
            raise DrainingError("The gateway is shutting down.", retry_after_s=RETRY_AFTER_S)
        if self.count >= self.limit:
            raise OverloadedError(
                f"{self.limit} requests are in flight already. Try again.", retry_after_s=RETRY_AFTER_S
            )
        self.count += 1

    def leave(self) -> None:
        """Give the place back."""
        self.count -= 1
        if self.count == 0:
            self._empty.set()

    @contextmanager
    def place(self) -> Iterator[None]:
        """Hold a place for as long as the context lasts. Raises OverloadedError or DrainingError."""
        self.enter()
        try:
            yield
        finally:
            self.leave()

    async def wait_empty(self) -> None:
        """Return once nobody is inside."""
        while self.count:
            self._empty.clear()
            await self._empty.wait()
