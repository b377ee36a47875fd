"""The simulated model's doubts: the same each time, rare enough, and in the form that clients know."""

import json

import pytest

from gateway.backends.confidence import Reading
from gateway.backends.simulated import SimulatedBackend
from gateway.schema.request import Operation
from tests.builders import call, collect, model, request


async def ask(prompt="Hello", operation=Operation.CHAT, **fields):
    messages = {"messages": [{"role": "user", "content": prompt}]} if operation is Operation.CHAT else {}
    answer = await SimulatedBackend("m", model()).open(call(request(operation, **messages, **fields)))
    return await collect(answer)


async def test_a_stream_and_a_body_tell_the_same_and_always_do():
    whole, again = json.loads(await ask(logprobs=True)), json.loads(await ask(logprobs=True))
    assert whole == again
    stream = await ask(logprobs=True, stream=True)
    chunks = [json.loads(line[6:]) for line in stream.decode().splitlines() if line.startswith("data: {")]
    told = [
        one["choices"][0]["logprobs"]["content"] for one in chunks if one["choices"] and "logprobs" in one["choices"][0]
    ]
    assert [token for tokens in told for token in tokens] == whole["choices"][0]["logprobs"]["content"]


@pytest.mark.parametrize(("wish", "count"), [(None, 0), (0, 0), (3, 3), (99, 20), ("x", 0)])
async def test_alternatives_come_where_they_are_asked_for_the_token_itself_first(wish, count):
    told = json.loads(await ask(logprobs=True, top_logprobs=wish))["choices"][0]["logprobs"]["content"]
    for token in told:
        assert len(token["top_logprobs"]) == count
        assert not count or token["top_logprobs"][0]["token"] == token["token"]
        assert [one["logprob"] for one in token["top_logprobs"]] == sorted(
            (one["logprob"] for one in token["top_logprobs"]), reverse=True
        )
        assert bytes(token["bytes"]).decode() == token["token"]


async def test_legacy_completions_tell_none():
    assert json.loads(await ask(operation=Operation.COMPLETION, logprobs=1))["choices"][0]["logprobs"] is None


async def test_some_prompts_leave_it_in_doubt_and_most_do_not():
    confidences = []
    for n in range(200):
        reading = Reading(16)
        reading.add(await ask(f"prompt {n}", logprobs=True))
        confidences.append(reading.confidence(0.2))
    doubtful = sum(confidence < 0.3 for confidence in confidences)
    print(f"doubtful: {doubtful} of 200")
    assert 20 < doubtful < 80
