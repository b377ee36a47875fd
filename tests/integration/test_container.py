"""What a cluster does to the process: signals to process 1, any user, read-only disks, mounted files that change."""

import asyncio
import contextlib
import json
import os
import re
import shutil
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Self

import pytest
import yaml

from tests.faults.wire import Wire, ask, call, eventually, get, post, scrape
from tests.integration.redis_server import RedisServer, need_redis
from tests.running import RunningGateway, two_models
from tests.tiny_model import tiny_folder
from tests.upstream import Answer, Error, Hang, Upstream

ROOT = Path(__file__).parents[2]
need_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may become somebody else")
SIMULATED = {"backend": "simulated", "simulated": {"ttft_s": 0, "tokens_per_s": 0}}
EVERY_ROUTER: dict[str, Any] = {
    "models": {"small": SIMULATED, "large": SIMULATED},
    "routes": {"auto": {"models": ["small", "large"], "policy": {"kind": "complexity", "router": "default"}}},
}


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    async with Upstream() as one:
        yield one


class Mount:
    """A folder as Kubernetes projects a ConfigMap or Secret: `name -> ..data/name`, `..data -> ..2026_...`."""

    def __init__(self, folder: Path, **files: str) -> None:
        self.folder = folder
        self._version = 0
        folder.mkdir()
        self.project(**files)
        for name in files:
            (folder / name).symlink_to(Path("..data") / name)

    def project(self, **files: str) -> None:
        """Put another version in place, as the kubelet's AtomicWriter does: by renaming the link."""
        self._version += 1
        version = self.folder / f"..2026_11_22_{self._version:02d}"
        version.mkdir()
        for name, text in files.items():
            (version / name).write_text(text)
            os.utime(version / name, (1_700_000_000, 1_700_000_000))  # same time, same size: only the file is another
        link = self.folder / "..data_tmp"
        link.symlink_to(version.name)
        link.rename(self.folder / "..data")
        for old in self.folder.glob("..2026_*"):
            if old != version:
                shutil.rmtree(old)


@asynccontextmanager
async def serving(config_file: Path, folder: Path) -> AsyncIterator[RunningGateway]:
    """Start a gateway on a configuration that lies where it lies."""
    async with RunningGateway(None, folder, "--config", str(config_file)) as gateway:
        yield gateway


async def test_a_changed_config_map_is_taken_over(upstream: Upstream, tmp_path: Path) -> None:
    first, second = (two_models(upstream.url, upstream.url, limits={"max_in_flight": n}) for n in (10, 20))
    mount = Mount(tmp_path / "mounted", **{"postern.yaml": yaml.safe_dump(first)})
    async with serving(mount.folder / "postern.yaml", tmp_path) as gateway:
        for config in (second, first):
            since = len(gateway.log)
            mount.project(**{"postern.yaml": yaml.safe_dump(config)})
            await gateway.wait_for("reloaded", 4, since=since)
            shown = json.loads((await get(gateway.admin_url, "/admin/config")).body)
            assert shown["limits"]["max_in_flight"] == config["limits"]["max_in_flight"]


async def test_a_rotated_secret_is_taken_over(upstream: Upstream, tmp_path: Path) -> None:
    secret = Mount(tmp_path / "secret", key="sk-old-old")
    config = two_models(upstream.url, upstream.url)
    for model in config["models"].values():
        model["api_key"] = f"${{file:{secret.folder / 'key'}}}"
    config_file = tmp_path / "postern.yaml"
    config_file.write_text(yaml.safe_dump(config))
    async with serving(config_file, tmp_path) as gateway:
        assert (await call(gateway.url, ask("hi"))).status == 200
        secret.project(key="sk-new-new")
        await gateway.wait_for("reloaded", 4)
        assert (await call(gateway.url, ask("hi"))).status == 200
        assert [one.headers["authorization"] for one in upstream.requests] == ["Bearer sk-old-old", "Bearer sk-new-new"]
        assert not [row for row in gateway.log if "sk-" in json.dumps(row)]


async def test_a_secret_that_goes_away_is_told_and_the_old_one_serves_on(upstream: Upstream, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("sk-old")
    config = two_models(upstream.url, upstream.url)
    config["models"]["small"]["api_key"] = "${file:key}"
    (tmp_path / "postern.yaml").write_text(yaml.safe_dump(config))
    async with serving(tmp_path / "postern.yaml", tmp_path) as gateway:
        (tmp_path / "key").unlink()
        refused = await gateway.wait_for("reload_refused", 4)
        assert "models.small.api_key" in refused["problem"]
        assert (await call(gateway.url, ask("hi"))).status == 200
        (tmp_path / "key").write_text("sk-new")
        await gateway.wait_for("reloaded", 4)
        await call(gateway.url, ask("hi"))
        assert upstream.requests[-1].headers["authorization"] == "Bearer sk-new"


async def test_changed_logs_are_taken_over(upstream: Upstream, tmp_path: Path) -> None:
    config = two_models(upstream.url, upstream.url)
    async with RunningGateway(config, tmp_path) as gateway:
        gateway.write({**config, "logs": {"access": False, "level": "debug"}})
        await gateway.wait_for("reloaded", 4)
        assert (await call(gateway.url, ask("hi", "auto"), **{"x-request-id": "quiet"})).status == 200
        await gateway.wait_for("decided", request_id="quiet")
        assert not [row for row in gateway.log if row["event"] == "request"]
        gateway.write({**config, "logs": {"level": "error"}})

        async def is_taken_over() -> bool:
            return b'"level":"error"' in (await get(gateway.admin_url, "/admin/config")).body

        await eventually(is_taken_over, 4)
        since = len(gateway.log)
        assert (await call(gateway.url, ask("hi"))).status == 200
        await asyncio.sleep(0.2)
        assert gateway.log[since:] == []


async def test_one_search_for_an_id_shows_a_requests_whole_way(upstream: Upstream, tmp_path: Path) -> None:
    async with Upstream() as broken, RunningGateway(two_models(broken.url, upstream.url), tmp_path) as gateway:
        broken.script(Error(500))
        answer = await call(gateway.url, ask("hi", "auto"), **{"x-request-id": "way-1", "x-postern-tier": "weak"})
        assert (answer.status, answer.headers["x-postern-reason"]) == (200, "fallback")
        await gateway.wait_for("request", request_id="way-1")
        rows = [row for row in gateway.log if row.get("request_id") == "way-1"]
        assert [(row["event"], row["level"], row["model"]) for row in rows] == [
            ("attempt_failed", "warning", "small"),
            ("request", "info", "large"),
        ]
        assert rows[0]["detail"] == f"{broken.url}: status 500"
        assert {one.headers["x-request-id"] for one in (*broken.requests, *upstream.requests)} == {"way-1"}


async def test_answers_while_draining_say_that_the_connection_closes(upstream: Upstream, tmp_path: Path) -> None:
    """A load balancer must not send its next request on it."""
    upstream.script(Hang(after_chunks=3))
    config = two_models(upstream.url, upstream.url, server={"shutdown_grace_s": 2})
    async with RunningGateway(config, tmp_path) as gateway:
        assert (await get(gateway.root, "/health/ready")).status == 200
        stream, late = await Wire.connect(gateway.url), await Wire.connect(gateway.url)
        await stream.send(post(ask("go", stream=True)))
        await stream.head()
        await stream.until(b"two")
        request = post(ask("late"))
        await late.send(request[:-5])
        await asyncio.sleep(0.1)
        gateway.signal(signal.SIGTERM)
        stopping = await gateway.wait_for("stopping")
        assert (stopping["reason"], stopping["requests"], stopping["grace_s"]) == ("SIGTERM", 1, 2.0)
        await late.send(request[-5:])
        answer = await late.response()
        assert (answer.status, answer.code, answer.headers["connection"]) == (503, "draining", "close")
        assert await asyncio.wait_for(gateway.process.wait(), 8) == 0
        stopped = await gateway.wait_for("stopped")
        assert stopped["cut"] == 1
        assert 1.9 < stopped["took_s"] < 6
        await stream.close()
        await late.close()


async def test_a_gateway_that_drains_still_tells_its_metrics(upstream: Upstream, tmp_path: Path) -> None:
    """What its streams cost is known at their end; and a target that is silent for minutes is an alert."""
    upstream.script(Hang(after_chunks=3))
    config = two_models(upstream.url, upstream.url, server={"shutdown_grace_s": 2})
    async with RunningGateway(config, tmp_path) as gateway:
        stream = await Wire.connect(gateway.url)
        await stream.send(post(ask("go", stream=True)))
        await stream.head()
        await stream.until(b"two")
        gateway.signal(signal.SIGTERM)
        await gateway.wait_for("stopping")
        await asyncio.sleep(1)
        assert (await get(gateway.admin_url, "/health/live")).status == 200
        assert (await scrape(gateway.admin_url)).sum("postern_in_flight") == 1
        assert await asyncio.wait_for(gateway.process.wait(), 8) == 0
        await stream.close()


def children_of(pid: int) -> list[int]:
    """Every child of a process."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def threads_of(pid: int) -> list[Path]:
    """Every thread of a process."""
    return list(Path(f"/proc/{pid}/task").iterdir())


READ_ONLY = 'mount -o remount,ro,bind / && exec "$@"'
READS = "-all,+dac_read_search"
"""All that is left of root: reading, as this interpreter and this checkout may lie where others can't look."""


class Contained:
    """`postern serve` as in a hardened pod: process 1, a user without a name or home, a disk that can't be written."""

    def __init__(self, config: dict[str, Any], folder: Path, *arguments: str) -> None:
        (folder / "postern.yaml").write_text(yaml.safe_dump(config))
        namespaces = ["unshare", "--mount", "--pid", "--fork", "--mount-proc", "sh", "-c", READ_ONLY, "sh"]
        user = ["setpriv", "--reuid=12345", "--regid=0", "--clear-groups", "--no-new-privs"]
        user += [f"--inh-caps={READS}", f"--ambient-caps={READS}"]
        self._command = [*namespaces, *user, sys.executable, "-m", "gateway", "serve", "--port", "0", "--admin-port"]
        self._command += ["0", "--config", str(folder / "postern.yaml"), *arguments]
        self.log: list[dict[str, Any]] = []

    async def __aenter__(self) -> Self:
        environ = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "PYTHONPATH": str(ROOT)}
        environ["PYTHONDONTWRITEBYTECODE"] = "1"
        self.outside = await asyncio.create_subprocess_exec(
            *self._command, env=environ, cwd="/", stderr=asyncio.subprocess.PIPE, limit=2**22
        )
        return self

    @property
    def pid(self) -> int:
        """The gateway's process, as seen from outside."""
        return children_of(self.outside.pid)[0]

    @property
    def user(self) -> int:
        """Who it is."""
        return Path(f"/proc/{self.pid}").stat().st_uid

    async def wait_for(self, event: str) -> dict[str, Any]:
        """Return the next event of this name."""
        async with asyncio.timeout(20):
            async for line in self.outside.stderr:
                self.log.append(json.loads(line) if line.startswith(b"{") else {"event": "unreadable", "line": line})
                if self.log[-1]["event"] == event:
                    return self.log[-1]
        raise AssertionError(self.log)

    async def __aexit__(self, *_: object) -> None:
        if self.outside.returncode is None:
            with contextlib.suppress(IndexError, ProcessLookupError, FileNotFoundError):
                os.kill(self.pid, signal.SIGKILL)
            await self.outside.wait()


@need_root
@pytest.mark.parametrize("kind", ["one process", pytest.param("two workers", marks=need_redis), "onnx"])
async def test_it_serves_in_a_hardened_pod_and_stops_as_process_1(tmp_path: Path, kind: str) -> None:
    with contextlib.ExitStack() as stack:
        config, arguments = EVERY_ROUTER, []
        if kind == "onnx":
            model = {"backend": "onnx", "onnx": {"path": str(tiny_folder())}}
            config = {"models": {"tiny": model}, "routes": {"auto": {"models": ["tiny"]}}}
        if kind == "two workers":
            (tmp_path / "redis").mkdir()
            redis = stack.enter_context(RedisServer(tmp_path / "redis"))
            config, arguments = {**EVERY_ROUTER, "redis": {"url": redis.url}}, ["--workers", "2"]
        async with Contained(config, tmp_path, *arguments) as pod:
            url = (await pod.wait_for("serving"))["url"]
            if kind == "onnx":
                await pod.wait_for("replica_ready")
            answer = await call(url, ask("hi", "auto", max_tokens=3))
            assert answer.status == 200, pod.log
            assert pod.user == 12345
            os.kill(pod.pid, signal.SIGTERM)
            await pod.wait_for("stopped")
            assert await asyncio.wait_for(pod.outside.wait(), 10) == 0
            assert {row["level"] for row in pod.log} <= {"info", "warning"}, pod.log


@need_root
async def test_process_1_heeds_sigterm_before_it_serves(tmp_path: Path) -> None:
    """Process 1 has no default action: without a handler, a pod that is deleted early waits its whole grace out."""
    async with Contained(EVERY_ROUTER, tmp_path) as pod:

        def heeds() -> bool:
            try:
                caught = re.search(r"SigCgt:\s*(\w+)", Path(f"/proc/{pod.pid}/status").read_text())[1]
            except (IndexError, FileNotFoundError, ProcessLookupError):
                return False
            return bool(int(caught, 16) >> (signal.SIGTERM - 1) & 1)

        await eventually(heeds, 10)
        os.kill(pod.pid, signal.SIGTERM)
        assert await asyncio.wait_for(pod.outside.wait(), 5) == 0
        assert b'"serving"' not in await pod.outside.stderr.read()


async def test_it_takes_as_many_threads_as_it_uses_whatever_the_node_has(tmp_path: Path) -> None:
    """OpenBLAS starts one a core when NumPy is imported."""
    async with RunningGateway(EVERY_ROUTER, tmp_path) as gateway:
        assert (await call(gateway.url, ask("hi", "auto"))).status == 200
        assert len(threads_of(gateway.process.pid)) == 1


@need_redis
async def test_workers_that_are_told_to_stop_with_their_parent_let_streams_end(
    upstream: Upstream, tmp_path: Path
) -> None:
    """systemd signals every process of a service; the parent passes it on."""
    upstream.script(Answer("one two three four five six seven eight", gap_s=0.15))
    with RedisServer(tmp_path) as redis:
        config = two_models(upstream.url, upstream.url, redis={"url": redis.url})
        async with RunningGateway(config, tmp_path, "--workers", "2") as gateway:
            assert (await get(gateway.root, "/health/ready")).status == 200
            wire = await Wire.connect(gateway.url)
            await wire.send(post(ask("go", stream=True)))
            await wire.head()
            await wire.until(b"two")
            for pid in children_of(gateway.process.pid):
                os.kill(pid, signal.SIGTERM)
            await gateway.wait_for("stopping", requests=1)  # two signals at once may be one to the kernel
            gateway.signal(signal.SIGTERM)
            assert (await wire.rest()).endswith(b"data: [DONE]\n\n")
            await wire.close()
            assert await asyncio.wait_for(gateway.process.wait(), 8) == 0
