"""The pipe on a real Redis: restarts, pauses, kicked out, sockets, users, large values, failover."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import uvloop

from gateway.core.secret import Secret
from gateway.settings.service import RedisSettings
from gateway.stores.pipe_store import PipeStore
from gateway.stores.sentinel import sentinel_store
from gateway.stores.store import StoreUnavailableError
from tests.faults.wire import eventually
from tests.integration.redis_server import RedisServer, need_redis

pytestmark = need_redis


@asynccontextmanager
async def linked(url: str, make: Any = PipeStore) -> AsyncIterator[PipeStore]:
    store = make(RedisSettings(url=Secret(url)), lambda *_: None)
    try:
        yield store
    finally:
        await store.close()


async def test_a_restart_between_two_questions_is_not_noticed(tmp_path: Path) -> None:
    with RedisServer(tmp_path) as redis:
        async with linked(redis.url) as store:
            await store.set("key", b"1", 60)
            redis.kill()
            redis.start()
            assert await store.get("key") is None
            assert await store.swap("key", b"2", 60) is None, "it knows no scripts any more"


async def test_scripts_flushed_are_told_again(tmp_path: Path) -> None:
    with RedisServer(tmp_path) as redis:
        async with linked(redis.url) as store:
            await store.swap("key", b"1", 60)
            redis.cli("script", "flush")
            assert await store.swap("key", b"2", 60) == b"1"


async def test_a_connection_that_the_server_closed_is_made_again_unnoticed(tmp_path: Path) -> None:
    with RedisServer(tmp_path) as redis:
        async with linked(redis.url) as store:
            await store.set("key", b"1", 60)
            for _ in range(3):
                redis.cli("client", "kill", "type", "normal", "skipme", "yes")
                assert await store.get("key") == b"1"


async def test_a_server_that_pauses_fails_its_callers_in_time_and_serves_the_next(tmp_path: Path) -> None:
    with RedisServer(tmp_path) as redis:
        async with linked(redis.url) as store:
            await store.set("key", b"1", 60)
            redis.cli("client", "pause", "500", "all")
            began_s = time.monotonic()
            with pytest.raises(StoreUnavailableError):
                await store.get("key")
            assert time.monotonic() - began_s < 0.35
            await asyncio.sleep(0.6)
            assert await store.get("key") == b"1"


def test_replies_that_lay_there_while_the_loop_was_busy_are_read_before_anybody_is_failed(tmp_path: Path) -> None:
    async def ask() -> None:
        with RedisServer(tmp_path) as redis:
            async with linked(redis.url) as store:
                await store.set("key", b"1", 60)
                for _ in range(3):
                    asked = asyncio.create_task(store.get("key"))
                    for _ in range(3):
                        await asyncio.sleep(0)
                    time.sleep(0.4)  # noqa: ASYNC251 - the loop is to be busy
                    assert await asked == b"1"

    # The gateway's own loop: it runs timers before it reads.
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(ask())


async def test_large_values_among_small_ones_are_each_whole(tmp_path: Path) -> None:
    with RedisServer(tmp_path) as redis:
        settings = RedisSettings(url=Secret(redis.url), timeout_s=5.0)
        store = PipeStore(settings, lambda *_: None)
        values = {f"{n}": bytes([n]) * (3_000_000 if n % 4 == 0 else 100) for n in range(40)}
        await asyncio.gather(*(store.set(key, value, 60) for key, value in values.items()))
        got = await asyncio.gather(*(store.get(key) for key in values))
        assert got == list(values.values())
        await store.close()


async def test_over_a_socket_in_a_database_by_a_user_under_a_name(tmp_path: Path) -> None:
    path = tmp_path / "redis.sock"
    with RedisServer(tmp_path, "--unixsocket", str(path)) as redis:
        redis.cli("acl", "setuser", "gate", "on", ">p/w:é", "~postern:*", "+get", "+set", "+select", "+client|setname")
        url = f"unix://{path}?db=3&username=gate&password=p%2Fw%3A%C3%A9&client_name=one"
        async with linked(url) as store:
            await store.set("key", b"1", 60)
            assert await store.get("key") == b"1"
            assert redis.cli("-n", "3", "dbsize") == "1"
            clients = redis.cli("client", "list")
        assert "name=one" in clients
        assert "user=gate" in clients


async def test_after_a_failover_the_new_master_is_found(tmp_path: Path) -> None:
    with RedisServer(tmp_path) as old, RedisServer(tmp_path, "--replicaof", f"127.0.0.1 {old.port}") as new:
        await eventually(lambda: "master_link_status:up" in new.cli("info", "replication"), 15.0, 0.1)
        watch = (f"sentinel monitor main 127.0.0.1 {old.port} 1", "sentinel down-after-milliseconds main 500")
        with RedisServer(tmp_path, *watch, kind="sentinel") as sentinel:
            url = f"redis+sentinel://127.0.0.1:{sentinel.port}/main"
            async with linked(url, sentinel_store) as store:
                await store.set("key", b"1", 60)
                await eventually(lambda: "slaves=1" in sentinel.cli("info", "sentinel"), 15.0, 0.1)
                # The old master lives on as a replica: only its refusals tell.
                await eventually(lambda: sentinel.cli("sentinel", "failover", "main") == "OK", 20.0, 0.5)
                await eventually(lambda: "role:slave" in old.cli("info", "replication"), 20.0, 0.1)

                async def is_kept() -> bool:
                    try:
                        await store.set("after", b"2", 60)
                    except StoreUnavailableError:
                        return False
                    return new.cli("exists", "postern:after") == "1"

                await eventually(is_kept, 10.0, 0.2)
