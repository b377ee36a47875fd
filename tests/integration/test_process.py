"""The life of the process: start, reload, drain, stop, and several workers on one port."""

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.faults.wire import Wire, ask, call, connections_to, eventually, get, post, scrape
from tests.integration.redis_server import RedisServer, need_redis
from tests.running import RunningGateway, two_models
from tests.upstream import LAST_CHUNK, Answer, Hang, Received, Upstream, chunk, send, send_beginning

SLOW = Answer("one two three four five six seven eight", gap_s=0.15)
GRACE_S, PATIENCE_S = 8, 4
"""What workers grant at a stop, and what is waited for here: half of it, so that no running out passes for an end."""
SURE_S = 0.5
"""A stop that cuts streams has cut them by then, on a machine that is not too busy to tell."""
BEGUN = 3
"""The events of an answer up to its second word, which `begin` waits for."""


@dataclass(frozen=True)
class Held:
    """Give the beginning of an answer, and the rest once it may go on, however long that takes a busy machine."""

    may_go_on: asyncio.Event = field(default_factory=asyncio.Event)

    async def __call__(self, request: Received, writer: asyncio.StreamWriter) -> None:
        await send_beginning(request, writer, BEGUN, SLOW)
        await self.may_go_on.wait()
        for data in SLOW.events(request)[BEGUN:]:
            await send(writer, chunk(data))
        await send(writer, LAST_CHUNK)


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    async with Upstream() as one:
        yield one


def config(upstream: Upstream, **sections: Any) -> dict[str, Any]:
    return two_models(upstream.url, upstream.url, **sections)


async def begin(gateway: RunningGateway, **fields: Any) -> tuple[Wire, "asyncio.Task[bytes]"]:
    """Begin a stream, and read it to its end in a task."""
    wire = await Wire.connect(gateway.url)
    await wire.send(post(ask("go", stream=True, **fields)))
    status, _ = await wire.head()
    assert status == 200
    await wire.until(b"two")
    return wire, asyncio.create_task(wire.rest())


def open_fds(pid: int) -> int:
    """Count the file descriptors of a process."""
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


async def reload_state(gateway: RunningGateway) -> float:
    """Return whether the last reload was taken, as the metrics tell."""
    return (await scrape(gateway.admin_url)).sum("postern_config_last_reload_successful")


async def ended_whole(rest: "asyncio.Task[bytes]") -> bool:
    """Tell whether a stream came to its end; one that is cut off ends in an error or in nothing."""
    try:
        return b"[DONE]" in await rest
    except asyncio.IncompleteReadError:
        return False


@asynccontextmanager
async def run(config: dict[str, Any], folder: Path, *arguments: str) -> AsyncIterator[RunningGateway]:
    """Start a gateway and wait until it answers; it says that it serves before its signal handlers stand."""
    async with RunningGateway(config, folder, *arguments) as gateway:
        assert (await get(gateway.root, "/health/ready")).status == 200
        yield gateway


async def is_refused(url: str) -> bool:
    try:
        await (await Wire.connect(url)).close()
    except ConnectionRefusedError:
        return True
    return False


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_stop_lets_running_streams_end_whole(upstream: Upstream, tmp_path: Path, number: int) -> None:
    """litellm#14334: a rolling restart cuts streams."""
    held = Held()
    upstream.script(held)
    async with run(config(upstream), tmp_path) as gateway:
        kept = await Wire.connect(gateway.url)
        wire, rest = await begin(gateway)
        gateway.signal(number)

        async def refuses() -> bool:
            return await is_refused(gateway.url)

        await eventually(refuses, PATIENCE_S)
        await asyncio.sleep(SURE_S)
        assert not rest.done()
        held.may_go_on.set()
        assert (await rest).endswith(b"data: [DONE]\n\n")
        assert await asyncio.wait_for(gateway.process.wait(), PATIENCE_S) == 0
        assert await kept.hung_up() == b""
        await kept.close()
        await wire.close()
        assert upstream.cancelled == []


async def test_a_request_on_an_open_connection_is_told_to_go_elsewhere_while_draining(
    upstream: Upstream, tmp_path: Path
) -> None:
    upstream.script(SLOW)
    async with run(config(upstream), tmp_path) as gateway:
        wire, rest = await begin(gateway)
        late = await Wire.connect(gateway.url)
        request = post(ask("late"))
        await late.send(request[:-5])
        await asyncio.sleep(0.05)
        gateway.signal(signal.SIGTERM)
        await gateway.wait_for("stopping")
        await late.send(request[-5:])
        answer = await late.response()
        assert (answer.status, answer.code) == (503, "draining")
        assert int(answer.headers["retry-after"]) >= 1
        await late.close()
        assert (await rest).endswith(b"data: [DONE]\n\n")
        await wire.close()


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
async def test_a_second_stop_ends_at_once(upstream: Upstream, tmp_path: Path, second: int) -> None:
    upstream.script(Hang(after_chunks=3))
    async with run(config(upstream), tmp_path) as gateway:
        wire, rest = await begin(gateway)
        gateway.signal(signal.SIGTERM)
        await gateway.wait_for("stopping")
        await asyncio.sleep(0.3)
        assert gateway.process.returncode is None
        started_s = time.monotonic()
        gateway.signal(second)
        await asyncio.wait_for(gateway.process.wait(), 3)
        assert time.monotonic() - started_s < 2.0
        assert not await ended_whole(rest)
        await wire.close()


async def test_streams_get_their_grace_and_no_more(upstream: Upstream, tmp_path: Path) -> None:
    upstream.script(Hang(after_chunks=3))
    async with run(config(upstream, server={"shutdown_grace_s": 1}), tmp_path) as gateway:
        wire, rest = await begin(gateway)
        started_s = time.monotonic()
        gateway.signal(signal.SIGTERM)
        assert await asyncio.wait_for(gateway.process.wait(), 4) == 0
        assert 0.9 < time.monotonic() - started_s < 2.5
        told = await rest
        assert b'"code":"draining"' in told
        assert b"[DONE]" not in told
        await wire.close()


@pytest.mark.parametrize("how", ["SIGHUP", "changed file"])
async def test_a_sound_configuration_is_taken_over_while_a_stream_goes_on(
    upstream: Upstream, tmp_path: Path, how: str
) -> None:
    upstream.script(SLOW, Answer("From the new one."))
    changed = config(upstream)
    changed["models"] = {"new": changed["models"]["large"]}
    changed["routes"] = {"auto": {"models": ["new"]}}
    async with run(config(upstream), tmp_path) as gateway:
        wire, rest = await begin(gateway)
        gateway.write(changed)
        if how == "SIGHUP":
            gateway.signal(signal.SIGHUP)
        await gateway.wait_for("reloaded", 3)
        answer = await call(gateway.url, ask("hi", "auto"))
        assert (answer.headers["x-postern-model"], answer.text) == ("new", "From the new one.")
        assert (await call(gateway.url, ask("hi", "small"))).status == 404
        assert (await rest).endswith(b"data: [DONE]\n\n")
        await wire.close()
        assert upstream.cancelled == []


async def test_a_request_still_being_sent_survives_a_reload(upstream: Upstream, tmp_path: Path) -> None:
    async with run(config(upstream), tmp_path) as gateway, await Wire.connect(gateway.url) as wire:
        request = post(ask("hi"))
        await wire.send(request[:-5])
        await asyncio.sleep(0.1)
        gateway.signal(signal.SIGHUP)
        await gateway.wait_for("reloaded")
        await asyncio.sleep(0.1)
        await wire.send(request[-5:])
        assert (await wire.response()).status == 200


async def test_a_reload_keeps_the_connections_of_models_that_did_not_change(upstream: Upstream, tmp_path: Path) -> None:
    async with run(config(upstream), tmp_path) as gateway:
        assert (await call(gateway.url, ask("hi"))).status == 200
        for attempt in range(1, 4):
            changed = config(upstream)
            changed["models"]["small"]["price"]["output"] = 2.0 + attempt  # read by nothing that is connected
            gateway.write(changed)
            gateway.signal(signal.SIGHUP)
            await eventually(lambda wanted=attempt: sum(row["event"] == "reloaded" for row in gateway.log) >= wanted)
            assert (await call(gateway.url, ask("hi"))).status == 200
        assert upstream.connections == connections_to(upstream.url) == 1


async def test_a_changed_models_connections_close_once_nobody_needs_them(upstream: Upstream, tmp_path: Path) -> None:
    changed = config(upstream)
    changed["models"]["small"]["timeouts"] = {"connect_s": 1.5}
    async with run(config(upstream), tmp_path) as gateway, await Wire.connect(gateway.url) as wire:
        assert (await call(gateway.url, ask("hi"))).status == 200
        assert connections_to(upstream.url) == 1
        request = post(ask("hi"))
        await wire.send(request[:-5])
        await asyncio.sleep(0.1)
        gateway.write(changed)
        gateway.signal(signal.SIGHUP)
        await gateway.wait_for("reloaded")
        await asyncio.sleep(0.1)
        assert connections_to(upstream.url) == 1
        await wire.send(request[-5:])
        assert (await wire.response()).status == 200
        await eventually(lambda: connections_to(upstream.url) == 0, 2.0)


async def test_a_reload_while_draining_takes_no_requests_again(upstream: Upstream, tmp_path: Path) -> None:
    upstream.script(SLOW)
    async with run(config(upstream), tmp_path) as gateway, await Wire.connect(gateway.url) as late:
        wire, rest = await begin(gateway)
        request = post(ask("late"))
        await late.send(request[:-5])
        gateway.signal(signal.SIGTERM)
        await gateway.wait_for("stopping")
        gateway.signal(signal.SIGHUP)
        await asyncio.sleep(0.3)
        await late.send(request[-5:])
        assert (await late.response()).code == "draining"
        assert await ended_whole(rest)
        await wire.close()
        assert not [row for row in gateway.log if row["event"] == "reloaded"]


@pytest.mark.parametrize(
    "broken",
    [
        {"routes": {"auto": {"models": ["nobody"]}}},
        {"servre": {}},
        {"redis": {"url": "redis://127.0.0.1:port/0"}, "cache": {"exact": {}}},
        {"redis": {"url": "redis+sentinel://127.0.0.1:port/mymaster"}, "cache": {"exact": {}}},
    ],
    ids=["unknown model", "unknown key", "no port", "no sentinel port"],
)
async def test_a_faulty_configuration_is_refused_and_the_old_one_serves_on(
    upstream: Upstream, tmp_path: Path, broken: dict[str, Any]
) -> None:
    async with run(config(upstream), tmp_path) as gateway:
        for _ in range(2):
            since = len(gateway.log)
            gateway.write(config(upstream) | broken)
            gateway.signal(signal.SIGHUP)
            await gateway.wait_for("reload_refused", 3, since=since, level="warning")
            assert await reload_state(gateway) == 0
        assert (await call(gateway.url, ask("hi"))).status == 200
        gateway.write(config(upstream, limits={"max_in_flight": 7}))
        await gateway.wait_for("reloaded", 3)
        assert await reload_state(gateway) == 1


async def test_a_configuration_file_that_is_no_text_or_gone_is_refused(upstream: Upstream, tmp_path: Path) -> None:
    async with run(config(upstream), tmp_path) as gateway:
        gateway.config_file.write_bytes(b"\xff\xfe\x00models: [")
        await gateway.wait_for("reload_refused", 3)
        since = len(gateway.log)
        gateway.config_file.unlink()
        gateway.signal(signal.SIGHUP)
        await gateway.wait_for("reload_refused", 3, since=since)
        gateway.write(config(upstream))
        await gateway.wait_for("reloaded", 3)
        assert (await call(gateway.url, ask("hi"))).status == 200


def routed(upstream: Upstream, router: Path) -> dict[str, Any]:
    made = config(upstream)
    made["routes"]["auto"]["policy"] = {"kind": "complexity", "router": str(router)}
    return made


async def test_no_faulty_router_ends_the_watching_of_the_file(upstream: Upstream, tmp_path: Path) -> None:
    broken = tmp_path / "router"
    broken.mkdir()
    (broken / "manifest.json").write_bytes(b'{"name": "\xff\xfe"}')
    async with run(config(upstream), tmp_path) as gateway:
        for router in (Path("a/\0b"), broken):
            since = len(gateway.log)
            gateway.write(routed(upstream, router))
            await gateway.wait_for("reload_refused", 3, since=since)
        gateway.write(config(upstream, limits={"max_in_flight": 7}))
        await gateway.wait_for("reloaded", 3)


async def test_in_flight_is_0_and_not_absent_from_the_start_and_adds_up_over_models_and_a_reload(
    upstream: Upstream, tmp_path: Path
) -> None:
    """An autoscaler asks for the sum over models: absent, it takes no decision."""
    async with run(config(upstream), tmp_path) as gateway:

        async def in_flight() -> dict[str, float]:
            return (await scrape(gateway.admin_url)).by("model", "postern_in_flight")

        async def is_idle() -> bool:
            return await in_flight() == {"small": 0, "large": 0, "third": 0}

        assert await in_flight() == {"small": 0, "large": 0}
        held = Held()
        upstream.script(held)
        streams = [await begin(gateway, model=model) for model in ("small", "large", "large")]
        assert await in_flight() == {"small": 1, "large": 2}
        changed = config(upstream)
        changed["models"]["third"] = changed["models"]["small"]
        gateway.write(changed)
        await gateway.wait_for("reloaded", 5)
        streams.append(await begin(gateway, model="third"))
        assert await in_flight() == {"small": 1, "large": 2, "third": 1}
        held.may_go_on.set()
        assert all(await asyncio.gather(*(ended_whole(rest) for _, rest in streams)))
        for wire, _ in streams:
            await wire.close()
        await eventually(is_idle)


async def test_requests_that_began_before_a_reload_take_up_room_after_it(upstream: Upstream, tmp_path: Path) -> None:
    upstream.script(Hang(after_chunks=3))
    async with run(config(upstream, limits={"max_in_flight": 1}), tmp_path) as gateway:
        wire, rest = await begin(gateway)
        gateway.signal(signal.SIGHUP)
        await gateway.wait_for("reloaded", 3)
        assert (await call(gateway.url, ask("hi"))).status == 503
        rest.cancel()
        await asyncio.gather(rest, return_exceptions=True)
        await wire.close()


async def test_another_server_behind_a_name_never_answers_from_the_old_ones_cache(tmp_path: Path) -> None:
    async with Upstream() as old, Upstream() as new, run(config(old, cache={"exact": {}}), tmp_path) as gateway:
        old.script(Answer("From the old one."))
        new.script(Answer("From the new one."))
        assert (await call(gateway.url, ask("hi"))).text == "From the old one."
        gateway.write(config(new, cache={"exact": {}}))
        await gateway.wait_for("reloaded", 3)
        answer = await call(gateway.url, ask("hi"))
        assert (answer.text, answer.headers["x-postern-cache"]) == ("From the new one.", "miss")


async def test_a_broken_router_is_refused_at_a_reload(upstream: Upstream, tmp_path: Path) -> None:
    router = tmp_path / "router"
    shutil.copytree(Path("router_models/artifacts/default"), router)
    async with run(routed(upstream, router), tmp_path) as gateway:
        (router / "model.onnx").write_bytes((router / "model.onnx").read_bytes()[:-100])
        gateway.signal(signal.SIGHUP)
        await gateway.wait_for("reload_refused", 3)
        answer = await call(gateway.url, ask("hi", "auto"))
        assert (answer.status, answer.headers["x-postern-reason"]) == (200, "score")


async def test_without_its_router_the_gateway_starts_and_asks_the_strong_model(
    upstream: Upstream, tmp_path: Path
) -> None:
    async with run(routed(upstream, tmp_path / "nowhere"), tmp_path) as gateway:
        assert [row for row in gateway.log if row["event"] == "classifier_unavailable"] or await gateway.wait_for(
            "classifier_unavailable"
        )
        answer = await call(gateway.url, ask("hi", "auto"))
        assert (answer.headers["x-postern-model"], answer.headers["x-postern-tier"]) == ("large", "strong")
        assert answer.headers["x-postern-reason"] == "classifier_unavailable"
        assert "x-postern-score" not in answer.headers
        assert (await scrape(gateway.admin_url)).sum("postern_fail_open_total", stage="classify") == 1


def serve(*arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "gateway", "serve", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)


@pytest.mark.parametrize("option", ["--port", "--admin-port"])
def test_a_port_in_use_is_told_in_one_line(option: str) -> None:
    other = "--admin-port" if option == "--port" else "--port"
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        ended = serve(option, port, other, "0")
    assert ended.returncode == 2
    assert len(ended.stderr.strip().splitlines()) == 1
    assert f"127.0.0.1:{port}" in ended.stderr
    assert option in ended.stderr


def test_workers_without_redis_are_refused(tmp_path: Path) -> None:
    ended = serve("--port", "0", "--admin-port", "0", "--workers", "2")
    assert ended.returncode == 2
    assert "redis" in ended.stderr
    assert "Traceback" not in ended.stderr


@need_redis
class TestWorkers:
    """Two processes on one port, with their state in Redis."""

    @pytest.fixture
    async def gateway(self, upstream: Upstream, tmp_path: Path) -> AsyncIterator[RunningGateway]:
        with RedisServer(tmp_path) as redis:
            made = config(upstream, redis={"url": redis.url}, cache={"exact": {}}, server={"shutdown_grace_s": GRACE_S})
            async with run(made, tmp_path, "--workers", "2") as gateway:
                await eventually(lambda: len(workers_of(gateway.process.pid)) == 2, 10)
                yield gateway

    async def ask_until_both_serve(self, gateway: RunningGateway) -> int:
        """Ask on connections of their own until each worker has answered one at least."""
        asked = 0
        async with asyncio.timeout(15):
            while asked < 20 or len(await self.serving(gateway)) < 2:
                answers = await asyncio.gather(*(call(gateway.url, ask(f"p{asked + n}")) for n in range(10)))
                assert [answer.status for answer in answers] == [200] * 10
                asked += 10
        return asked

    async def serving(self, gateway: RunningGateway) -> set[str]:
        """The workers that have answered: they count it in files whose names hold their ids."""
        folder = next(iter(metrics_folders(gateway.process.pid)))
        return {name.name for name in folder.glob("counter_*.db") if b'"postern_requests_total"' in name.read_bytes()}

    async def test_both_serve_and_their_metrics_add_up(self, gateway: RunningGateway) -> None:
        """litellm#10595: metrics wrong with several workers."""
        asked = await self.ask_until_both_serve(gateway)
        metrics = await scrape(gateway.admin_url)
        assert metrics.sum("postern_requests_total", status="ok") == asked
        assert metrics.sum("postern_in_flight") == 0

    async def test_they_tell_the_worst_of_themselves_and_what_they_use_together(
        self, gateway: RunningGateway, upstream: Upstream
    ) -> None:
        async def is_lag_told() -> bool:
            return (await scrape(gateway.admin_url)).sum("postern_event_loop_lag_seconds_count") > 0

        await eventually(is_lag_told)
        metrics = await scrape(gateway.admin_url)
        assert metrics.sum("postern_build_info") == 1
        assert metrics.sum("postern_redis_up") == 1
        assert metrics.sum("process_open_fds") > sum(map(open_fds, workers_of(gateway.process.pid)))
        assert await reload_state(gateway) == 1
        gateway.write(config(upstream, servre={}))
        os.kill(next(iter(workers_of(gateway.process.pid))), signal.SIGHUP)
        await gateway.wait_for("reload_refused", 3)
        assert await reload_state(gateway) == 0

    async def test_a_killed_worker_comes_back_and_leaves_no_ghost(
        self, gateway: RunningGateway, upstream: Upstream
    ) -> None:
        upstream.script(Hang(after_chunks=3))
        streams = [await begin(gateway, user=str(n)) for n in range(6)]

        async def in_flight() -> float:
            return (await scrape(gateway.admin_url)).sum("postern_in_flight")

        assert await in_flight() == 6
        before = workers_of(gateway.process.pid)
        for pid in before:
            os.kill(pid, signal.SIGKILL)
        await gateway.wait_for("worker_died", 3)
        await eventually(lambda: len(workers_of(gateway.process.pid) - before) == 2, 5)
        for wire, rest in streams:
            await asyncio.gather(rest, return_exceptions=True)
            await wire.close()

        async def is_empty() -> bool:
            return await in_flight() == 0

        await eventually(is_empty, 3)
        upstream.script(Answer())
        assert (await call(gateway.url, ask("again"))).status == 200

    async def test_a_worker_comes_back_though_the_configuration_has_become_unsound(
        self, gateway: RunningGateway, upstream: Upstream
    ) -> None:
        upstream.script(Answer())
        before = workers_of(gateway.process.pid)
        gateway.config_file.write_text("models: 1")
        for pid in before:
            os.kill(pid, signal.SIGKILL)
        await eventually(lambda: len(workers_of(gateway.process.pid) - before) == 2, 5)
        answer = await call(gateway.url, ask("after the crash"))
        assert answer.status == 200
        assert sum(row["event"] == "worker_died" for row in gateway.log) == 2
        # By the workers and, as it starts them anew, by their parent.
        refusals = [row["level"] for row in gateway.log if row["event"] == "reload_refused"]
        assert set(refusals) == {"warning"}

    async def test_workers_do_not_outlive_their_parent(self, gateway: RunningGateway) -> None:
        children = children_of(gateway.process.pid)
        assert len(children) >= 2
        gateway.signal(signal.SIGKILL)
        try:
            await eventually(lambda: not any(Path(f"/proc/{pid}/stat").exists() for pid in children), 5)
        finally:  # an orphan would hold the gateway's standard error open, and the test with it
            for pid in children:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            await gateway.process.wait()
        assert await is_refused(gateway.url)

    @pytest.mark.parametrize("how", ["SIGTERM", "Ctrl-C"])
    async def test_a_stop_lets_running_streams_end_whole(
        self, gateway: RunningGateway, upstream: Upstream, how: str
    ) -> None:
        await self.ask_until_both_serve(gateway)
        held = Held()
        upstream.script(held)
        children = children_of(gateway.process.pid)
        streams = [await begin(gateway, user=str(n)) for n in range(4)]
        if how == "SIGTERM":
            gateway.signal(signal.SIGTERM)
        else:  # a terminal sends it to every process of the group
            for pid in (gateway.process.pid, *workers_of(gateway.process.pid)):
                os.kill(pid, signal.SIGINT)

        async def refuses() -> bool:
            return await is_refused(gateway.url)

        await eventually(refuses, PATIENCE_S)
        await asyncio.sleep(SURE_S)
        assert not any(rest.done() for _, rest in streams)
        assert (await scrape(gateway.admin_url)).sum("postern_in_flight") == len(streams)
        held.may_go_on.set()
        for wire, rest in streams:
            assert (await rest).endswith(b"data: [DONE]\n\n")
            await wire.close()
        assert await asyncio.wait_for(gateway.process.wait(), PATIENCE_S) == 0
        await eventually(lambda: not any(Path(f"/proc/{pid}/stat").exists() for pid in children), PATIENCE_S)
        assert not [row for row in gateway.log if row["event"] in {"unreadable", "worker_died"}]


def children_of(pid: int) -> set[int]:
    """Every child process, multiprocessing's resource tracker too."""
    return {int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}


def workers_of(pid: int) -> set[int]:
    """The serving processes under a parent; multiprocessing's own resource tracker is none."""
    return {child for child in children_of(pid) if b"spawn_main" in command_of(child)}


def command_of(pid: int) -> bytes:
    """Read a process's command line; one that has just ended has none."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""


def metrics_folders(pid: int) -> set[Path]:
    """Where a gateway's workers keep their metrics."""
    worker = next(iter(workers_of(pid)))
    environ = Path(f"/proc/{worker}/environ").read_bytes().split(b"\0")
    return {Path(one.partition(b"=")[2].decode()) for one in environ if one.startswith(b"PROMETHEUS_MULTIPROC_DIR=")}
