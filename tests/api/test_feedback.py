"""Feedback over HTTP: who may mark what, what a mark may be, and what becomes of it."""

import asyncio
import json

import pytest

from gateway.auth.keys import hash_key
from tests.faults.wire import Wire, post
from tests.upstream import Answer, Error

pytestmark = pytest.mark.asyncio(loop_scope="module")

ALICE, BOB = "pk-alice-SECRET", "pk-bob-SECRET"
SECTIONS = {
    "server": {"body_timeout_s": 0.5},
    "cache": {"exact": {"ttl_s": 60}},
    "keys": {
        "required": True,
        "clients": {"alice": {"sha256": hash_key(ALICE)}, "bob": {"sha256": hash_key(BOB)}},
    },
}
CHAT = {"model": "auto", "messages": [{"role": "user", "content": "PROMPT-SECRET: say hello."}]}


def key(text=ALICE, **headers):
    return {"Authorization": f"Bearer {text}"} | headers


async def ask(house, headers=None, **changes):
    response = await house.post(json=CHAT | changes, headers=headers or key())
    return response.headers["x-request-id"]


async def mark(house, request_id, who=ALICE, **body):
    return await house.post("/v1/feedback", json={"request_id": request_id, **body}, headers=key(who))


async def marks(house, **labels):
    samples = await house.samples()
    wanted = [f'{name}="{value}"' for name, value in labels.items()]
    return sum(
        value
        for name, value in samples.items()
        if name.startswith("postern_feedback_total") and all(label in name for label in wanted)
    )


@pytest.mark.parametrize(
    ("body", "stands"), [({"good": True}, 1.0), ({"good": False}, 0.0), ({"mark": 0.8}, 0.8), ({"mark": 0}, 0.0)]
)
async def test_an_answer_is_marked_and_counted(house, body, stands):
    request_id = await ask(house, seed=1, user=str(body))
    verdict = "good" if stands >= 0.5 else "bad"
    before = await marks(house, route="auto", verdict=verdict)
    response = await mark(house, request_id, **body)
    assert response.status_code == 200
    assert response.json() == {"request_id": request_id, "mark": stands, "replaced": False}
    assert await marks(house, route="auto", verdict=verdict) == before + 1


async def test_a_streamed_a_cached_and_a_pinned_answer_can_be_marked(house):
    streamed = await house.post(json=CHAT | {"stream": True, "seed": 2}, headers=key())
    asked = [streamed.headers["x-request-id"], await ask(house, seed=3), await ask(house, seed=3)]
    asked.append(await ask(house, seed=4, model="large"))
    for request_id in asked:
        assert (await mark(house, request_id, good=True)).status_code == 200


async def test_a_second_mark_takes_the_place_of_the_first_and_counts_no_more(house):
    request_id = await ask(house, seed=5)
    await mark(house, request_id, good=True)
    before = await marks(house)
    response = await mark(house, request_id, mark=0.1)
    assert response.json() == {"request_id": request_id, "mark": 0.1, "replaced": True}
    assert await marks(house) == before


async def test_only_the_tenant_that_asked_may_mark(house):
    request_id = await ask(house, seed=6)
    theirs, unknown = await mark(house, request_id, BOB, good=True), await mark(house, "req-never", BOB, good=True)
    assert (theirs.status_code, theirs.json()["error"]["code"]) == (404, "not_found")
    assert theirs.json() == unknown.json()
    assert (await mark(house, request_id, good=True)).status_code == 200


async def test_the_same_id_from_two_tenants_means_two_answers(house):
    for who, model in ((ALICE, "small"), (BOB, "large")):
        await ask(house, key(who, **{"x-request-id": "mine"}), seed=7, model=model)
    before = await marks(house, model="small")
    assert (await mark(house, "mine", BOB, good=True)).status_code == 200
    assert await marks(house, model="small") == before
    assert (await mark(house, "mine", ALICE, good=True)).status_code == 200
    assert await marks(house, model="small") == before + 1


@pytest.mark.parametrize("who", [None, "pk-nobody"])
async def test_without_a_key_nothing_is_marked(house, who):
    request_id = await ask(house, seed=8)
    headers = {} if who is None else key(who)
    response = await house.post("/v1/feedback", json={"request_id": request_id, "good": True}, headers=headers)
    assert (response.status_code, response.json()["error"]["code"]) == (401, "invalid_api_key")


async def test_a_failed_request_has_no_answer_to_mark(house):
    house.weak.script(*[Error(500)] * 3)
    house.strong.script(*[Error(500)] * 3)
    request_id = await ask(house, seed=9)
    assert (await mark(house, request_id, good=True)).status_code == 404


NESTED = b'{"request_id": "a", "good": ' + b"[" * 5000


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        (b"", "invalid_json", None),
        (b"hello", "invalid_json", None),
        (b'{"request_id": "\xff", "good": true}', "invalid_json", None),
        (NESTED, "request_too_large", None),
        (NESTED[:3000], None, None),
        (b"[]", "invalid_value", None),
        (b"null", "invalid_value", None),
        (b"{}", "invalid_value", "request_id"),
        (b'{"request_id": "a"}', "invalid_value", "mark"),
        (b'{"request_id": "a", "good": null, "mark": null}', "invalid_value", "mark"),
        (b'{"request_id": "a", "good": true, "mark": 1}', "invalid_value", "mark"),
        (b'{"request_id": "a", "good": 1}', "invalid_value", "good"),
        (b'{"request_id": "a", "good": "true"}', "invalid_value", "good"),
        (b'{"request_id": "a", "mark": "0.5"}', "invalid_value", "mark"),
        (b'{"request_id": "a", "mark": true}', "invalid_value", "mark"),
        (b'{"request_id": "a", "mark": 1.01}', "invalid_value", "mark"),
        (b'{"request_id": "a", "mark": -0.01}', "invalid_value", "mark"),
        (b'{"request_id": "a", "mark": 1e999}', None, None),
        (b'{"request_id": "a", "mark": NaN}', "invalid_json", None),
        (b'{"request_id": "", "good": true}', "invalid_value", "request_id"),
        (b'{"request_id": 7, "good": true}', "invalid_value", "request_id"),
        (b'{"request_id": ["a"], "good": true}', "invalid_value", "request_id"),
        (b'{"request_id": "' + b"a" * 129 + b'", "good": true}', "invalid_value", "request_id"),
        (b'{"request_id": "' + b"a" * 9000 + b'", "good": true}', "request_too_large", None),
        (b'{"request_id": "a", "good": true, "comment": "nice"}', "invalid_value", None),
    ],
)
async def test_a_body_that_is_none_is_refused_in_openais_shape(house, body, code, param):
    response = await house.post("/v1/feedback", content=body, headers=key() | {"content-type": "application/json"})
    assert response.status_code in {400, 413}
    error = response.json()["error"]
    assert error["code"] in ({code} if code else {"invalid_json", "invalid_value"})
    assert param is None or error["param"] == param


async def test_ids_of_strange_characters_are_only_unknown(house):
    for request_id in ("a\nb", "\x00", "é 😀", "\ud83d", "../../x", "feedback:*"):
        body = json.dumps({"request_id": request_id, "good": True})
        response = await house.post("/v1/feedback", content=body, headers=key())
        assert response.status_code in {400, 404}
        assert response.json()["error"]["code"] in {"not_found", "invalid_json"}


async def test_another_method_is_told_which_is_right(house):
    response = await house.get("/v1/feedback", headers=key())
    assert (response.status_code, response.json()["error"]["code"]) == (405, "method_not_allowed")


async def test_many_marks_at_once_are_each_taken(house):
    asked = await asyncio.gather(*(ask(house, seed=100 + number) for number in range(20)))
    found = await asyncio.gather(*(mark(house, request_id, good=True) for request_id in asked))
    assert {response.status_code for response in found} == {200}


async def test_a_mark_says_nothing_of_the_prompt_in_any_log(house):
    house.weak.script(Answer("hi"))
    request_id = await ask(house, seed=10)
    await mark(house, request_id, good=True)
    assert "PROMPT-SECRET" not in json.dumps(house.gateway.log)
    assert ALICE not in json.dumps(house.gateway.log)


async def test_a_client_that_goes_away_or_stalls_in_the_middle_harms_nobody(house):
    for leaves in (True, False):
        wire = await Wire.connect(house.gateway.url)
        head = post(b"x" * 100, "/v1/feedback", authorization=f"Bearer {ALICE}")
        await wire.send(head[:-50])
        if not leaves:
            assert (await wire.response()).status == 408
        await wire.close()
    assert (await mark(house, await ask(house, seed=11), good=True)).status_code == 200
    assert not [row for row in house.gateway.log if row["event"] in {"internal_error", "unreadable"}]
