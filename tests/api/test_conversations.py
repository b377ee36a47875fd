"""Conversations through a running gateway: where they stay, where they go, and that they are nobody else's.

Every test has a route of its own, as each route learns for itself how well its upstreams cache. The upstreams report
20,000 prompt tokens, from the second turn on nearly all of them cached.
"""

import asyncio
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import pytest_asyncio

from gateway.app import router_folder
from gateway.auth.keys import hash_key
from gateway.classify.onnx import OnnxClassifier
from tests.api.conftest import House
from tests.builders import request as decoded
from tests.faults.wire import eventually
from tests.running import RunningGateway
from tests.upstream import Answer, Error, Upstream

pytestmark = pytest.mark.asyncio(loop_scope="module")

SYSTEM = {"role": "system", "content": "You work for a school. " + "Be kind, be brief, say what you don't know. " * 150}
PROOF = (
    "Prove rigorously that there are infinitely many primes congruent to 3 modulo 4, and derive the asymptotic density "
    "with full error terms."
)
EASY = ("What is the capital of France?", "What is the capital of Italy?", "What is the capital of Spain?", "And Peru?")
KEYS = {"alice": "pk-alice", "bob": "pk-bob"}
SESSION = "SECRET-CONVERSATION-7"
NAMES = (
    "stays",
    "streams",
    "heads",
    "names",
    "tenants",
    "hi",
    "wishes",
    "told",
    "uncached",
    "falls-back",
    "reloads",
    "private",
)
ROUTES = {name: {} for name in NAMES} | {"expires": {"cache_ttl_s": 0.4}}

KINDS = {"private": ("private",)}


def turns(*said: str) -> list[dict[str, str]]:
    """A conversation in which the user says these things, with an answer after each but the last."""
    answer = {"role": "assistant", "content": "Hello from upstream."}
    talk = [[{"role": "user", "content": text}, answer] for text in said]
    return [SYSTEM, *(turn for pair in talk for turn in pair)][:-1]


def threshold_between(*conversations: list[dict[str, str]]) -> float:
    """The threshold between the easier and the harder of two conversations, with the router that ships."""
    router = OnnxClassifier.load(router_folder("default"))
    easy, hard = (router.judge(decoded(messages=messages).conversation).score for messages in conversations)
    assert easy + 0.05 < hard, "these prompts no longer tell the two sides apart: choose others"
    return (easy + hard) / 2


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    folder: Path = tmp_path_factory.mktemp("conversations")
    threshold = threshold_between(turns(PROOF, EASY[0]), turns("hi", PROOF))
    async with Upstream() as weak, Upstream() as strong, httpx2.AsyncClient(trust_env=False, timeout=20) as http:
        prices = {
            "small": {"input": 1.0, "cached_input": 0.1, "output": 5.0},
            "large": {"input": 3.0, "cached_input": 0.3, "output": 15.0},
        }
        urls = {"small": weak.url, "large": strong.url}
        config = {
            "models": {
                name: {
                    "backend": "openai",
                    "urls": [urls[name]],
                    "price": prices[name],
                    "context_tokens": 100_000,
                    "local": name == "small",
                }
                for name in urls
            },
            "routes": {
                name: {
                    "models": ["small", "large"],
                    "policy": {"kind": [*KINDS.get(name, ()), "session"], "threshold": threshold, "session": session},
                    "fallback": ["large", "small"],
                }
                for name, session in ROUTES.items()
            },
            "keys": {"clients": {name: {"sha256": hash_key(key)} for name, key in KEYS.items()}},
        }
        async with RunningGateway(config, folder) as gateway:
            yield House(gateway, weak, strong, http)


CACHED = Answer(prompt_tokens=20_100, completion_tokens=100, cached_tokens=20_000)
FRESH = Answer(prompt_tokens=20_000, completion_tokens=100)


async def say(house: House, route: str, *said: str, who: str = "alice", session: str | None = None, **more: Any):
    """Say the last of these things, the others having been said and answered; return the model and why."""
    headers = {"authorization": f"Bearer {KEYS[who]}"} | ({"x-postern-session": session} if session else {})
    headers |= {name.replace("_", "-"): value for name, value in more.pop("headers", {}).items()}
    body = {"model": route, "messages": turns(*said), "max_tokens": 100, **more}
    response = await house.post(json=body, headers=headers)
    assert response.status_code == 200, response.text
    return response.headers["x-postern-model"], response.headers["x-postern-reason"]


def script(house: House) -> None:
    """Each upstream reads all of its first prompt, and finds later ones in its cache."""
    house.weak.script(FRESH, CACHED)
    house.strong.script(FRESH, CACHED)


STAYED = ("large", "session")
WENT = ("small", "score")


@pytest.mark.parametrize(("route", "stream"), [("stays", False), ("streams", True)])
async def test_after_a_hard_turn_easy_ones_stay_where_it_pays_and_no_longer(house, route, stream):
    """By hand, in millionths: rent 4,000 to 5,500 a turn, as long as the answer; the fee 18,000."""
    script(house)
    more = {"stream": True, "stream_options": {"include_usage": True}} if stream else {}
    assert await say(house, route, PROOF, **more) == ("large", "score")
    found = [await say(house, route, PROOF, *EASY[: count + 1], **more) for count in range(4)]
    assert found == [STAYED, STAYED, STAYED, WENT]
    assert await say(house, route, PROOF, *EASY, EASY[0], **more) == WENT, "the weak one has read it by now"


async def test_a_conversation_that_begins_with_hi_and_asks_for_a_proof_gets_the_strong_model(house):
    script(house)
    assert await say(house, "hi", "hi") == WENT
    assert await say(house, "hi", "hi", PROOF) == ("large", "score")


async def test_a_cache_that_has_died_keeps_nobody(house):
    script(house)
    assert await say(house, "expires", PROOF) == ("large", "score")
    assert await say(house, "expires", PROOF, EASY[0]) == STAYED
    await asyncio.sleep(0.6)
    assert await say(house, "expires", PROOF, *EASY[:2]) == WENT


@pytest.mark.parametrize("session", [None, SESSION])
async def test_two_tenants_never_meet_whatever_they_call_their_conversations(house, session):
    script(house)
    await say(house, "tenants", PROOF, session=session)
    assert await say(house, "tenants", PROOF, EASY[0], session=session, who="bob") == WENT
    assert await say(house, "tenants", PROOF, EASY[0], session=session) == STAYED


async def test_a_name_tells_conversations_apart_that_begin_alike(house):
    script(house)
    await say(house, "names", PROOF, session="one")
    assert await say(house, "names", PROOF, EASY[0], session="two") == WENT
    assert await say(house, "names", PROOF, EASY[0], session="one") == STAYED


async def test_another_conversation_under_the_same_name_is_seen_for_what_it_is(house):
    script(house)
    await say(house, "heads", PROOF, session="mine")
    other = [{"role": "system", "content": "You sell shoes. " * 400}, *turns(PROOF, EASY[0])[1:]]
    assert await say(house, "heads", session="mine", messages=other) == WENT


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"x_postern_tier": "weak"}, ("small", "forced")),
        ({"x_postern_threshold": "1"}, WENT),
    ],
)
async def test_what_the_client_asks_for_is_given(house, headers, expected):
    script(house)
    session = str(headers)
    await say(house, "wishes", PROOF, session=session)
    assert await say(house, "wishes", PROOF, EASY[0], session=session, headers=headers) == expected


async def test_personal_data_stays_on_a_local_model_wherever_the_conversation_was(house):
    script(house)
    assert await say(house, "private", PROOF) == ("large", "score")
    assert await say(house, "private", PROOF, EASY[0]) == STAYED
    assert await say(house, "private", PROOF, EASY[0], "My IBAN is DE89 3704 0044 0532 0130 00. Spell it.") == WENT


async def test_a_route_is_explained_as_the_request_would_go_and_a_conversation_has_no_name_to_read(house):
    script(house)
    await say(house, "told", PROOF, session=SESSION)
    asked = len(house.strong.requests)
    headers = {"authorization": f"Bearer {KEYS['alice']}", "x-postern-session": SESSION}
    body = {"model": "told", "messages": turns(PROOF, EASY[0]), "max_tokens": 100}
    told = (await house.post("/v1/route", json=body, headers=headers)).json()
    assert (told["model"], told["reason"]) == STAYED
    assert len(house.strong.requests) == asked
    assert await say(house, "told", PROOF, EASY[0], session=SESSION) == STAYED
    # Requests are counted after their answers are sent.
    kept = 'postern_requests_total{model="large",reason="session",route="told",status="ok",tier="strong"}'

    async def is_counted() -> bool:
        return (await house.samples()).get(kept) == 1.0

    await eventually(is_counted)
    assert SESSION not in await house.metrics() + str(house.gateway.log)


async def test_upstreams_that_never_report_a_cached_token_keep_nobody_for_long(house):
    house.strong.script(FRESH)
    for count in range(12):
        await say(house, "uncached", *[PROOF] * (count + 1), session="taught")
    assert await say(house, "uncached", PROOF, session="after") == ("large", "score")
    assert await say(house, "uncached", PROOF, EASY[0], session="after") == WENT


async def test_a_conversation_is_where_it_was_answered_not_where_it_was_sent(house):
    house.strong.script(Error(500))
    house.weak.script(FRESH, CACHED)
    assert await say(house, "falls-back", PROOF, session="down") == ("small", "fallback")
    assert await say(house, "falls-back", PROOF, EASY[0], session="down") == WENT
    house.weak.script(Error(500))
    house.strong.script(FRESH, CACHED)
    assert await say(house, "falls-back", EASY[0], session="up") == ("large", "fallback")
    house.weak.script(FRESH)
    assert await say(house, "falls-back", *EASY[:2], session="up") == STAYED


async def test_a_reload_forgets_no_conversation(house):
    script(house)
    await say(house, "reloads", PROOF)
    seen = len(house.gateway.log)
    house.gateway.signal(signal.SIGHUP)
    await house.gateway.wait_for("reloaded", since=seen)
    assert await say(house, "reloads", PROOF, EASY[0]) == STAYED
