"""A Redis that sentinels look after: redis-py asks them for the master before each connection, which is seldom."""

import random
from collections.abc import Sequence
from contextlib import aclosing
from typing import Any
from urllib.parse import unquote, urlsplit

import msgspec
from redis.asyncio import Sentinel
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from gateway.core.deadlines import Wheel
from gateway.core.secret import Secret
from gateway.settings.service import RedisSettings
from gateway.stores.address import Address
from gateway.stores.breaker import Breaker
from gateway.stores.pipe import FindServer
from gateway.stores.pipe_store import PipeStore
from gateway.stores.store import Observe, refuse_url

PORT = 26_379


def sentinel_store(
    settings: RedisSettings, observe: Observe, wheel: Wheel | None = None, breaker: Breaker | None = None
) -> PipeStore:
    """Return a store on the master that redis+sentinel://[USER:PASSWORD@]HOST:PORT[,HOST:PORT...]/SERVICE[/DB] names.

    Everything in the url is percent-encoded as in any url. Raises SettingsError.
    """
    try:
        find = _finder(settings)
    except ValueError:
        refuse_url()
    return PipeStore(settings, observe, wheel, breaker, find)


def _finder(settings: RedisSettings) -> FindServer:
    parts = urlsplit(settings.url.reveal())
    credentials, _, places = parts.netloc.rpartition("@")
    service, _, database = parts.path.strip("/").partition("/")
    user, _, password = (unquote(part) for part in credentials.partition(":"))
    sentinels = [_place(place) for place in places.split(",")]
    address = Address(database=int(database or 0), user=user, password=Secret(password) if password else None)

    async def find() -> Address:
        host, port = await _find_master(sentinels, service or "mymaster", settings.timeout_s / len(sentinels))
        return msgspec.structs.replace(address, host=host, port=port)

    return find


def _place(place: str) -> tuple[str, int]:
    parts = urlsplit(f"//{place}")
    return parts.hostname or "", parts.port or PORT


async def _find_master(sentinels: Sequence[tuple[str, int]], service: str, timeout_s: float) -> tuple[str, int]:
    """Ask one sentinel after the other, in any order, each for so long that all get their turn."""
    options: dict[str, Any] = {"socket_timeout": timeout_s, "socket_connect_timeout": timeout_s}
    options["retry"] = Retry(NoBackoff(), 0)
    shuffled = random.sample(sentinels, len(sentinels))
    guide: Any = Sentinel(shuffled, sentinel_kwargs=options)  # type: ignore[no-untyped-call]
    try:
        async with aclosing(guide):
            host, port = await guide.discover_master(service)
    except RedisError as exc:
        raise ConnectionError("no sentinel names a master") from exc
    return host, int(port)
