"""The learning log of a running gateway: one file of all workers, which training reads; without it, none."""

import asyncio
import json
import stat
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from router_models.data import load_prompts
from tests.faults.wire import ask, call, eventually, scrape
from tests.integration.redis_server import RedisServer, need_redis
from tests.running import RunningGateway, two_models
from tests.upstream import Upstream


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    async with Upstream() as one:
        yield one


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


async def mark(gateway: RunningGateway, request_id: str, mark: float) -> int:
    async with httpx2.AsyncClient(trust_env=False, timeout=20) as http:
        response = await http.post(gateway.url + "/feedback", json={"request_id": request_id, "mark": mark})
        return response.status_code


async def test_prompts_and_marks_are_written_and_read_by_training(upstream: Upstream, tmp_path: Path) -> None:
    path = tmp_path / "learning.jsonl"
    made = two_models(upstream.url, upstream.url, learning_log={"path": str(path)})
    async with RunningGateway(made, tmp_path) as gateway:
        answers = [await call(gateway.url, ask(f"prompt {number}", "auto")) for number in range(5)]
        await call(gateway.url, ask("pinned", "small"))
        await call(gateway.url, ask("my card is 4111 1111 1111 1111", "auto"))
        assert await mark(gateway, answers[0].headers["x-request-id"], 0.2) == 200
        assert await mark(gateway, answers[0].headers["x-request-id"], 0.9) == 200
        await eventually(lambda: len(rows_of(path)) == 7)
        rows = rows_of(path)
        assert [row["kind"] for row in rows].count("request") == 5
        assert [row["mark"] for row in rows if row["kind"] == "feedback"] == [0.2, 0.9]
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        asked = [conversation.turns[-1].text for conversation in load_prompts(path)]
        assert asked == [f"prompt {number}" for number in range(5)]
        assert (await scrape(gateway.admin_url)).sum("postern_learning_log_rows_total", outcome="written") == 7
        assert (await scrape(gateway.admin_url)).sum("postern_learning_log_rows_total", outcome="personal") == 1
        made.pop("learning_log")
        gateway.write(made)
        await gateway.wait_for("reloaded", 5)
        await call(gateway.url, ask("after it was turned off", "auto"))
        await asyncio.sleep(0.3)
        assert len(rows_of(path)) == 7
        assert "prompt 0" not in json.dumps(gateway.log)


@need_redis
async def test_workers_write_to_one_file_in_whole_lines(upstream: Upstream, tmp_path: Path) -> None:
    path = tmp_path / "learning.jsonl"
    with RedisServer(tmp_path) as redis:
        sections = {"learning_log": {"path": str(path)}, "redis": {"url": redis.url}}
        async with RunningGateway(
            two_models(upstream.url, upstream.url, **sections), tmp_path, "--workers", "2"
        ) as gateway:
            await asyncio.gather(*(call(gateway.url, ask(f"prompt {number}", "auto")) for number in range(40)))
        asked = {row["messages"][0]["content"] for row in rows_of(path)}
        assert asked == {f"prompt {number}" for number in range(40)}


async def test_a_log_that_cannot_be_written_harms_no_answer(upstream: Upstream, tmp_path: Path) -> None:
    made = two_models(upstream.url, upstream.url, learning_log={"path": str(tmp_path / "nowhere" / "file")})
    async with RunningGateway(made, tmp_path) as gateway:
        await gateway.wait_for("learning_log_failed")
        assert (await call(gateway.url, ask("hi", "auto"))).status == 200

        async def is_counted() -> bool:
            return (await scrape(gateway.admin_url)).sum("postern_learning_log_rows_total", outcome="failed") == 1

        await eventually(is_counted)
