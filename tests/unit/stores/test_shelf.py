"""The shelf of stores: what stays over a reload, what is replaced, and when that is closed."""

from gateway.core.secret import Secret
from gateway.settings.service import RedisSettings
from gateway.stores.memory import MemoryStore
from gateway.stores.pipe_store import PipeStore
from gateway.stores.shelf import Shelf

REDIS = RedisSettings(url=Secret("redis://127.0.0.1:1/0"))
OTHER = RedisSettings(url=Secret("redis://127.0.0.1:2/0"))
BOUNDS = {"max_entries": 10, "max_bytes": 1000}


def shelf() -> Shelf:
    return Shelf(lambda settings: PipeStore(settings, lambda operation, seconds: None))


async def test_an_unchanged_store_stays_and_keeps_what_it_holds():
    stores = shelf()
    store = stores.take("cache", None, **BOUNDS)
    await store.set("key", b"value", 60)
    assert stores.take("cache", None, **BOUNDS) is store
    await stores.close_replaced()
    assert await store.get("key") == b"value"


def test_uses_share_the_link_to_redis_and_nothing_in_memory():
    stores = shelf()
    assert stores.take("cache", REDIS, **BOUNDS) is stores.take("sessions", REDIS, **BOUNDS)
    alone = shelf()
    assert alone.take("cache", None, **BOUNDS) is not alone.take("sessions", None, **BOUNDS)


async def test_a_changed_store_is_replaced_and_closed_only_when_told():
    stores = shelf()
    old = stores.take("cache", None, **BOUNDS)
    await old.set("key", b"value", 60)
    assert stores.take("cache", None, max_entries=11, max_bytes=1000) is not old
    assert await old.get("key") == b"value", "a request may still use it"
    await stores.close_replaced()
    assert await old.get("key") is None


async def test_moving_to_redis_and_back_leaves_nothing_open():
    stores = shelf()
    local = stores.take("cache", None, **BOUNDS)
    first, second = stores.take("cache", REDIS, **BOUNDS), stores.take("cache", OTHER, **BOUNDS)
    again = stores.take("cache", None, **BOUNDS)
    assert [type(one) for one in (local, first, second, again)] == [MemoryStore, PipeStore, PipeStore, MemoryStore]
    assert len({id(one) for one in (local, first, second, again)}) == 4
    assert stores._replaced == [local, first, second]
    await again.set("key", b"value", 60)
    await stores.close()
    assert stores._replaced == []
    assert await again.get("key") is None
