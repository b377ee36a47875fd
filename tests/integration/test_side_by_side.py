"""Routers side by side and swapped under load, in a running gateway."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.faults.wire import ask, call, eventually, scrape
from tests.integration.redis_server import RedisServer, need_redis
from tests.routers import copy_router, version_of, write_version
from tests.running import RunningGateway, two_models
from tests.upstream import Upstream

LOW = {"edges": [-1.0], "share": [0.5, 0.5]}
"""A reference that no live score can match: half of the scores of training were below -1."""


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    async with Upstream() as one:
        yield one


def config(
    upstream: Upstream, router: Path | str, routers: dict[str, Any] | None = None, **more: Any
) -> dict[str, Any]:
    made = two_models(upstream.url, upstream.url, **more)
    made["routes"]["auto"]["policy"] = {"router": str(router), "routers": routers or {}}
    return made


async def send(gateway: RunningGateway, count: int, first: int = 0) -> list[Any]:
    return [await call(gateway.url, ask(f"prompt {number}", "auto")) for number in range(first, first + count)]


async def total(gateway: RunningGateway, name: str, **labels: str) -> float:
    return (await scrape(gateway.admin_url)).sum(name, **labels)


async def test_a_share_decides_for_its_part_and_each_conversation_stays(upstream: Upstream, tmp_path: Path) -> None:
    other = copy_router(tmp_path / "other", b"other")
    async with RunningGateway(config(upstream, "default", {str(other): {"share": 0.5}}), tmp_path) as gateway:
        answers = [*await send(gateway, 40), *await send(gateway, 40)]
        assert {answer.status for answer in answers} == {200}
        scrape_ = "postern_router_requests_total"
        main = await total(gateway, scrape_, route="auto", router="default", mode="main")
        share = await total(gateway, scrape_, route="auto", router=str(other), mode="share")
        assert main + share == 80
        assert 20 <= share <= 60
        assert (main % 2, share % 2) == (0, 0), "the second time, every conversation went where it had gone"
        told = [await call(gateway.url, ask(f"prompt {number}", "auto"), path="/v1/route") for number in range(40)]
        assert sum(each.json["router"] == str(other) for each in told) == share / 2


async def test_a_shadow_judges_along_and_changes_no_answer(upstream: Upstream, tmp_path: Path) -> None:
    shadow = str(copy_router(tmp_path / "next", b"next", reference={"score": LOW}))
    async with RunningGateway(config(upstream, "default", {shadow: {"shadow": True}}), tmp_path) as gateway:
        answers = await send(gateway, 200)
        assert {answer.headers["x-postern-reason"] for answer in answers} == {"score"}

        async def judged_all() -> bool:
            return await total(gateway, "postern_router_requests_total", router=shadow, mode="shadow") == 200

        await eventually(judged_all)
        assert await total(gateway, "postern_router_agreement_total", router=shadow, agrees="true") == 200
        assert await total(gateway, "postern_router_agreement_total", agrees="false") == 0
        assert await total(gateway, "postern_score_count", route="auto") == 200
        assert await total(gateway, "postern_drift_psi", router=shadow, signal="score") > 1
        assert await total(gateway, "postern_classify_seconds_count", router=shadow) == 200
        assert await total(gateway, "postern_fail_open_total") == 0


async def test_a_router_is_swapped_under_load_and_never_by_a_half_written_one(
    upstream: Upstream, tmp_path: Path
) -> None:
    router = copy_router(tmp_path / "mine", b"one", reference={"score": LOW})
    model, manifest = version_of(b"two")
    async with RunningGateway(config(upstream, router), tmp_path) as gateway:
        is_over, answers = asyncio.Event(), []

        async def load() -> None:
            while not is_over.is_set():
                answers.extend(await send(gateway, 10, len(answers)))

        clients = [asyncio.create_task(load()) for _ in range(4)]
        (router / "model.onnx").write_bytes(model[: len(model) // 2])
        refused = await gateway.wait_for("router_refused", 8)
        (router / "model.onnx").write_bytes(model)
        (router / "manifest.json").write_bytes(manifest)
        swapped = await gateway.wait_for("router_swapped", 8)
        assert swapped["old"] == refused["kept"] != swapped["version"]
        assert swapped["version"].startswith(json.loads(manifest)["sha256"][:12])
        is_over.set()
        await asyncio.gather(*clients)
        assert len(answers) > 100
        assert {(answer.status, answer.headers["x-postern-reason"]) for answer in answers} == {(200, "score")}
        assert len([row for row in gateway.log if row["event"] == "router_refused"]) == 1
        assert not [row for row in gateway.log if row["event"] in {"internal_error", "unreadable", "reloaded"}]
        drift = await total(gateway, "postern_drift_psi", router=str(router))
        assert drift != drift, "what was told of the old version is NaN, and the new one has no reference"


async def test_a_swapped_router_shares_no_cached_answer_with_the_old_one(upstream: Upstream, tmp_path: Path) -> None:
    router = copy_router(tmp_path / "mine", b"one")
    async with RunningGateway(config(upstream, router, cache={"exact": {}}), tmp_path) as gateway:
        outcomes = [(await send(gateway, 1))[0].headers["x-postern-cache"] for _ in range(2)]
        write_version(router, b"two")
        await gateway.wait_for("router_swapped", 8)
        outcomes += [(await send(gateway, 1))[0].headers["x-postern-cache"] for _ in range(2)]
        assert outcomes == ["miss", "hit", "miss", "hit"]


async def test_a_reload_keeps_the_routers_and_what_was_seen_of_them(upstream: Upstream, tmp_path: Path) -> None:
    router = copy_router(tmp_path / "mine", b"one", reference={"score": LOW})
    async with RunningGateway(config(upstream, router), tmp_path) as gateway:
        await send(gateway, 190)
        gateway.write(config(upstream, router, limits={"max_in_flight": 99}))
        await gateway.wait_for("reloaded", 5)
        assert await total(gateway, "postern_drift_psi") == 0
        await send(gateway, 10)
        assert await total(gateway, "postern_drift_psi", router=str(router), signal="score") > 1
        since = len(gateway.log)
        gateway.write(config(upstream, "default"))
        await gateway.wait_for("reloaded", 5, since=since)
        drift = await total(gateway, "postern_drift_psi", router=str(router), signal="score")
        assert drift != drift, "a router that is gone tells nothing"


@need_redis
async def test_every_worker_swaps_and_drift_is_told_of_them_as_of_one(upstream: Upstream, tmp_path: Path) -> None:
    router = copy_router(tmp_path / "mine", b"one", reference={"score": LOW})
    with RedisServer(tmp_path) as redis:
        made = config(upstream, router, redis={"url": redis.url})
        async with RunningGateway(made, tmp_path, "--workers", "2") as gateway:

            async def is_told() -> bool:
                await send(gateway, 100)
                return await total(gateway, "postern_drift_psi", router=str(router), signal="score") > 1

            await eventually(is_told, 30.0)
            write_version(router, b"two")

            async def both_swapped() -> bool:
                return len([row for row in gateway.log if row["event"] == "router_swapped"]) == 2

            await eventually(both_swapped, 10.0)
            assert {answer.status for answer in await send(gateway, 10)} == {200}
