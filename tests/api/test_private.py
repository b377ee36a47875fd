"""Nothing personal ever arrives at a model that is not local, whatever the client asks for and whatever fails."""

import asyncio
import json
from collections.abc import AsyncIterator

import httpx2
import pytest
import pytest_asyncio

from tests.running import RunningGateway
from tests.upstream import Answer, Error, Upstream

pytestmark = pytest.mark.asyncio(loop_scope="module")

EMAIL, CARD = "jane.doe@example.org", "4111-1111-1111-1111"
CHAT = "/v1/chat/completions"


def fleet(near, far, folder):
    """`near` is local, `far` is not; every route would rather ask `far`."""
    able = ["tools", "json_schema", "n", "embeddings"]
    price = {"input": 1.0, "cached_input": 0.1, "output": 2.0}
    models = {
        "near": {
            "backend": "openai",
            "urls": [near],
            "local": True,
            "price": price,
            "capabilities": [*able, "logprobs"],
        },
        "far": {
            "backend": "openai",
            "urls": [far],
            "domains": ["chat", "code", "writing", "other", "law", "business"],
            "price": price,
            "capabilities": [*able, "vision", "audio", "logprobs"],
        },
    }
    private = {"kind": ["private", "complexity"], "threshold": 0}
    return {
        "models": models,
        "routes": {
            "auto": {"models": ["near", "far"], "policy": private, "fallback": ["far", "near"]},
            "upside": {"models": ["far", "near"], "policy": {**private, "threshold": 1}, "fallback": ["far"]},
            "fixed": {"models": ["near", "far"], "policy": {"kind": ["private", "pinned"], "model": "far"}},
            "alone": {"models": ["near", "far"], "policy": {"kind": "private", "threshold": 0}},
            "careful": {
                "models": ["near", "far"],
                "policy": {"kind": ["private", "cascade"], "threshold": 1, "cascade": {"min_confidence": 1, "band": 1}},
                "fallback": ["far"],
            },
            "sticky": {"models": ["near", "far"], "policy": {"kind": ["private", "session"], "threshold": 0}},
            "expert": {
                "models": ["near", "far"],
                "policy": {"kind": ["private", "domain", "session", "cascade"], "threshold": 0.5},
                "fallback": ["far"],
            },
            "open": {"models": ["near", "far"], "policy": {"threshold": 0}},
        },
        "cache": {"exact": {"ttl_s": 60}},
        "learning_log": {"path": str(folder / "learning.jsonl")},
    }


class Home:
    """The gateway, both upstreams, and what came to them."""

    def __init__(self, gateway, near, far, http):
        self.gateway, self.near, self.far, self.http = gateway, near, far, http

    async def post(self, path=CHAT, headers=None, **body):
        return await self.http.post(self.gateway.root + path, json=body, headers=headers)

    async def ask(self, *messages, model="auto", headers=None, **fields):
        return await self.post(headers=headers, model=model, messages=list(messages), **fields)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gateway(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Home]:
    folder = tmp_path_factory.mktemp("postern")
    async with (
        Upstream() as near,
        Upstream() as far,
        httpx2.AsyncClient(trust_env=False, timeout=20) as http,
        RunningGateway(fleet(near.url, far.url, folder), folder) as running,
    ):
        yield Home(running, near, far, http)


@pytest.fixture
def home(gateway):
    for upstream in (gateway.near, gateway.far):
        upstream.script()
        upstream.requests.clear()
    return gateway


def user(content):
    return {"role": "user", "content": content}


ROUTES = ["auto", "upside", "fixed", "alone", "careful", "sticky", "expert"]
every_route = pytest.mark.parametrize("route", ROUTES)
every_way = pytest.mark.parametrize("stream", [False, True])


@every_route
@every_way
async def test_a_personal_prompt_stays_near(home, route, stream):
    answer = await home.ask(user(f"{route} {stream} write to {EMAIL}"), model=route, stream=stream)
    assert (answer.status_code, answer.headers["x-postern-model"]) == (200, "near")
    assert len(home.near.requests) == 1
    assert home.far.requests == []


@pytest.mark.parametrize("route", ["auto", "upside", "fixed", "alone"])
async def test_an_ordinary_prompt_goes_far(home, route):
    answer = await home.ask(user(f"{route}: what is the capital of France?"), model=route)
    assert answer.headers["x-postern-model"] == "far"
    assert answer.headers["x-postern-reason"] != "private"


@pytest.mark.parametrize("route", ["auto", "upside", "fixed", "alone"])
async def test_the_reason_is_told(home, route):
    answer = await home.ask(user(f"{route}: my card is {CARD}"), model=route)
    assert answer.headers["x-postern-reason"] == "private"


async def test_a_conversation_that_was_held_far_comes_home_once_it_is_personal(home):
    turns, headers = [user("word " * 3000)], {"x-postern-session": "one"}
    assert (await home.ask(*turns, model="sticky", headers=headers)).headers["x-postern-model"] == "far"
    turns += [{"role": "assistant", "content": "Fine."}, user(f"I am {EMAIL}")]
    assert (await home.ask(*turns, model="sticky", headers=headers)).headers["x-postern-model"] == "near"
    turns += [{"role": "assistant", "content": "Fine."}, user("Go on")]
    assert (await home.ask(*turns, model="sticky", headers=headers)).headers["x-postern-model"] == "near"
    assert len(home.far.requests) == 1


@every_route
@pytest.mark.parametrize("tier", ["strong", "weak"])
async def test_a_forced_tier_does_not_send_it_far(home, route, tier):
    answer = await home.ask(user(f"{tier} {route} {EMAIL}"), model=route, headers={"x-postern-tier": tier})
    assert answer.headers["x-postern-model"] == "near"
    assert home.far.requests == []


@every_route
@pytest.mark.parametrize("threshold", ["0", "1"])
async def test_a_threshold_does_not_send_it_far(home, route, threshold):
    await home.ask(user(f"{threshold} {route} {EMAIL}"), model=route, headers={"x-postern-threshold": threshold})
    assert (len(home.near.requests), home.far.requests) == (1, [])


@every_route
@every_way
async def test_when_the_local_model_fails_nobody_else_is_asked(home, route, stream):
    home.near.script(Error(500))
    answer = await home.ask(user(f"failing {route} {stream} {EMAIL}"), model=route, stream=stream)
    assert answer.status_code == 502
    assert home.near.requests
    assert home.far.requests == []


PLACES = {
    "system": [{"role": "system", "content": f"You serve {EMAIL}"}, user("Hi")],
    "earlier turn": [user(f"I am at {EMAIL}"), {"role": "assistant", "content": "Fine."}, user("And now?")],
    "earlier answer": [user("Hi"), {"role": "assistant", "content": f"Write to {EMAIL}"}, user("And now?")],
    "tool result": [
        user("Look it up"),
        {"role": "assistant", "content": None, "tool_calls": [{"id": "1", "type": "function"}]},
        {"role": "tool", "tool_call_id": "1", "content": json.dumps({"card": CARD})},
    ],
    "tool arguments": [
        {
            "role": "assistant",
            "tool_calls": [{"id": "1", "function": {"name": "f", "arguments": json.dumps({"a": {"b": EMAIL}})}}],
        },
        user("Go on"),
    ],
    "part": [user([{"type": "text", "text": "Hi"}, {"type": "text", "text": CARD}])],
    "long history": [
        *(turn for n in range(40) for turn in (user(f"turn {n} " * 99), user("ok"))),
        user(EMAIL),
        user("?"),
    ],
}


@pytest.mark.parametrize("place", PLACES)
async def test_all_of_a_conversation_counts(home, place):
    answer = await home.ask(*PLACES[place])
    assert (answer.status_code, home.far.requests) == (200, [])
    assert len(home.near.requests) == 1


@pytest.mark.parametrize(
    "fields",
    [
        {"tools": [{"type": "function", "function": {"name": "f", "description": f"for {EMAIL}"}}]},
        {"metadata": {"mail": EMAIL}},
        {"user": EMAIL},
        {"x_new_field": [{"deep": CARD}]},
    ],
)
async def test_every_field_counts(home, fields):
    assert (await home.ask(user("Hi"), **fields)).status_code == 200
    assert (len(home.near.requests), home.far.requests) == (1, [])


DISGUISES = [
    r"jane\u0040example.org",
    r"jane\\u0040example.org",
    r"jane%40example.org jane&#64;example.org",
    "jane\uff20example.org",
    "\uff14111 1111 \uff11111 1111",
    "\u0664" + "\u0661" * 15,
    "4111\u200b1111\u200b1111\u200b1111",
    "j\u00adane\u2060@example.org",
    "4111\u20111111\u20111111\u20111111",
]


@pytest.mark.parametrize("content", DISGUISES)
@pytest.mark.parametrize("name", ["content", r"\u0063ontent"])
async def test_a_disguise_does_not_send_it_far(home, name, content):
    body = f'{{"model": "auto", "messages": [{{"role": "user", "{name}": "{content}"}}]}}'
    answer = await home.http.post(home.gateway.root + CHAT, content=body.encode())
    assert (answer.status_code, answer.headers["x-postern-model"]) == (200, "near")
    assert home.far.requests == []


async def test_completions_and_embeddings_are_kept_too(home):
    assert (await home.post("/v1/completions", model="auto", prompt=f"Dear {EMAIL}")).status_code == 200
    assert (await home.post("/v1/embeddings", model="auto", input=[f"Dear {EMAIL}"])).status_code == 200
    assert (await home.post("/v1/embeddings", model="auto", input="of ordinary words")).status_code == 200
    assert (len(home.near.requests), home.far.requests) == (3, [])


@pytest.mark.parametrize("part", [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}])
async def test_what_can_not_be_read_and_no_local_model_can_see_is_refused(home, part):
    answer = await home.ask(user([{"type": "text", "text": "What is this?"}, part]))
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "personal_data"
    assert (home.near.requests, home.far.requests) == ([], [])


@every_way
async def test_the_refusal_tells_nothing_of_what_was_found(home, stream):
    content = [{"type": "text", "text": f"Is this {EMAIL}?"}, {"type": "input_audio", "input_audio": {"data": "AA"}}]
    answer = await home.ask(user(content), stream=stream)
    assert answer.json()["error"]["type"] == "invalid_request_error"
    assert "jane" not in answer.text
    assert (home.near.requests, home.far.requests) == ([], [])


async def test_an_answer_from_the_cache_sends_nothing(home):
    prompt = user(f"twice: {EMAIL}")
    outcomes = [(await home.ask(prompt)).headers["x-postern-cache"] for _ in range(2)]
    assert outcomes == ["miss", "hit"]
    assert (len(home.near.requests), home.far.requests) == (1, [])


async def test_a_route_without_the_policy_and_a_model_by_its_own_name_are_not_covered(home):
    for name in ("open", "far"):
        assert (await home.ask(user(f"{name}: {EMAIL}"), model=name)).headers["x-postern-model"] == "far"


async def test_explain_says_which_kinds_and_no_more(home):
    content = f"My name is Ada, {EMAIL}, {CARD}"
    answer = await home.post("/v1/route", model="auto", messages=[user(content)])
    explained = answer.json()
    assert (explained["model"], explained["reason"]) == ("near", "private")
    assert explained["personal"] == ["card", "email", "name"]
    assert explained["candidates"][1]["dropped"] == "private"
    assert "jane" not in answer.text
    assert (await home.post("/v1/route", model="auto", messages=[user("Hi")])).json()["personal"] == []


async def test_logs_and_metrics_tell_no_more_than_the_reason(home):
    await home.ask(user(f"logged: {EMAIL} {CARD}"))
    await home.gateway.wait_for("request", reason="private")
    metrics = (await home.http.get(home.gateway.admin_url + "/metrics")).text
    assert 'reason="private"' in metrics
    for told in (metrics, json.dumps(home.gateway.log)):
        assert "jane.doe" not in told
        assert CARD not in told


@pytest.mark.parametrize("route", ["auto", "open"])
async def test_the_learning_log_leaves_it_out_on_every_route(home, route):
    path = home.gateway.config_file.parent / "learning.jsonl"
    await home.ask(user(f"left out of {route}: {EMAIL}"), model=route)
    await home.ask(user(f"written of {route}"), model=route)
    for _ in range(500):
        if f"written of {route}" in path.read_text():
            break
        await asyncio.sleep(0.01)
    assert f"written of {route}" in path.read_text()
    assert f"left out of {route}" not in path.read_text()


async def test_a_cascade_has_nobody_to_go_on_to(home):
    explained = [(await home.post("/v1/route", model="careful", messages=[user(t)])).json() for t in ("Hi", EMAIL)]
    assert [found["escalation"] for found in explained] == ["far", None]
    home.near.script(Answer(text="I am not sure at all."))
    answer = await home.ask(user(f"unsure: {EMAIL}"), model="careful")
    assert answer.headers["x-postern-reason"] != "escalated"
    assert (len(home.near.requests), home.far.requests) == (1, [])
