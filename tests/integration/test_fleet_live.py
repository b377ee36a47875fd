"""A gateway whose models hold more than connections: a reload keeps a worker process, or ends it in its time."""

import asyncio
import shutil
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.faults.wire import Response, Wire, ask, call, eventually, get, post, scrape
from tests.running import RunningGateway
from tests.tiny_model import SLOW, is_gone, tiny_folder

TEMPLATE = "{% for message in messages %}{{ message.content }}\n{% endfor %}"
ASKED = {"temperature": 0, "max_tokens": 60}


def config(**small: Any) -> dict[str, Any]:
    """A small model in a worker process, and one on a Triton that is not there."""
    models = {
        "small": {"backend": "onnx", "onnx": {"path": str(tiny_folder(work=SLOW)), "threads": 1}, **small},
        "large": {
            "backend": "triton",
            "urls": ["grpc://127.0.0.1:1"],
            "triton": {"dialect": "vllm"},
            "chat_template": "large.jinja",
            "timeouts": {"connect_s": 0.3},
        },
    }
    return {"models": models, "routes": {"auto": {"models": ["small", "large"]}}}


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[RunningGateway]:
    (tmp_path / "large.jinja").write_text(TEMPLATE)
    async with RunningGateway(config(), tmp_path) as one:
        await one.wait_for("replica_ready", 60, model="small")
        yield one
    assert not [row for row in one.log if row["event"] == "unreadable"]  # gRPC has a log of its own


def workers(gateway: RunningGateway) -> set[int]:
    """The processes under a gateway that run a model, by their command lines."""
    found = set()
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            command = (folder / "cmdline").read_bytes()
        except OSError:
            continue
        if parent == gateway.process.pid and b"onnx" in command:
            found.add(int(folder.name))
    return found


async def reload(gateway: RunningGateway, changed: dict[str, Any], event: str = "reloaded") -> dict[str, Any]:
    since = len(gateway.log)
    gateway.write(changed)
    gateway.signal(signal.SIGHUP)
    return await gateway.wait_for(event, 10, since)


async def begin(gateway: RunningGateway) -> tuple[Wire, "asyncio.Task[bytes]"]:
    wire = await Wire.connect(gateway.url)
    await wire.send(post(ask("go", stream=True, **ASKED)))
    assert (await wire.head())[0] == 200
    await wire.until(b'"content":"')
    return wire, asyncio.create_task(wire.rest())


async def test_a_reload_keeps_the_worker_of_a_model_that_did_not_change(gateway: RunningGateway) -> None:
    before = workers(gateway)
    assert len(before) == 1
    wire, rest = await begin(gateway)
    await reload(gateway, config(price={"input": 1}))
    await reload(gateway, config(local=True))
    assert workers(gateway) == before
    assert (await call(gateway.url, ask("hi", max_tokens=3))).status == 200
    assert (await rest).endswith(b"data: [DONE]\n\n")
    await wire.close()
    assert workers(gateway) == before


async def test_a_changed_model_gets_a_new_worker_and_the_old_one_ends_with_its_last_answer(
    gateway: RunningGateway,
) -> None:
    (old,) = workers(gateway)
    wire, rest = await begin(gateway)
    await reload(gateway, config(onnx={"path": str(tiny_folder(work=SLOW)), "threads": 1, "max_batch": 2}))
    assert not is_gone(old)
    assert (await call(gateway.url, ask("hi", max_tokens=3))).status == 200
    assert (await rest).endswith(b"data: [DONE]\n\n")
    await wire.close()
    await eventually(lambda: is_gone(old), 5)
    assert len(workers(gateway)) == 1


async def test_a_model_that_can_t_be_loaded_is_refused_at_a_reload_and_the_old_one_serves_on(
    gateway: RunningGateway, tmp_path: Path
) -> None:
    before = workers(gateway)
    broken = tmp_path / "broken"
    shutil.copytree(tiny_folder(work=SLOW), broken)
    (broken / "model.onnx").write_bytes(b"no model" * 1000)
    told = await reload(gateway, config(onnx={"path": str(broken), "threads": 1}), "reload_refused")
    assert told["problem"].startswith("models.small.onnx.path: can't be loaded: ")
    assert (await call(gateway.url, ask("hi", max_tokens=3))).status == 200
    await eventually(lambda: workers(gateway) == before, 5)


async def test_no_worker_outlives_a_gateway_that_reloaded_under_streams(gateway: RunningGateway) -> None:
    wire, rest = await begin(gateway)
    await reload(gateway, config(max_connections=7))
    await call(gateway.url, ask("hi", max_tokens=3))
    left = workers(gateway)
    assert len(left) == 2
    for _ in range(2):
        gateway.signal(signal.SIGTERM)
        await asyncio.sleep(0.1)
    async with asyncio.timeout(10):
        await gateway.process.wait()
    await asyncio.gather(rest, return_exceptions=True)
    await wire.close()
    await eventually(lambda: all(is_gone(pid) for pid in left), 5)


async def test_a_template_that_broke_is_refused_at_a_reload_and_the_old_one_serves_on(
    gateway: RunningGateway, tmp_path: Path
) -> None:
    before = workers(gateway)
    (tmp_path / "large.jinja").write_text("{% for message in %}")
    told = await reload(gateway, config(max_connections=7), "reload_refused")
    assert told["problem"].startswith("models.large.chat_template: ")
    (tmp_path / "large.jinja").unlink()
    told = await reload(gateway, config(max_connections=7), "reload_refused")
    assert told["problem"].startswith("models.large.chat_template: ")
    assert (await call(gateway.url, ask("hi", max_tokens=3))).status == 200
    (tmp_path / "large.jinja").write_text(TEMPLATE + " ")
    await reload(gateway, config())
    assert workers(gateway) == before


async def test_a_replica_that_is_not_there_is_shown_and_a_field_that_none_carries_is_told(
    gateway: RunningGateway,
) -> None:
    async def is_shown() -> bool:
        found = await scrape(gateway.admin_url)
        ready = [found.sum("postern_upstream_ready", model=name) for name in ("small", "large")]
        return ready == [1, 0]

    await gateway.wait_for("replica_not_ready", 5, model="large")
    await eventually(is_shown)
    refused = await call(gateway.url, ask("hi", "auto", logit_bias={"7": 1}))
    assert (refused.status, refused.code, refused.json["error"]["param"]) == (
        400,
        "unsupported_parameter",
        "logit_bias",
    )
    explained = await route(gateway, ask("hi", "auto", min_p=0.5))
    assert [one["lacks"] for one in explained["candidates"]] == ["min_p", None]


async def route(gateway: RunningGateway, body: bytes) -> Any:
    async with await Wire.connect(gateway.root) as wire:
        await wire.send(post(body, "/v1/route"))
        return (await wire.response()).json


async def test_every_kind_of_model_is_listed_and_its_configuration_shown(gateway: RunningGateway) -> None:
    listed: Response = await get(gateway.root, "/v1/models")
    cards = {card["id"]: card["postern"] for card in listed.json["data"]}
    assert cards["large"]["capabilities"] == []
    assert not any(card.get("simulated") for card in cards.values())
    shown = (await get(gateway.admin_url, "/admin/config")).json["models"]
    assert shown["large"]["triton"]["dialect"] == "vllm"
    assert shown["small"]["onnx"]["threads"] == 1
