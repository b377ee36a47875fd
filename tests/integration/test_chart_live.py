"""A real gateway on what the chart renders: its probes, the first request of the notes, `helm test`."""

import asyncio
import json
import re
import sys
from pathlib import Path
from typing import Any

import httpx2
import yaml

from tests.helm import notes, render
from tests.running import RunningGateway

KEY = "example"
KEYS = {
    "required": True,
    "clients": {"alice": {"sha256": "50d858e0985ecc7f60418aaf0cc5ab587f42c2570a884095a9e8ccacd0f6545c"}},
}
CONFIG = {"models": {"small": {"backend": "simulated"}}, "routes": {"quick": {"models": ["small"]}}, "keys": KEYS}


def rendered(values: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Return the configuration, the gateway's container and the container of `helm test`."""
    found = {(one["kind"], one["metadata"]["name"]): one for one in render(values)}
    config = yaml.safe_load(found["ConfigMap", "blue-postern-config"]["data"]["postern.yaml"])
    # Loopback: no test opens a port to others.
    config["server"] |= {"host": "127.0.0.1", "admin_host": "127.0.0.1"}
    gateway = found["Deployment", "blue-postern"]["spec"]["template"]["spec"]["containers"][0]
    return config, gateway, found["Pod", "blue-postern-test"]["spec"]["containers"][0]


async def ask(container: dict[str, Any], url: str, **changes: str) -> tuple[int, str]:
    """Run the test pod's script against a gateway; return its exit status and what it said."""
    environ = {one["name"]: one["value"] for one in container["env"] if "value" in one}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        container["args"][0],
        env=environ | {"URL": url} | changes,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await process.communicate()
    return process.returncode, said.decode()


async def test_every_probe_asks_what_a_gateway_answers(tmp_path: Path):
    config, container, _ = rendered({})
    async with RunningGateway(config, tmp_path) as gateway, httpx2.AsyncClient() as client:
        ports = {"http": gateway.root, "admin": gateway.admin_url}
        for name in ("startupProbe", "readinessProbe", "livenessProbe"):
            asked = container[name]["httpGet"]
            answer = await client.get(ports[asked["port"]] + asked["path"])
            assert answer.status_code == 200, (name, answer.text)


async def test_the_first_request_of_the_notes_is_answered(tmp_path: Path):
    config, _, _ = rendered({})
    body = re.search(r"-d '(.+)'", notes({}))[1]
    async with RunningGateway(config, tmp_path) as gateway, httpx2.AsyncClient() as client:
        headers = {"content-type": "application/json"}
        answer = await client.post(gateway.url + "/chat/completions", content=body, headers=headers)
        assert answer.status_code == 200, answer.text
        assert {"x-postern-model", "x-postern-reason"} <= set(answer.headers)


async def test_helm_test_asks_a_question_and_is_answered(tmp_path: Path):
    config, _, container = rendered({})
    async with RunningGateway(config, tmp_path) as gateway:
        status, said = await ask(container, gateway.root)
        assert (status, "answers:" in said) == (0, True), said
        status, said = await ask(container, gateway.root, MODEL="nobody")
        assert (status, "model_not_found" in said) == (1, True), said


async def test_helm_test_finds_a_model_where_the_configuration_is_not_the_charts(tmp_path: Path):
    config, _, _ = rendered({"config": CONFIG})
    own = render({"existingConfigMap": "mine"})
    container = next(one for one in own if one["kind"] == "Pod")["spec"]["containers"][0]
    async with RunningGateway(config, tmp_path) as gateway:
        status, said = await ask(container, gateway.root, API_KEY=KEY)
        assert (status, "answers:" in said) == (0, True), said
        status, said = await ask(container, gateway.root)
        assert (status, "as it should be" in said) == (0, True), said


async def test_helm_test_is_content_to_be_refused_where_it_has_no_key(tmp_path: Path):
    config, _, container = rendered({"config": CONFIG})
    async with RunningGateway(config, tmp_path) as gateway:
        status, said = await ask(container, gateway.root)
        assert (status, "as it should be" in said) == (0, True), said
        status, said = await ask(container, gateway.root, API_KEY=KEY)
        assert (status, "answers:" in said) == (0, True), said
        status, said = await ask(container, gateway.root, API_KEY="wrong")
        assert (status, "answered 401" in said) == (1, True), said


async def test_helm_test_tells_of_a_gateway_that_is_not_there():
    _, _, container = rendered({})
    status, said = await ask(container, "http://127.0.0.1:9", TIMEOUT_S="0")
    assert (status, "can't be reached" in said) == (1, True), said


def test_helm_test_asks_through_the_service_with_the_key_it_is_given():
    values = {"config": CONFIG, "service": {"port": 8000}, "test": {"apiKeySecret": {"name": "mine", "key": "alice"}}}
    _, _, container = rendered(values)
    told = {one["name"]: one.get("value", one.get("valueFrom")) for one in container["env"]}
    assert (told["URL"], told["MODEL"]) == ("http://blue-postern:8000", "quick")
    assert told["API_KEY"] == {"secretKeyRef": {"name": "mine", "key": "alice"}}
    assert json.loads(told["KEYS_REQUIRED"]) is True
