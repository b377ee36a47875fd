"""Feedback with a real Redis: any replica takes a mark of any other's answer, and no failing Redis harms an answer."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from gateway.auth.keys import hash_key
from tests.faults.wire import ask, call, eventually, scrape
from tests.integration.redis_server import RedisServer, free_port, need_redis
from tests.running import RunningGateway, two_models
from tests.upstream import Upstream

pytestmark = need_redis

ALICE, BOB = "pk-alice-SECRET", "pk-bob-SECRET"


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    async with Upstream() as one:
        yield one


@pytest.fixture
async def http() -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(trust_env=False, timeout=20) as one:
        yield one


def config(upstream: Upstream, url: str, **sections: Any) -> dict[str, Any]:
    keys = {"clients": {name: {"sha256": hash_key(key)} for name, key in (("alice", ALICE), ("bob", BOB))}}
    return two_models(upstream.url, upstream.url, redis={"url": url}, keys=keys, **sections)


async def chat(http: httpx2.AsyncClient, gateway: RunningGateway, who: str = ALICE) -> str:
    body = {"model": "auto", "messages": [{"role": "user", "content": "PROMPT-SECRET"}]}
    headers = {"Authorization": f"Bearer {who}"}
    response = await http.post(gateway.url + "/chat/completions", json=body, headers=headers)
    assert response.status_code == 200
    return str(response.headers["x-request-id"])


async def mark(http: httpx2.AsyncClient, gateway: RunningGateway, request_id: str, who: str = ALICE) -> httpx2.Response:
    body = {"request_id": request_id, "good": True}
    return await http.post(gateway.url + "/feedback", json=body, headers={"Authorization": f"Bearer {who}"})


async def test_another_replica_takes_the_mark_and_only_from_the_one_who_asked(
    upstream: Upstream, tmp_path: Path, http: httpx2.AsyncClient
) -> None:
    folder = tmp_path / "other"
    folder.mkdir()
    with RedisServer(tmp_path) as redis:
        made = config(upstream, redis.url, feedback={"ttl_s": 500})
        async with RunningGateway(made, tmp_path) as one, RunningGateway(made, folder) as other:
            request_id = await chat(http, one)
            await eventually(lambda: redis.cli("dbsize") == "1")
            [key] = redis.cli("keys", "*").split()
            assert 400 < int(redis.cli("ttl", key)) <= 500
            assert request_id not in key
            kept = redis.cli("--no-raw", "get", key)
            assert "SECRET" not in kept
            assert (await mark(http, other, request_id, BOB)).status_code == 404
            assert (await mark(http, other, request_id)).json()["replaced"] is False
            assert (await mark(http, one, request_id)).json()["replaced"] is True
            found = [(await scrape(each.admin_url)).sum("postern_feedback_total") for each in (one, other)]
            assert found == [0, 1]


async def test_workers_share_what_they_answered(upstream: Upstream, tmp_path: Path, http: httpx2.AsyncClient) -> None:
    with RedisServer(tmp_path) as redis:
        async with RunningGateway(config(upstream, redis.url), tmp_path, "--workers", "2") as gateway:
            asked = [await chat(http, gateway) for _ in range(8)]
            await eventually(lambda: redis.cli("dbsize") == "8")
            found = [(await mark(http, gateway, request_id)).status_code for request_id in asked]
            assert set(found) == {200}

            async def is_told() -> bool:
                return (await scrape(gateway.admin_url)).sum("postern_feedback_total") == 8

            await eventually(is_told)


async def test_without_redis_answers_come_and_marks_are_told_to_come_again(
    upstream: Upstream, tmp_path: Path, http: httpx2.AsyncClient
) -> None:
    async with RunningGateway(config(upstream, f"redis://127.0.0.1:{free_port()}/0"), tmp_path) as gateway:
        request_id = await chat(http, gateway)
        response = await mark(http, gateway, request_id)
        assert (response.status_code, response.json()["error"]["code"]) == (503, "feedback_unavailable")
        assert int(response.headers["retry-after"]) >= 1

        async def is_counted() -> bool:
            return (await scrape(gateway.admin_url)).sum("postern_fail_open_total", stage="feedback") >= 1

        await eventually(is_counted)
        assert not [row for row in gateway.log if row["event"] in {"internal_error", "unreadable"}]


async def test_a_redis_that_hangs_delays_no_answer(
    upstream: Upstream, tmp_path: Path, http: httpx2.AsyncClient
) -> None:
    with RedisServer(tmp_path) as redis:
        async with RunningGateway(config(upstream, redis.url), tmp_path) as gateway:
            await chat(http, gateway)
            redis.pause()
            try:
                loop = asyncio.get_running_loop()
                for _ in range(5):
                    began_s = loop.time()
                    await chat(http, gateway)
                    assert loop.time() - began_s < 1.0
            finally:
                redis.resume()


async def test_feedback_that_is_turned_off_writes_nothing_and_is_not_there(
    upstream: Upstream, tmp_path: Path, http: httpx2.AsyncClient
) -> None:
    with RedisServer(tmp_path) as redis:
        async with RunningGateway(config(upstream, redis.url, feedback=None), tmp_path) as gateway:
            request_id = await chat(http, gateway)
            await asyncio.sleep(0.2)
            assert redis.cli("dbsize") == "0"
            response = await mark(http, gateway, request_id)
            assert (response.status_code, response.json()["error"]["code"]) == (404, "not_found")


async def test_what_gathered_is_stored_at_a_stop(upstream: Upstream, tmp_path: Path) -> None:
    with RedisServer(tmp_path) as redis:
        async with RunningGateway(config(upstream, redis.url), tmp_path) as gateway:
            answers = await asyncio.gather(*(call(gateway.url, ask(f"go {number}")) for number in range(5)))
            assert {answer.status for answer in answers} == {200}
        assert redis.cli("dbsize") == "5"
        assert not [row for row in gateway.log if row["event"] == "unreadable"], json.dumps(gateway.log)
