"""The cache in a real Redis: shared, failing open in every way Redis can fail, and keeping its secrets."""

import asyncio
import subprocess
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from gateway.core.secret import Secret
from gateway.settings.service import RedisSettings
from gateway.stores.pipe_store import PipeStore
from tests.faults.wire import Response, Wire, ask, call, eventually, get, post, scrape
from tests.integration.redis_server import RedisServer, free_port, need_redis
from tests.running import RunningGateway, two_models
from tests.upstream import Answer, Upstream

pytestmark = need_redis

PASSWORD = "hunter2hunter2"


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    async with Upstream() as one:
        yield one


def config(upstream: Upstream, url: str) -> dict[str, Any]:
    return two_models(upstream.url, upstream.url, redis={"url": url}, cache={"exact": {}}, feedback=None)


async def hit(gateway: RunningGateway, body: bytes) -> bool:
    answer = await call(gateway.url, body)
    assert answer.status == 200
    return answer.headers["x-postern-cache"] == "hit"


async def caches(gateway: RunningGateway, prompt: str = "cached?") -> None:
    """The same request becomes a hit."""
    body = ask(prompt)

    async def is_hit() -> bool:
        return await hit(gateway, body)

    await eventually(is_hit, 6.0, 0.1)


async def fail_opens(gateway: RunningGateway) -> float:
    return (await scrape(gateway.admin_url)).sum("postern_fail_open_total", stage="cache")


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_two_gateways_share_their_answers(upstream: Upstream, tmp_path: Path, stream: bool) -> None:
    folder = tmp_path / "other"
    folder.mkdir()
    with RedisServer(tmp_path) as redis:
        made = config(upstream, redis.url)
        async with RunningGateway(made, tmp_path) as one, RunningGateway(made, folder) as other:
            body = ask("shared", stream=stream)
            first = await call(one.url, body)
            await eventually(lambda: redis.cli("dbsize") == "1")
            second = await call(other.url, body)
            assert (first.headers["x-postern-cache"], second.headers["x-postern-cache"]) == ("miss", "hit")
            assert second.text == first.text
            assert len(upstream.requests) == 1


async def test_without_redis_the_gateway_starts_and_serves(upstream: Upstream, tmp_path: Path) -> None:
    """litellm#3400: no start without Redis."""
    async with RunningGateway(config(upstream, f"redis://127.0.0.1:{free_port()}/0"), tmp_path) as gateway:
        for _ in range(5):
            assert not await hit(gateway, ask("hi"))
        assert (await get(gateway.root, "/health/ready")).status == 200
        assert await fail_opens(gateway) >= 5
        assert not [row for row in gateway.log if row["event"] in {"internal_error", "unreadable"}]


@pytest.mark.parametrize("scheme", ["redis+cluster", "redis+sentinel"])
async def test_without_its_cluster_the_gateway_serves(upstream: Upstream, tmp_path: Path, scheme: str) -> None:
    url = f"{scheme}://127.0.0.1:{free_port()}" + ("/mymaster" if "sentinel" in scheme else "")
    async with RunningGateway(config(upstream, url), tmp_path) as gateway:
        for n in range(4):
            assert not await hit(gateway, ask(f"hi {n}"))
        assert await fail_opens(gateway) >= 3


async def timed(url: str, body: bytes) -> tuple[float, Response]:
    started_s = time.monotonic()
    answer = await call(url, body)
    return time.monotonic() - started_s, answer


async def test_a_redis_that_hangs_slows_a_few_and_stops_none(upstream: Upstream, tmp_path: Path) -> None:
    """litellm#35273: a slow Redis hangs all while liveness is green."""
    with RedisServer(tmp_path) as redis:
        async with RunningGateway(config(upstream, redis.url), tmp_path) as gateway:
            await caches(gateway)
            redis.pause()
            slow = await asyncio.gather(*(timed(gateway.url, ask(f"under load {n}")) for n in range(30)))
            assert [answer.status for _, answer in slow] == [200] * 30
            assert max(took_s for took_s, _ in slow) < 0.5 + 0.3
            quick = [await timed(gateway.url, ask(f"breaker {n}")) for n in range(20)]
            assert all(answer.status == 200 for _, answer in quick)
            assert sorted(took_s for took_s, _ in quick)[17] < 0.1, "the breaker is open: nearly nobody waits"
            assert await fail_opens(gateway) >= 50
            redis.resume()
            await caches(gateway, "again?")


async def test_a_client_that_leaves_during_the_lookup_is_counted(upstream: Upstream, tmp_path: Path) -> None:
    with RedisServer(tmp_path) as redis:
        async with RunningGateway(config(upstream, redis.url), tmp_path) as gateway:
            await caches(gateway)
            asked = len(upstream.requests)
            redis.pause()
            wire = await Wire.connect(gateway.url)
            await wire.send(post(ask("leaving")))
            await asyncio.sleep(0.08)
            await wire.close()
            await asyncio.sleep(0.3)
            redis.resume()
            assert (await scrape(gateway.admin_url)).sum("postern_cancelled_total", phase="lookup") == 1
            assert len(upstream.requests) == asked
            # The reply to the abandoned lookup never reaches another (CVE-2023-28858).
            for n in range(10):
                assert not await hit(gateway, ask(f"stranger {n}"))
            await caches(gateway, "leaving")


async def test_a_redis_that_dies_and_returns_is_used_again(upstream: Upstream, tmp_path: Path) -> None:
    with RedisServer(tmp_path) as redis:
        async with RunningGateway(config(upstream, redis.url), tmp_path) as gateway:
            await caches(gateway)
            assert (await scrape(gateway.admin_url)).sum("postern_redis_up") == 1
            redis.kill()
            took = [await timed(gateway.url, ask(f"dead {n}")) for n in range(10)]
            assert all(answer.status == 200 and took_s < 0.5 for took_s, answer in took)

            async def is_told(up: int) -> bool:
                return (await scrape(gateway.admin_url)).sum("postern_redis_up") == up

            await eventually(lambda: is_told(0), 5)
            redis.start()
            await caches(gateway, "again?")
            await eventually(lambda: is_told(1), 5)
        events = [row["event"] for row in gateway.log if row["event"].startswith("store_")]
        assert events == ["store_failing", "store_answers"]


async def test_a_redis_that_dies_and_returns_is_told_while_nobody_asks(upstream: Upstream, tmp_path: Path) -> None:
    with RedisServer(tmp_path) as redis:
        async with RunningGateway(config(upstream, redis.url), tmp_path) as gateway:

            async def is_told(up: int) -> bool:
                return (await scrape(gateway.admin_url)).sum("postern_redis_up") == up

            redis.kill()
            await eventually(lambda: is_told(0), 8)
            redis.start()
            await eventually(lambda: is_told(1), 8)


async def test_a_value_under_a_strangers_key_is_not_served(upstream: Upstream, tmp_path: Path) -> None:
    with RedisServer(tmp_path) as redis:
        async with RunningGateway(config(upstream, redis.url), tmp_path) as gateway:
            upstream.script(Answer("mine"), Answer("yours"))
            await call(gateway.url, ask("mine"))
            await eventually(lambda: redis.cli("dbsize") == "1")
            (mine,) = redis.cli("keys", "*").split()
            await call(gateway.url, ask("yours"))
            await eventually(lambda: redis.cli("dbsize") == "2")
            (yours,) = set(redis.cli("keys", "*").split()) - {mine}
            assert await hit(gateway, ask("yours"))
            redis.cli("copy", mine, yours, "replace")
            answer = await call(gateway.url, ask("yours"))
            assert (answer.headers["x-postern-cache"], answer.text) == ("miss", "yours")


@pytest.mark.parametrize("value", [b"", b"junk", b"\x96\xa1k\xa1m\xc0\xc3\x00\xc4\x00"])
async def test_a_value_that_is_none_is_a_miss(upstream: Upstream, tmp_path: Path, value: bytes) -> None:
    with RedisServer(tmp_path) as redis:
        async with RunningGateway(config(upstream, redis.url), tmp_path) as gateway:
            await caches(gateway)
            (key,) = redis.cli("keys", "*").split()
            redis.put(key, value)
            assert not await hit(gateway, ask("cached?"))


async def test_the_password_works_and_is_told_nobody(upstream: Upstream, tmp_path: Path) -> None:
    with RedisServer(tmp_path, "--requirepass", PASSWORD) as redis:
        url = f"redis://:{PASSWORD}@127.0.0.1:{redis.port}/0"
        async with RunningGateway(config(upstream, url), tmp_path) as gateway:
            await caches(gateway)
            redis.kill()
            await call(gateway.url, ask("dead"))
            shown = await get(gateway.admin_url, "/admin/config")
        told = [str(gateway.log).encode(), shown.body]
    assert shown.status == 200
    assert not [one for one in told if PASSWORD.encode() in one]


async def test_a_wrong_password_fails_open_and_is_told_nobody(upstream: Upstream, tmp_path: Path) -> None:
    with RedisServer(tmp_path, "--requirepass", "another") as redis:
        url = f"redis://:{PASSWORD}@127.0.0.1:{redis.port}/0"
        async with RunningGateway(config(upstream, url), tmp_path) as gateway:
            assert not await hit(gateway, ask("hi"))
            assert await fail_opens(gateway) >= 1
    assert PASSWORD not in str(gateway.log)


def make_certificate(key: Path, certificate: Path) -> None:
    """Make a key and a certificate for 127.0.0.1, signed by itself."""
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
    files = ["-keyout", str(key), "-out", str(certificate)]
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", *names, *files]
    subprocess.run(command, check=True, capture_output=True)


async def test_over_tls(upstream: Upstream, tmp_path: Path) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    make_certificate(key, certificate)
    tls_port = free_port()
    files = ("--tls-cert-file", str(certificate), "--tls-key-file", str(key), "--tls-ca-cert-file", str(certificate))
    with RedisServer(tmp_path, "--tls-port", str(tls_port), "--tls-auth-clients", "no", *files):
        url = f"rediss://127.0.0.1:{tls_port}/0?ssl_ca_certs={certificate}"
        async with RunningGateway(config(upstream, url), tmp_path) as gateway:
            await caches(gateway)


async def test_through_a_sentinel(upstream: Upstream, tmp_path: Path) -> None:
    with RedisServer(tmp_path) as redis:
        watch = f"sentinel monitor main 127.0.0.1 {redis.port} 1"
        with RedisServer(tmp_path, watch, kind="sentinel") as sentinel:
            url = f"redis+sentinel://127.0.0.1:{sentinel.port}/main"
            async with RunningGateway(config(upstream, url), tmp_path) as gateway:
                await caches(gateway)
                assert redis.cli("dbsize") == "1"


async def test_a_sentinels_password_is_read_percent_encoded(upstream: Upstream, tmp_path: Path) -> None:
    with RedisServer(tmp_path, "--requirepass", "p/w:é@1") as redis:
        watch = f"sentinel monitor main 127.0.0.1 {redis.port} 1"
        with RedisServer(tmp_path, watch, kind="sentinel") as sentinel:
            url = f"redis+sentinel://:p%2Fw%3A%C3%A9%401@127.0.0.1:{sentinel.port}/main"
            async with RunningGateway(config(upstream, url), tmp_path) as gateway:
                await caches(gateway)


async def test_a_crowd_is_no_outage(tmp_path: Path) -> None:
    """redis-py's pools refuse the 101st caller."""
    with RedisServer(tmp_path) as redis:
        store = PipeStore(RedisSettings(url=Secret(redis.url)), lambda *_: None)
        await store.set("key", b"1", 60)
        for _ in range(3):
            assert await asyncio.gather(*(store.get("key") for _ in range(300))) == [b"1"] * 300
        assert int(redis.cli("info", "clients").partition("connected_clients:")[2].split()[0]) == 2
        await store.close()


async def test_every_operation_is_timed(upstream: Upstream, tmp_path: Path) -> None:
    with RedisServer(tmp_path) as redis:
        async with RunningGateway(config(upstream, redis.url), tmp_path) as gateway:
            await call(gateway.url, ask("hi"))
            await eventually(lambda: redis.cli("dbsize") == "1")
            await call(gateway.url, ask("hi"))

            async def are_counted() -> bool:
                found = await scrape(gateway.admin_url)
                counts = [found.sum("postern_redis_seconds_count", operation=one) for one in ("get", "set")]
                return counts == [2, 1] and found.sum("postern_redis_seconds_sum") > 0

            await eventually(are_counted)


async def test_in_a_cluster(upstream: Upstream, tmp_path: Path) -> None:
    options = ("--cluster-enabled", "yes")
    with (
        RedisServer(tmp_path, *options) as one,
        RedisServer(tmp_path, *options) as two,
        RedisServer(tmp_path, *options) as three,
    ):
        nodes = [f"127.0.0.1:{node.port}" for node in (one, two, three)]
        one.cli("--cluster", "create", *nodes, "--cluster-yes")
        await eventually(lambda: "cluster_state:ok" in one.cli("cluster", "info"), 15.0, 0.1)
        async with RunningGateway(config(upstream, f"redis+cluster://{nodes[0]}"), tmp_path) as gateway:
            for n in range(6):
                await caches(gateway, f"prompt {n}")
            assert sum(int(node.cli("dbsize")) for node in (one, two, three)) == 6
