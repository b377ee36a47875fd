"""The in-process store: least recently used entries leave first."""

from collections import OrderedDict
from collections.abc import Mapping

from gateway.core.clock import Clock, monotonic_s
from gateway.stores.tally import Change, Tally, change_tally, pack_tally, unpack_tally

DEFAULT_MAX_BYTES = 268_435_456


class MemoryStore:
    """Keep at most `max_entries` values of `max_bytes` together; each dies at its own time."""

    def __init__(self, max_entries: int, clock: Clock = monotonic_s, *, max_bytes: int = DEFAULT_MAX_BYTES) -> None:
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self._bytes = 0
        self._clock = clock
        self._entries: OrderedDict[str, tuple[float, bytes]] = OrderedDict()

    async def get(self, key: str) -> bytes | None:
        """Return the value if it is there and alive."""
        found = self._entries.get(key)
        if found is None:
            return None
        dies_s, value = found
        if self._clock() >= dies_s:
            self._drop(key)
            return None
        self._entries.move_to_end(key)
        return value

    async def set(self, key: str, value: bytes, ttl_s: int) -> None:
        """Keep a value, at the cost of the least recently used ones when full."""
        self._put(key, value, self._clock() + ttl_s)

    async def swap(self, key: str, value: bytes, ttl_s: int) -> bytes | None:
        """Keep a value and return the one before it."""
        before = await self.get(key)
        await self.set(key, value, ttl_s)
        return before

    async def set_many(self, values: Mapping[str, bytes], ttl_s: int) -> None:
        """Keep several values."""
        dies_s = self._clock() + ttl_s
        for key, value in values.items():
            self._put(key, value, dies_s)

    async def change_tally(self, key: str, change: Change, ttl_s: int) -> Tally | None:
        """Add to a tally and return it; one that can't be read is dropped."""
        held = unpack_tally(await self.get(key) or b"", len(change.sums))
        if held is None or not held.weights:
            self._drop(key)
            return None
        changed = change_tally(held, change)
        await self.set(key, pack_tally(changed), ttl_s)
        return changed

    async def begin_tally(self, key: str, tally: Tally, ttl_s: int) -> bool:
        """Keep a tally unless there is one."""
        if await self.get(key) is not None:
            return False
        await self.set(key, pack_tally(tally), ttl_s)
        return True

    def _put(self, key: str, value: bytes, dies_s: float) -> None:
        entries = self._entries
        if key in entries:
            self._drop(key)
        entries[key] = (dies_s, value)
        self._bytes += len(value)
        while len(entries) > self._max_entries or self._bytes > self._max_bytes:
            self._drop(next(iter(entries)))

    def _drop(self, key: str) -> None:
        _, value = self._entries.pop(key, (0.0, b""))
        self._bytes -= len(value)

    async def ping(self) -> None:
        """Return: it is always there."""

    async def close(self) -> None:
        """Forget everything."""
        self._entries.clear()
        self._bytes = 0
