"""The port that cache, limits and accounting speak to."""

from collections.abc import Callable, Mapping
from typing import NoReturn, Protocol

from gateway.settings.faults import Fault, SettingsError
from gateway.stores.tally import Change, Tally


class StoreUnavailableError(Exception):
    """The store did not answer in time, or can't be reached. Callers fail open or closed as the contract says."""


Observe = Callable[[str, float], None]
"""Told each operation's name and its seconds."""


def refuse_url() -> NoReturn:
    """Raise SettingsError; a library's own error may quote the url, and with it the password."""
    raise SettingsError([Fault("redis.url", "can't be read", "write redis://HOST:PORT/DB")]) from None


class Store(Protocol):
    """Bytes by key, with an expiry."""

    async def get(self, key: str) -> bytes | None:
        """Return the value, or None. Raises StoreUnavailableError."""
        ...

    async def set(self, key: str, value: bytes, ttl_s: int) -> None:
        """Keep a value for `ttl_s` seconds. Raises StoreUnavailableError."""
        ...

    async def swap(self, key: str, value: bytes, ttl_s: int) -> bytes | None:
        """Keep a value and return the one in whose place it came, in one step. Raises StoreUnavailableError."""
        ...

    async def set_many(self, values: Mapping[str, bytes], ttl_s: int) -> None:
        """Keep several values, each as by `set`, in one call. Raises StoreUnavailableError; some may be kept then."""
        ...

    async def change_tally(self, key: str, change: Change, ttl_s: int) -> Tally | None:
        """Add to a tally in one step and return it; None where there is none. Raises StoreUnavailableError."""
        ...

    async def begin_tally(self, key: str, tally: Tally, ttl_s: int) -> bool:
        """Keep a tally unless there is one by now; tell whether it was kept. Raises StoreUnavailableError."""
        ...

    async def ping(self) -> None:
        """Return once the store has answered. Raises StoreUnavailableError."""
        ...

    async def close(self) -> None:
        """Let go of every connection."""
        ...
