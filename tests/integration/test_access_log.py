"""The access log of a serving gateway: no row is lost at a stop, and no reader can hold the gateway up."""

import asyncio
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import yaml

from tests.faults.wire import ask, call
from tests.integration.redis_server import RedisServer, need_redis
from tests.running import RunningGateway

MODEL = {"backend": "simulated", "simulated": {"ttft_s": 0, "tokens_per_s": 0}}
CONFIG: dict[str, Any] = {"models": {"small": MODEL}, "routes": {"auto": {"models": ["small"]}}}


def rows_of(gateway: RunningGateway) -> set[str]:
    return {row["request_id"] for row in gateway.log if row["event"] == "request"}


async def ask_many(url: str, count: int) -> None:
    async def ask_some(numbers: range) -> None:
        for number in numbers:
            answer = await call(url, ask("hi", model="auto"), **{"x-request-id": f"r{number}"})
            assert answer.status == 200

    await asyncio.gather(*(ask_some(range(start, count, 8)) for start in range(8)))


async def test_at_sigterm_every_answer_has_its_row(tmp_path: Path) -> None:
    async with RunningGateway(CONFIG, tmp_path) as gateway:
        await ask_many(gateway.url, 40)
        gateway.signal(signal.SIGTERM)
        assert await gateway.process.wait() == 0
    assert rows_of(gateway) == {f"r{number}" for number in range(40)}


@need_redis
async def test_at_sigterm_every_worker_has_written_its_rows(tmp_path: Path) -> None:
    with RedisServer(tmp_path) as redis:
        config = CONFIG | {"redis": {"url": redis.url}}
        async with RunningGateway(config, tmp_path, "--workers", "2") as gateway:
            await ask_many(gateway.url, 200)
            gateway.signal(signal.SIGTERM)
            assert await gateway.process.wait() == 0
    assert rows_of(gateway) == {f"r{number}" for number in range(200)}
    assert not [row for row in gateway.log if row["event"] == "unreadable"]


async def test_a_reader_of_the_log_that_is_stuck_holds_up_no_request(tmp_path: Path) -> None:
    """A full pipe: 64 KiB, some 150 rows. A log written as it comes stops the event loop there."""
    (tmp_path / "postern.yaml").write_text(yaml.safe_dump(CONFIG))
    reader, writer = os.pipe()
    arguments = ["-m", "gateway", "serve", "--port", "0", "--admin-port", "0", "--config", tmp_path / "postern.yaml"]
    gateway = await asyncio.create_subprocess_exec(sys.executable, *arguments, stderr=writer)
    os.close(writer)
    try:
        with os.fdopen(reader, "rb") as stream:
            url = ""
            while not url:
                row = json.loads(await asyncio.to_thread(stream.readline))
                url = row["url"] if row["event"] == "serving" else ""
            async with asyncio.timeout(30):
                await ask_many(url, 400)
                gateway.send_signal(signal.SIGTERM)
                assert await gateway.wait() == 0
    finally:
        if gateway.returncode is None:
            gateway.kill()
            await gateway.wait()
