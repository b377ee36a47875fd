"""The stores of one process: in Redis where there is one, else each use its own in memory. They outlive reloads."""

from collections.abc import Callable, Hashable
from contextlib import suppress

from gateway.settings.service import RedisSettings
from gateway.stores.memory import MemoryStore
from gateway.stores.store import Store, StoreUnavailableError

REDIS = "redis"

MakeLink = Callable[[RedisSettings], Store]
"""Make the link to a Redis. Raises SettingsError."""


class Shelf:
    """Hand out stores, the same one as before a reload where nothing about it has changed."""

    def __init__(self, make_link: MakeLink) -> None:
        self._make_link = make_link
        self._stores: dict[str, tuple[Hashable, Store]] = {}
        self._replaced: list[Store] = []

    def take(self, use: str, redis: RedisSettings | None, *, max_entries: int, max_bytes: int) -> Store:
        """Return the store for a use: the link to Redis that all uses share, or its own, bounded, in memory."""
        if redis is not None:
            self._retire(use)
            return self._keep(REDIS, redis) or self._put(REDIS, redis, self._make_link(redis))
        self._retire(REDIS)
        bounds = (max_entries, max_bytes)
        return self._keep(use, bounds) or self._put(use, bounds, MemoryStore(max_entries, max_bytes=max_bytes))

    async def look(self) -> None:
        """Ask Redis whether it is there: its breaker is to know before a request needs it, and once it is back."""
        _, link = self._stores.get(REDIS, (None, None))
        if link is not None:
            with suppress(StoreUnavailableError):
                await link.ping()

    def _keep(self, name: str, wanted: Hashable) -> Store | None:
        kept = self._stores.get(name)
        return kept[1] if kept is not None and kept[0] == wanted else None

    def _put(self, name: str, wanted: Hashable, store: Store) -> Store:
        self._retire(name)
        self._stores[name] = (wanted, store)
        return store

    def _retire(self, name: str) -> None:
        kept = self._stores.pop(name, None)
        if kept is not None:
            self._replaced.append(kept[1])

    async def close_replaced(self) -> None:
        """Close the stores that reloads replaced; no request may still use them."""
        replaced, self._replaced = self._replaced, []
        for store in replaced:
            await store.close()

    async def close(self) -> None:
        """Close every store."""
        for name in list(self._stores):
            self._retire(name)
        await self.close_replaced()
