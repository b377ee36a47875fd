"""The Redis store: standalone, sentinel or cluster, with short time-outs and a breaker.

redis-py's defaults make a dead server cost 3.6 s a call and a black hole 8 s; a gateway can't wait that long for a
cache. A cancelled command never leaves its reply to the next caller: redis-py drops the connection.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

from redis.asyncio import Redis, RedisCluster, Sentinel
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisClusterException, RedisError

from gateway.core.clock import monotonic_s
from gateway.settings.faults import Fault, SettingsError
from gateway.settings.service import RedisSettings
from gateway.stores.breaker import Breaker
from gateway.stores.store import StoreUnavailableError
from gateway.stores.tally import Change, Tally, pack_tally, unpack_tally

T = TypeVar("T")
Observe = Callable[[str, float], None]
"""Told each operation's name and its seconds."""

PREFIX = "postern:"
SENTINEL_PORT = 26_379
MAX_AT_ONCE = 16
"""Operations under way in one process; others wait, within their time-out. redis-py's pools refuse the 101st caller,
which makes a crowd look like an outage; and opening a connection takes 1 ms, so that 300 at once take 0.3 s."""


CHANGE_TALLY = """
local held = redis.call('GET', KEYS[1])
if not held then return false end
local keep, sums, count = tonumber(ARGV[2]), tonumber(ARGV[3]), #held / 8
local weights, format = count - sums, '<' .. string.rep('d', count)
if count % 1 ~= 0 or weights < 1 then redis.call('DEL', KEYS[1]) return false end
local values = {struct.unpack(format, held)}
for place = 1, weights do values[place] = values[place] * keep end
for place = 1, sums do values[weights + place] = values[weights + place] + tonumber(ARGV[3 + place]) end
for at = 4 + sums, #ARGV, 2 do
  local place = tonumber(ARGV[at]) + 1
  values[place] = values[place] + tonumber(ARGV[at + 1])
end
local changed = struct.pack(format, unpack(values, 1, count))
redis.call('SET', KEYS[1], changed, 'EX', ARGV[1])
return changed
"""
"""KEYS: the tally. ARGV: seconds to live, what old weights keep, how many sums, each sum's change, then place and
weight by turns. Replicas add at the same time: read, change and write must be one step. 0.2 ms for 1,024 weights."""

SWAP = """
local before = redis.call('GET', KEYS[1])
redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2])
return before
"""
"""KEYS: the value's. ARGV: the new value, seconds to live. SET has had GET for this since Redis 6.2 only."""


class RedisStore:
    """Keep values in Redis. Every failure, of whatever kind, is a StoreUnavailableError within the time-out."""

    def __init__(self, settings: RedisSettings, observe: Observe, breaker: Breaker | None = None) -> None:
        self._timeout_s = settings.timeout_s
        self._client = connect(settings)
        self._observe = observe
        self._places = asyncio.Semaphore(MAX_AT_ONCE)
        self._breaker = breaker or Breaker()

    async def get(self, key: str) -> bytes | None:
        """Return the value, or None. Raises StoreUnavailableError."""
        return await self._ask("get", lambda: self._client.get(PREFIX + key))

    async def set(self, key: str, value: bytes, ttl_s: int) -> None:
        """Keep a value for `ttl_s` seconds. Raises StoreUnavailableError."""
        await self._ask("set", lambda: self._client.set(PREFIX + key, value, ex=ttl_s))

    async def swap(self, key: str, value: bytes, ttl_s: int) -> bytes | None:
        """Keep a value and return the one before it, in one step, by a script. Raises StoreUnavailableError."""
        return await self._ask("swap", lambda: self._client.eval(SWAP, 1, PREFIX + key, value, ttl_s))

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
        added = [part for place, weight in change.weights.items() for part in (place, repr(weight))]
        sums = [repr(each) for each in change.sums]
        arguments = [ttl_s, repr(change.keep), len(sums), *sums, *added]
        found = await self._ask("change_tally", lambda: self._client.eval(CHANGE_TALLY, 1, PREFIX + key, *arguments))
        return unpack_tally(found, len(sums)) if found else None

    async def begin_tally(self, key: str, tally: Tally, ttl_s: int) -> bool:
        """Keep a tally unless there is one."""
        packed = pack_tally(tally)
        kept = await self._ask("begin_tally", lambda: self._client.set(PREFIX + key, packed, ex=ttl_s, nx=True))
        return bool(kept)

    async def close(self) -> None:
        """Close every connection."""
        await self._client.aclose()

    async def _ask(self, operation: str, call: Callable[[], Awaitable[T]]) -> T:
        if not self._breaker.allows():
            raise StoreUnavailableError("Redis is not answering; it is not asked for a while.")
        started_s = monotonic_s()
        try:
            async with asyncio.timeout(self._timeout_s):
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

    Raises SettingsError; the library's own error may quote the URL, and with it the password.
    """
    try:
        return _connect(settings)
    except ValueError:
        raise SettingsError([Fault("redis.url", "can't be read", "write redis://HOST:PORT/DB")]) from None


def _connect(settings: RedisSettings) -> Any:
    url = settings.url.reveal()
    scheme = urlsplit(url).scheme
    # Any: redis-py's annotations say str where it gives bytes, and leave Sentinel untyped.
    options: dict[str, Any] = {"socket_timeout": settings.timeout_s, "socket_connect_timeout": settings.timeout_s}
    if scheme == "redis+sentinel":
        return _sentinel(url, options)
    if scheme == "redis+cluster":
        return RedisCluster.from_url(url.replace("redis+cluster", "redis", 1), **options)
    return Redis.from_url(url, retry=Retry(NoBackoff(), 1), **options)


def _sentinel(url: str, options: dict[str, Any]) -> Any:
    """Read redis+sentinel://[USER:PASSWORD@]HOST:PORT[,HOST:PORT...]/SERVICE[/DB], percent-encoded as any url."""
    parts = urlsplit(url)
    credentials, _, places = parts.netloc.rpartition("@")
    service, _, database = parts.path.strip("/").partition("/")
    user, _, password = (unquote(part) for part in credentials.partition(":"))
    sentinel: Any = Sentinel(  # type: ignore[no-untyped-call]
        [_place(place) for place in places.split(",")], sentinel_kwargs=options, **options
    )
    return sentinel.master_for(
        service or "mymaster", db=int(database or 0), username=user or None, password=password or None
    )


def _place(place: str) -> tuple[str, int]:
    parts = urlsplit(f"//{place}")
    return parts.hostname or "", parts.port or SENTINEL_PORT
