"""The in-process store: least recently used entries leave first."""

from collections import OrderedDict

from gateway.core.clock import Clock, monotonic_s


class MemoryStore:
    """Keep at most `max_entries` values; each dies at its own time."""

    def __init__(self, max_entries: int, clock: Clock = monotonic_s) -> None:
        self._max_entries = max_entries
        self._clock = clock
        self._entries: OrderedDict[str, tuple[float, bytes]] = OrderedDict()

    async def get(self, key: str) -> bytes | None:
        """Return the value if it is there and alive."""
        found = self._entries.get(key)
        if found is None:
            return None
        dies_s, value = found
        if self._clock() >= dies_s:
            del self._entries[key]
            return None
        self._entries.move_to_end(key)
        return value

    async def set(self, key: str, value: bytes, ttl_s: int) -> None:
        """Keep a value, at the cost of the least recently used one when full."""
        self._entries[key] = (self._clock() + ttl_s, value)
        self._entries.move_to_end(key)
        if len(self._entries) > self._max_entries:
            self._entries.popitem(last=False)

    async def close(self) -> None:
        """Forget everything."""
        self._entries.clear()
