"""The official JavaScript client against a running gateway."""

import asyncio
import json
import os
from pathlib import Path

import pytest

from tests import npm
from tests.upstream import Answer, DropConnection, Error, ErrorInStream, SilentEnd

pytestmark = pytest.mark.asyncio(loop_scope="module")

FOLDER = Path(__file__).parent / "js"
LOCK = FOLDER / "package-lock.json"
CALL = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Wien"}'}}


@pytest.fixture(scope="module", autouse=True)
def node_modules() -> None:
    npm.install(FOLDER)


@pytest.fixture
def run_node(house):
    """Run one scenario of client.mjs and return what it printed."""

    async def run(scenario: str) -> dict:
        process = await asyncio.create_subprocess_exec(
            "node",
            "client.mjs",
            scenario,
            cwd=FOLDER,
            env=os.environ | {"POSTERN_URL": house.gateway.url},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await asyncio.wait_for(process.communicate(), 30)
        assert process.returncode == 0, err.decode()
        return json.loads(out)

    return run


async def test_the_lock_pins_by_hash_and_names_no_registry():
    packages = {name: one for name, one in json.loads(LOCK.read_text())["packages"].items() if name}
    assert packages
    assert [name for name, one in packages.items() if not one.get("integrity", "").startswith("sha512-")] == []
    assert "resolved" not in LOCK.read_text()
    assert "://" not in LOCK.read_text()


async def test_a_whole_answer_and_its_headers(house, run_node):
    house.weak.script(Answer("Servus, Welt! 👋", prompt_tokens=1000, completion_tokens=500))
    told = await run_node("chat")
    assert told["text"] == "Servus, Welt! 👋"
    assert told["usage"] == {"prompt_tokens": 1000, "completion_tokens": 500, "total_tokens": 1500}
    assert told["requestId"].startswith("req-")
    assert told["headers"]["x-postern-model"] == "small"
    assert told["headers"]["x-postern-reason"] == "forced"
    assert float(told["headers"]["x-postern-cost-usd"]) == 0.002


async def test_streams_with_and_without_usage(house, run_node):
    house.weak.script(Answer("one two three", prompt_tokens=1000, completion_tokens=500))
    told = await run_node("stream")
    assert told["text"] == told["askedText"] == "one two three"
    assert told["usages"] == 0
    assert told["askedUsage"]["cost_usd"] == pytest.approx(0.002, rel=1e-12)


async def test_tool_calls_whole_and_streamed(house, run_node):
    house.weak.script(Answer("", tool_calls=[CALL]))
    told = await run_node("tools")
    assert told == {"calls": [CALL], "streamed": CALL["function"]["arguments"], "finish": "tool_calls"}


async def test_embeddings_and_models(run_node):
    told = await run_node("embeddings")
    assert told["vectors"] == [[0.0, 0.5, -0.25, 0.125], [1.0, 0.5, -0.25, 0.125]]
    assert told["ids"] == ["auto", "large", "small"]


async def test_errors_become_the_clients_classes(house, run_node):
    house.weak.script(Error(429, headers={"retry-after": "3"}), Error(500))
    told = await run_node("errors")
    kinds = {name: (one["kind"], one["status"], one["code"]) for name, one in told.items()}
    assert kinds == {
        "unknown": ("NotFoundError", 404, "model_not_found"),
        "invalid": ("BadRequestError", 400, "invalid_value"),
        "tooLarge": ("APIError", 413, "request_too_large"),
        "limited": ("RateLimitError", 429, "upstream_rate_limited"),
        "failing": ("InternalServerError", 502, "upstream_error"),
    }
    assert (told["invalid"]["param"], told["unknown"]["type"]) == ("n", "invalid_request_error")


@pytest.mark.parametrize(
    "death", [DropConnection(after_chunks=3), SilentEnd(3), ErrorInStream(3)], ids=lambda death: type(death).__name__
)
async def test_a_death_in_the_middle_raises(house, run_node, death):
    house.weak.script(death)
    told = await run_node("death")
    assert told["error"]["isApiError"]
    assert told["error"]["code"] in {"upstream_interrupted", "upstream_error"}
    assert len(told["text"].split()) <= 2


async def test_the_clients_retries_reach_an_upstream_that_comes_back(house, run_node):
    house.weak.script(Error(503), Error(503), Answer("back"))
    assert await run_node("retries") == {"text": "back", "attempts": "1"}
