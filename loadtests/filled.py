"""A gateway whose in-process cache is full from the start: a million answers asked over HTTP would take minutes.

python -m loadtests.filled serve --config FILE ...
"""

import asyncio

from gateway.__main__ import main
from gateway.stores import shelf
from gateway.stores.memory import MemoryStore

VALUE_BYTES = 512
"""Less than an answer's: a million of them must fit a laptop, and a value's size costs nothing once it is there."""
FILLED_FROM = 10
"""Stores of fewer entries are not the cache."""


class FilledStore(MemoryStore):
    """A store that begins with as many entries as it may hold: every new one makes the oldest leave."""

    def __init__(self, max_entries: int, *, max_bytes: int) -> None:
        super().__init__(max_entries, max_bytes=max_bytes)
        asyncio.run(self._fill(max_entries))

    async def _fill(self, entries: int) -> None:
        for number in range(entries if entries >= FILLED_FROM else 0):
            await self.set(f"{number:064x}", number.to_bytes(8, "big") * (VALUE_BYTES // 8), 86_400)


if __name__ == "__main__":
    shelf.MemoryStore = FilledStore  # type: ignore[assignment, attr-defined]
    main()
