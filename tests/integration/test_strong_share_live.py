"""A share that is held by running gateways: alone, together through a real Redis, and while that is away."""

import asyncio
import random
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.faults.wire import ask, call, eventually, scrape
from tests.integration.redis_server import RedisServer, free_port, need_redis
from tests.running import RunningGateway

TARGET = 0.3
WORDS = [
    *("prove", "invariant", "lemma", "rewrite", "poem", "cat", "hello", "translate", "bound", "integral", "kernel"),
    *("thanks", "list", "why", "how", "fix", "segfault", "eigenvalue", "contract", "clause", "dosage", "voltage"),
]


def config(**sections: Any) -> dict[str, Any]:
    quick = {"backend": "simulated", "simulated": {"ttft_s": 0, "tokens_per_s": 0}, "context_tokens": 100_000}
    return {
        "models": {"small": quick, "large": quick},
        "routes": {"auto": {"models": ["small", "large"], "policy": {"strong_share": TARGET}}},
        **sections,
    }


def prompts(count: int, seed: int) -> list[bytes]:
    rng = random.Random(seed)
    return [ask(" ".join(rng.choices(WORDS, k=rng.randint(1, 120))), "auto") for _ in range(count)]


async def send(gateways: list[RunningGateway], bodies: list[bytes], **headers: str) -> list[bool]:
    """Send each to one of the gateways, four at a time; tell which went to the strong side."""
    went: list[bool] = []
    unjudged = 0
    for start in range(0, len(bodies), 4):
        four = [
            call(gateways[(start + place) % len(gateways)].url, body, **headers)
            for place, body in enumerate(bodies[start : start + 4])
        ]
        for answer in await asyncio.gather(*four):
            assert answer.status == 200
            if answer.headers["x-postern-reason"] == "classifier_unavailable":
                unjudged += 1  # it failed open: on a busy machine 50 ms can pass without a turn
                continue
            assert answer.headers["x-postern-reason"] == "score"
            over = float(answer.headers["x-postern-score"]) - float(answer.headers["x-postern-threshold"])
            went.append(answer.headers["x-postern-tier"] == "strong")
            assert abs(over) < 6e-5 or went[-1] == (over > 0)
    assert unjudged <= len(bodies) / 50
    return went


def error(went: list[bool]) -> float:
    return abs(sum(went) / len(went) - TARGET)


async def threshold(gateway: RunningGateway) -> float:
    return (await scrape(gateway.admin_url)).sum("postern_threshold", route="auto")


async def test_the_share_is_held_on_prompts_that_nobody_labelled_and_the_gauge_tells(tmp_path: Path) -> None:
    async with RunningGateway(config(), tmp_path) as gateway:
        await send([gateway], prompts(500, 1))
        assert error(await send([gateway], prompts(600, 2))) < 0.03
        answer = await call(gateway.url, ask("a last one", "auto"), **{"x-postern-tier": "weak"})
        told = float(answer.headers["x-postern-threshold"])

        async def is_told() -> bool:
            return abs(await threshold(gateway) - told) < 1e-6

        await eventually(is_told, 3.0, 0.1)
        await send_forced(gateway)
        again = await call(gateway.url, ask("and again", "auto"), **{"x-postern-tier": "weak"})
        assert float(again.headers["x-postern-threshold"]) == told


async def send_forced(gateway: RunningGateway) -> None:
    """What the held threshold did not decide does not move it."""
    for headers in ({"x-postern-tier": "strong"}, {"x-postern-threshold": "0.01"}):
        for body in prompts(20, 3):
            assert (await call(gateway.url, body, **headers)).status == 200


async def test_a_reload_keeps_what_was_learned(tmp_path: Path) -> None:
    made = config()
    async with RunningGateway(made, tmp_path) as gateway:
        await send([gateway], prompts(300, 1))
        before = await call(gateway.url, ask("hi", "auto"), **{"x-postern-tier": "weak"})
        gateway.write(config(limits={"max_in_flight": 99}))
        await gateway.wait_for("reloaded")
        after = await call(gateway.url, ask("hi", "auto"), **{"x-postern-tier": "weak"})
        assert after.headers["x-postern-threshold"] == before.headers["x-postern-threshold"]


@need_redis
async def test_four_gateways_hold_it_together_and_a_new_one_begins_where_they_are(tmp_path: Path) -> None:
    with RedisServer(tmp_path) as redis:
        made = config(redis={"url": redis.url})
        async with AsyncExitStack() as stack:
            gateways = []
            for number in range(4):
                (tmp_path / str(number)).mkdir()
                gateways.append(await stack.enter_async_context(RunningGateway(made, tmp_path / str(number))))
            await send(gateways, prompts(500, 4))
            await asyncio.sleep(1.5)
            # They exchange once a second, and 800 requests take little more: chance alone is 0.016 here.
            assert error(await send(gateways, prompts(800, 5))) < 0.045
            assert redis.cli("keys", "postern:strong-share:*").count("auto") == 1
            await asyncio.sleep(1.5)
            held = await threshold(gateways[0])
        (tmp_path / "new").mkdir()
        async with RunningGateway(made, tmp_path / "new") as new:

            async def is_as_held() -> bool:
                return abs(await threshold(new) - held) < 0.03

            await eventually(is_as_held, 5.0, 0.1)


@need_redis
async def test_workers_hold_it_together_and_show_one_threshold(tmp_path: Path) -> None:
    with RedisServer(tmp_path) as redis:
        made = config(redis={"url": redis.url}, server={"workers": 2})
        async with RunningGateway(made, tmp_path) as gateway:

            async def serves() -> bool:
                return (await call(gateway.url, ask("hi", "small"))).status == 200

            await eventually(serves, 15.0, 0.2)
            await send([gateway], prompts(400, 9))
            await asyncio.sleep(1.5)
            assert error(await send([gateway], prompts(700, 10))) < 0.03
            assert 0.0 < await threshold(gateway) < 1.0


@need_redis
async def test_a_redis_that_dies_stops_nobody_and_is_counted(tmp_path: Path) -> None:
    with RedisServer(tmp_path) as redis:
        async with RunningGateway(config(redis={"url": redis.url}), tmp_path) as gateway:
            await send([gateway], prompts(200, 6))
            redis.kill()
            assert error(await send([gateway], prompts(700, 7))) < 0.03

            async def is_counted() -> bool:
                scraped = await scrape(gateway.admin_url)
                return scraped.sum("postern_fail_open_total", stage="strong_share") >= 1

            await eventually(is_counted, 5.0, 0.1)
            assert not [row for row in gateway.log if row["event"] in {"internal_error", "unreadable"}]
            redis.start()

            async def is_back() -> bool:
                return redis.cli("keys", "postern:strong-share:*") != ""

            await eventually(is_back, 8.0, 0.2)


@pytest.mark.parametrize("share", [0.0, 1.0])
async def test_a_gateway_without_its_redis_starts_and_holds_even_none_and_all(tmp_path: Path, share: float) -> None:
    made = config(redis={"url": f"redis://127.0.0.1:{free_port()}/0"})
    made["routes"]["auto"]["policy"]["strong_share"] = share
    async with RunningGateway(made, tmp_path) as gateway:
        assert set(await send([gateway], prompts(20, 8))) == {share == 1.0}


async def test_what_a_route_no_longer_has_is_no_longer_told(tmp_path: Path) -> None:
    """And of a route of one model no threshold at all: it would look as if a router sent all to the strongest."""
    both = ["small", "large"]
    routes = {
        "auto": {"models": both},
        "held": {"models": both, "policy": {"strong_share": TARGET}},
        "single": {"models": ["large"], "policy": {"strong_share": TARGET}},
    }
    async with RunningGateway(config(routes=routes), tmp_path) as gateway:
        told = await scrape(gateway.admin_url)
        assert told.by("route", "postern_threshold").keys() == {"auto", "held"}
        assert told.by("route", "postern_strong_share_wanted") == {"held": TARGET}
        gateway.write(config(routes={"auto": {"models": both}}))
        await gateway.wait_for("reloaded")
        told = await scrape(gateway.admin_url)
        assert told.by("route", "postern_threshold").keys() == {"auto"}
        assert told.by("route", "postern_strong_share_wanted") == {}
