"""The store on a Redis cluster, by redis-py, which knows slots, their moves and redirections.

redis-py's defaults make a dead server cost 3.6 s a call and a black hole 8 s; a gateway can't wait that long for a
cache. A cancelled command never leaves its reply to the next caller: redis-py drops the connection. It speaks to single
servers too: tests hold the pipe against it.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar
from urllib.parse import urlsplit

from redis.asyncio import Redis, RedisCluster
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisClusterException, RedisError

from gateway.core.clock import monotonic_s
from gateway.core.deadlines import Wheel
from gateway.settings.service import RedisSettings
from gateway.stores.breaker import Breaker, store_breaker
from gateway.stores.scripts import CHANGE_TALLY, SWAP, tally_arguments
from gateway.stores.store import Observe, StoreUnavailableError, refuse_url
from gateway.stores.tally import Change, Tally, pack_tally, unpack_tally

T = TypeVar("T")

PREFIX = "postern:"
MAX_AT_ONCE = 16
"""Operations under way in one process; others wait, within their time-out. redis-py's pools refuse the 101st caller,
which makes a crowd look like an outage; and opening a connection takes 1 ms, so that 300 at once take 0.3 s."""


class RedisStore:
    """Keep values in Redis. Every failure, of whatever kind, is a StoreUnavailableError within the time-out."""

    def __init__(
        self,
        settings: RedisSettings,
        observe: Observe,
        wheel: Wheel | None = None,
        breaker: Breaker | None = None,
    ) -> None:
        self._timeout_s = settings.timeout_s
        self._client = connect(settings)
        self._observe = observe
        self._places = asyncio.Semaphore(MAX_AT_ONCE)
        self._wheel = wheel or Wheel()
        self._breaker = breaker or store_breaker()

    async def get(self, key: str) -> bytes | None:
        """Return the value, or None. Raises StoreUnavailableError."""
        return await self._ask("get", lambda: self._client.get(PREFIX + key))

    async def set(self, key: str, value: bytes, ttl_s: int) -> None:
        """Keep a value for `ttl_s` seconds. Raises StoreUnavailableError."""
        await self._ask("set", lambda: self._client.set(PREFIX + key, value, ex=ttl_s))

    async def swap(self, key: str, value: bytes, ttl_s: int) -> bytes | None:
        """Keep a value and return the one before it, in one step, by a script. Raises StoreUnavailableError."""
        return await self._ask("swap", lambda: self._client.eval(SWAP.text, 1, PREFIX + key, value, ttl_s))

    async def set_many(self, values: Mapping[str, bytes], ttl_s: int) -> None:
        """Keep several values in one round trip, on a cluster one a node. Raises StoreUnavailableError."""
        await self._ask("set_many", lambda: self._set_many(values, ttl_s))

    async def _set_many(self, values: Mapping[str, bytes], ttl_s: int) -> None:
        # No transaction: the values have nothing to do with one another, and on a cluster lie on different nodes.
        async with self._client.pipeline(transaction=False) as pipeline:
            for key, value in values.items():
                pipeline.set(PREFIX + key, value, ex=ttl_s)
            await pipeline.execute()

    async def change_tally(self, key: str, change: Change, ttl_s: int) -> Tally | None:
        """Add to a tally in one step, by a script, and return it; one that can't be read is dropped."""
        arguments = tally_arguments(change, ttl_s)
        found = await self._ask(
            "change_tally", lambda: self._client.eval(CHANGE_TALLY.text, 1, PREFIX + key, *arguments)
        )
        return unpack_tally(found, len(change.sums)) if found else None

    async def begin_tally(self, key: str, tally: Tally, ttl_s: int) -> bool:
        """Keep a tally unless there is one."""
        packed = pack_tally(tally)
        kept = await self._ask("begin_tally", lambda: self._client.set(PREFIX + key, packed, ex=ttl_s, nx=True))
        return bool(kept)

    async def ping(self) -> None:
        """Return once a server has answered. Raises StoreUnavailableError."""
        await self._ask("ping", self._client.ping)

    async def close(self) -> None:
        """Close every connection."""
        await self._client.aclose()

    async def _ask(self, operation: str, call: Callable[[], Awaitable[T]]) -> T:
        if not self._breaker.allows():
            raise StoreUnavailableError("Redis is not answering; it is not asked for a while.")
        started_s = monotonic_s()
        try:
            with self._wheel.within(self._timeout_s):
                async with self._places:
                    answer = await call()
        except (RedisError, RedisClusterException, OSError, TimeoutError) as exc:
            self._breaker.failed()
            raise StoreUnavailableError(f"Redis: {operation} failed: {type(exc).__name__}") from exc
        finally:
            self._observe(operation, monotonic_s() - started_s)
        self._breaker.succeeded()
        return answer


def connect(settings: RedisSettings) -> Any:
    """Return a client for the kind of Redis that the URL's scheme names; nothing is connected yet.

    Raises SettingsError.
    """
    url = settings.url.reveal()
    # Any: redis-py's annotations say str where it gives bytes.
    options: dict[str, Any] = {"socket_timeout": settings.timeout_s, "socket_connect_timeout": settings.timeout_s}
    try:
        if urlsplit(url).scheme == "redis+cluster":
            return RedisCluster.from_url(url.replace("redis+cluster", "redis", 1), **options)
        return Redis.from_url(url, retry=Retry(NoBackoff(), 1), **options)
    except ValueError:
        refuse_url()
