"""How it starts where its surroundings are odd: signals come early, streams are closed, the configuration is a pipe."""

import asyncio
import os
import re
import signal
import socket
import sys
from pathlib import Path

import yaml

from tests.faults.wire import ask, call, eventually, get
from tests.integration.redis_server import RedisServer, need_redis
from tests.running import RunningGateway, two_models

SIMULATED = {"backend": "simulated", "simulated": {"ttft_s": 0, "tokens_per_s": 0}}
CONFIG = {"models": {"a": SIMULATED}, "routes": {"auto": {"models": ["a"]}}}


def mask(pid: int, kind: str) -> int:
    """Return the signals that a process blocks (`SigBlk`) or handles (`SigCgt`); 0 where it is gone."""
    try:
        return int(re.search(rf"{kind}:\s*(\w+)", Path(f"/proc/{pid}/status").read_text())[1], 16)
    except (OSError, TypeError):
        return 0


def has(pid: int, kind: str, number: signal.Signals) -> bool:
    return bool(mask(pid, kind) >> (number - 1) & 1)


def streams_of(pid: int) -> set[Path]:
    """Return what the standard streams of a process lead to."""
    return {Path(f"/proc/{pid}/fd/{number}").readlink() for number in range(3)}


async def test_a_reload_asked_for_while_it_starts_comes_after_the_start(tmp_path: Path) -> None:
    gateway = RunningGateway(CONFIG, tmp_path)
    starting = asyncio.create_task(gateway.__aenter__())
    await eventually(lambda: hasattr(gateway, "process"), 5)
    try:
        await eventually(lambda: has(gateway.process.pid, "SigBlk", signal.SIGHUP), 10)
        gateway.signal(signal.SIGHUP)
        await starting
        await gateway.wait_for("reloaded", 5)
        assert not has(gateway.process.pid, "SigBlk", signal.SIGHUP)
    finally:
        await gateway.__aexit__()


async def test_it_serves_where_standard_streams_are_closed(tmp_path: Path) -> None:
    """As daemons are started by some: the next socket would be number 2, and take what is written to it."""
    file = tmp_path / "postern.yaml"
    file.write_text(yaml.safe_dump(CONFIG))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = f'exec "{sys.executable}" -m gateway serve --config {file} --port {port} --admin-port 0 <&- >&- 2>&-'
    process = await asyncio.create_subprocess_exec("/bin/sh", "-c", command)
    try:

        async def is_ready() -> bool:
            try:
                return (await get(f"http://127.0.0.1:{port}", "/health/ready")).status == 200
            except OSError:
                return False

        await eventually(is_ready, 20)
        assert streams_of(process.pid) == {Path("/dev/null")}
    finally:
        process.terminate()
    assert await asyncio.wait_for(process.wait(), 10) == 0


async def test_a_configuration_from_a_named_pipe_is_read_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    writing = asyncio.create_task(asyncio.to_thread((tmp_path / "pipe").write_text, yaml.safe_dump(CONFIG)))
    async with RunningGateway(None, tmp_path, "--config", str(tmp_path / "pipe")) as gateway:
        await writing
        await asyncio.sleep(1.5)  # it has looked for changes
        assert (await asyncio.wait_for(call(gateway.url, ask("hi", "auto")), 5)).status == 200


@need_redis
async def test_workers_that_die_at_once_are_started_ever_more_seldom(tmp_path: Path) -> None:
    """Their ONNX model can't be read by them, or the like: each start takes a second of CPU."""
    with RedisServer(tmp_path) as redis:
        config = two_models("http://127.0.0.1:9", "http://127.0.0.1:9", redis={"url": redis.url})
        async with RunningGateway(config, tmp_path, "--workers", "2") as gateway:
            for _ in range(3):
                count = len([row for row in gateway.log if row["event"] == "worker_died"])
                for pid in children(gateway.process.pid):
                    os.kill(pid, signal.SIGKILL)
                await eventually(
                    lambda count=count: len([row for row in gateway.log if row["event"] == "worker_died"]) >= count + 2,
                    10,
                )
                await eventually(lambda: len(children(gateway.process.pid)) == 2, 15)
            pauses = [row["pause_s"] for row in gateway.log if row["event"] == "worker_died"]
            assert sorted(pauses) == [1, 1, 2, 2, 4, 4]


def children(pid: int) -> list[int]:
    """Return the workers of a gateway, without the tracker of multiprocessing's resources."""
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(one) for one in found if b"spawn_main" in Path(f"/proc/{one}/cmdline").read_bytes()]
