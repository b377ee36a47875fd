"""Conversations in a real Redis: known to every replica, bounded in time, and not needed."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.api.test_conversations import CACHED, EASY, FRESH, PROOF, threshold_between, turns
from tests.faults.wire import Response, call, eventually, scrape
from tests.integration.redis_server import RedisServer, free_port, need_redis
from tests.running import RunningGateway, two_models
from tests.upstream import Upstream

pytestmark = need_redis

SESSION = "SECRET-CONVERSATION-7"


@pytest.fixture
async def upstreams() -> AsyncIterator[tuple[Upstream, Upstream]]:
    async with Upstream() as weak, Upstream() as strong:
        weak.script(FRESH)
        strong.script(FRESH, CACHED)
        yield weak, strong


def config(upstreams: tuple[Upstream, Upstream], url: str, kind: str = "session") -> dict[str, Any]:
    made = two_models(*(one.url for one in upstreams), redis={"url": url}, feedback=None)
    made["models"]["small"] |= {"context_tokens": 100_000, "price": {"input": 1, "output": 5, "cached_input": 0.1}}
    made["models"]["large"] |= {"price": {"input": 3, "output": 15, "cached_input": 0.3}}
    threshold = threshold_between(turns(PROOF, EASY[0]), turns(PROOF))
    made["routes"]["auto"]["policy"] = {"kind": kind, "threshold": threshold}
    return made


async def say(gateway: RunningGateway, *said: str) -> tuple[str, str]:
    body = json.dumps({"model": "auto", "messages": turns(*said), "max_tokens": 100}).encode()
    answer: Response = await call(gateway.url, body, x_postern_session=SESSION)
    assert answer.status == 200, answer.body
    return answer.headers["x-postern-model"], answer.headers["x-postern-reason"]


async def test_two_replicas_know_the_same_conversation(upstreams: tuple[Upstream, Upstream], tmp_path: Path) -> None:
    folder = tmp_path / "other"
    folder.mkdir()
    with RedisServer(tmp_path) as redis:
        made = config(upstreams, redis.url)
        async with RunningGateway(made, tmp_path) as one, RunningGateway(made, folder) as other:
            assert await say(one, PROOF) == ("large", "score")
            await eventually(lambda: redis.cli("dbsize") == "1")
            assert await say(other, PROOF, EASY[0]) == ("large", "session")
            key = redis.cli("keys", "postern:session:*")
            assert 200 < int(redis.cli("ttl", key)) <= 300
            assert SESSION not in key + redis.cli("--no-raw", "get", key)
            redis.cli("flushall")
            assert await say(one, PROOF, *EASY[:2]) == ("small", "score"), "forgotten: the score alone decides"


async def test_a_dead_redis_is_no_memory_and_no_trouble(upstreams: tuple[Upstream, Upstream], tmp_path: Path) -> None:
    async with RunningGateway(config(upstreams, f"redis://127.0.0.1:{free_port()}/0"), tmp_path) as gateway:
        assert await say(gateway, PROOF) == ("large", "score")
        assert await say(gateway, PROOF, EASY[0]) == ("small", "score")
        found = await scrape(gateway.admin_url)
        assert found.sum("postern_fail_open_total", stage="session") >= 2
        assert not [row for row in gateway.log if row["event"] in {"internal_error", "unreadable"}]


async def test_a_redis_that_dies_and_comes_back(upstreams: tuple[Upstream, Upstream], tmp_path: Path) -> None:
    upstreams[1].script(FRESH)  # what is cached for strangers too is no reason to stay
    with RedisServer(tmp_path) as redis:
        async with RunningGateway(config(upstreams, redis.url), tmp_path) as gateway:
            await say(gateway, PROOF)
            await eventually(lambda: redis.cli("dbsize") == "1")
            redis.kill()
            assert await say(gateway, PROOF, EASY[0]) == ("small", "score")
            redis.start()
            assert await say(gateway, PROOF, EASY[0], PROOF) == ("large", "score")

            async def is_kept() -> bool:
                await say(gateway, PROOF)
                return redis.cli("dbsize") == "1"

            await eventually(is_kept, 6.0, 0.1)
            assert await say(gateway, PROOF, EASY[0]) == ("large", "session")


@pytest.mark.parametrize(("kind", "operations"), [("complexity", 0), ("session", 3)])
async def test_only_routes_that_keep_conversations_ask_redis(
    upstreams: tuple[Upstream, Upstream], tmp_path: Path, kind: str, operations: int
) -> None:
    """A first turn is written; a later one is read and written."""
    with RedisServer(tmp_path) as redis:
        async with RunningGateway(config(upstreams, redis.url, kind), tmp_path) as gateway:
            await say(gateway, PROOF)
            await say(gateway, PROOF, EASY[0])

            async def count() -> float:
                told = await scrape(gateway.admin_url)
                return told.sum("postern_redis_seconds_count") - told.sum(
                    "postern_redis_seconds_count", operation="ping"
                )

            async def is_reached() -> bool:
                return await count() >= operations

            await eventually(is_reached)
            assert await count() == operations
