"""OpenAI's answers of a bare engine: shapes, counts, reasons, bounds, stops."""

import json

import pytest

from gateway.backends.engine import Piece, TokenLogprob
from gateway.core.errors import (
    InvalidValueError,
    UnsupportedParameterError,
    UpstreamContextError,
)
from gateway.schema.request import Operation
from gateway.schema.sse import DONE
from tests.builders import call, collect, raised_by, request
from tests.engines import END, Words, engine_backend, payloads, streamed, text_of, whole


async def test_a_chat_is_answered_in_openais_shape():
    backend, engine = engine_backend("Hel", "lo", END)
    told = await whole(backend)
    assert told["object"] == "chat.completion"
    assert told["id"].startswith("chatcmpl-")
    assert told["model"] == "m"
    assert "system_fingerprint" not in told
    assert told["choices"] == [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "Hello", "refusal": None},
            "logprobs": None,
            "finish_reason": "stop",
        }
    ]
    assert told["usage"] == {"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9}
    assert engine.tasks[0].prompt == "<|user|>Hello there<|end|><|assistant|>"
    assert not engine.tasks[0].is_streaming
    assert engine.ended == 1


async def test_a_streamed_chat_begins_with_its_role_and_ends_with_its_reason_its_usage_and_done():
    backend, engine = engine_backend("Hel", "lo", END)
    answer = await backend.open(call(request(stream=True)))
    blocks = [block async for block in answer.blocks]
    assert all(block.endswith(b"\n\n") for block in blocks)
    stream = b"".join(blocks)
    assert stream.endswith(DONE)
    assert stream.count(DONE) == 1
    told = payloads(stream)
    assert [one["choices"][0]["delta"] for one in told[:-1]] == [
        {"role": "assistant", "content": ""},
        {"content": "Hel"},
        {"content": "lo"},
        {},
    ]
    assert [one["choices"][0]["finish_reason"] for one in told[:-1]] == [None, None, None, "stop"]
    assert told[-1]["choices"] == []
    assert told[-1]["usage"] == {"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9}
    assert {one["object"] for one in told} == {"chat.completion.chunk"}
    assert len({one["id"] for one in told}) == 1
    assert engine.tasks[0].is_streaming
    await answer.close()
    assert engine.ended == 1


@pytest.mark.parametrize("is_streaming", [True, False])
async def test_a_completion_has_its_own_shape_and_its_prompt_goes_as_it_is(is_streaming):
    backend, engine = engine_backend("Hel", "lo", END, source=None)
    asked = request(Operation.COMPLETION, prompt=["<s>Once"], stream=is_streaming)
    stream = await collect(await backend.open(call(asked)))
    told = payloads(stream) if is_streaming else [json.loads(stream)]
    assert "".join(one["choices"][0]["text"] for one in told if one["choices"]) == "Hello"
    assert {one["object"] for one in told} == {"text_completion"}
    assert told[0]["id"].startswith("cmpl-")
    assert engine.tasks[0].prompt == "<s>Once"


@pytest.mark.parametrize(
    ("operation", "body", "param"),
    [
        (Operation.COMPLETION, {"prompt": ["one", "two"]}, "prompt"),
        (Operation.COMPLETION, {"prompt": [1, 2, 3]}, "prompt"),
        (Operation.COMPLETION, {"prompt": [[1, 2, 3]]}, "prompt"),
        (Operation.EMBEDDING, {}, "model"),
        (Operation.CHAT, {}, "messages"),
    ],
)
async def test_what_a_bare_engine_without_a_template_cannot_serve_is_refused(operation, body, param):
    backend, engine = engine_backend("x", source=None)
    error = await raised_by(backend.open(call(request(operation, **body))))
    assert isinstance(error, UnsupportedParameterError)
    assert error.param == param
    assert engine.begun == 0


async def test_an_engine_that_tells_no_reason_came_to_its_bound_or_stopped():
    for max_tokens, reason in ((2, "length"), (3, "stop")):
        backend, _ = engine_backend("a", "b")
        assert (await whole(backend, max_tokens=max_tokens))["choices"][0]["finish_reason"] == reason


async def test_a_reason_that_is_told_stands():
    backend, _ = engine_backend("a", Piece("b", token_count=1, finish_reason="length"))
    assert (await whole(backend, max_tokens=50))["choices"][0]["finish_reason"] == "length"


async def test_counts_that_nobody_told_are_the_tokenizers_and_without_one_estimates_that_say_so():
    script = (Piece("one two "), Piece("three"), Piece(finish_reason="stop"))
    backend, _ = engine_backend(*script, tokenizer=Words())
    assert (await whole(backend))["usage"] == {"prompt_tokens": 3, "completion_tokens": 3, "total_tokens": 6}
    backend, _ = engine_backend(*script)
    estimate = {"prompt_tokens": 10, "completion_tokens": 4, "total_tokens": 14, "is_estimated": True}
    assert (await whole(backend))["usage"] == estimate
    assert [one["usage"] for one in await streamed(backend) if "usage" in one] == [estimate]


async def test_a_prompt_that_surely_fits_is_counted_for_its_usage_all_the_same():
    backend, _ = engine_backend("one", Piece(finish_reason="stop"), tokenizer=Words())
    assert (await whole(backend, max_tokens=5))["usage"]["prompt_tokens"] == 3


async def test_a_count_that_is_told_for_some_pieces_only_is_no_count():
    backend, _ = engine_backend("one", Piece("two"), END)
    assert (await whole(backend))["usage"]["is_estimated"]


@pytest.mark.parametrize("is_streaming", [True, False])
async def test_a_stop_string_ends_the_answer_and_the_work(is_streaming):
    backend, engine = engine_backend("One. En", "d of it", "never seen", 60)
    if is_streaming:
        told = await streamed(backend, stop=["End"])
        assert text_of(told) == "One. "
        assert [one["choices"][0]["finish_reason"] for one in told if one["choices"]][-1] == "stop"
    else:
        told = await whole(backend, stop=["End"])
        assert told["choices"][0]["message"]["content"] == "One. "
        assert told["choices"][0]["finish_reason"] == "stop"
    assert (engine.ended, engine.cancelled) == (1, 1)
    assert engine.tasks[0].sampling.stop == ("End",)


async def test_what_only_began_like_a_stop_string_is_given_in_the_end():
    backend, _ = engine_backend("One. En", END)
    assert text_of(await streamed(backend, stop="End")) == "One. En"
    assert (await whole(backend, stop="End"))["choices"][0]["message"]["content"] == "One. En"


async def test_the_bound_is_what_the_client_says_within_the_window():
    backend, engine = engine_backend("x", END, tokenizer=Words(), context_tokens=10)
    await whole(backend, max_tokens=4)
    await whole(backend, max_tokens=4_000)
    await whole(backend, max_completion_tokens=5, max_tokens=4)
    await whole(backend)
    assert [task.sampling.max_tokens for task in engine.tasks] == [4, 7, 5, 7]


async def test_without_a_tokenizer_what_is_left_is_estimated_generously():
    backend, engine = engine_backend("x", END, context_tokens=8192)
    await whole(backend, messages=[{"role": "user", "content": "word " * 1000}])
    await whole(backend, messages=[{"role": "user", "content": "word " * 10_000}])
    first, second = [task.sampling.max_tokens for task in engine.tasks]
    assert 6_000 < first < 8192 - 1250
    assert second == 256


async def test_a_prompt_that_fills_the_window_is_told_as_such():
    backend, engine = engine_backend("x", END, tokenizer=Words(), context_tokens=3)
    error = await raised_by(whole(backend))
    assert isinstance(error, UpstreamContextError)
    assert "maximum context length is 3 tokens" in error.message
    assert engine.begun == 0


@pytest.mark.parametrize("bound", [0, -1, 1.5, "ten", True])
async def test_a_bound_that_is_none_is_told_with_its_name(bound):
    backend, _ = engine_backend("x")
    asked = request(max_tokens=5)
    asked.fields["max_tokens"] = json.dumps(bound).encode()
    error = await raised_by(backend.open(call(asked)))
    assert isinstance(error, InvalidValueError)
    assert error.param == "max_tokens"


LOGPROBS = (
    Piece("Hel", token_count=1, logprobs=(TokenLogprob("Hel", -0.1, (("Hel", -0.1), ("Hé", float("-inf")))),)),
    Piece("lo", token_count=1, logprobs=(TokenLogprob("lo", -0.2, (("lo", -0.2),)),)),
    END,
)


async def test_log_probabilities_have_a_chats_shape():
    backend, engine = engine_backend(*LOGPROBS)
    told = await whole(backend, logprobs=True, top_logprobs=2)
    assert engine.tasks[0].sampling.logprobs == 2
    assert told["choices"][0]["logprobs"]["content"][0] == {
        "token": "Hel",
        "logprob": -0.1,
        "bytes": [72, 101, 108],
        "top_logprobs": [
            {"token": "Hel", "logprob": -0.1, "bytes": [72, 101, 108]},
            {"token": "Hé", "logprob": -9999.0, "bytes": [72, 195, 169]},
        ],
    }
    chunks = await streamed(backend, logprobs=True)
    assert engine.tasks[1].sampling.logprobs == 0
    found = [one["choices"][0]["logprobs"] for one in chunks if one["choices"]]
    assert [entry and entry["content"][0]["token"] for entry in found] == [None, "Hel", "lo", None]


async def test_log_probabilities_have_a_completions_shape():
    backend, engine = engine_backend(*LOGPROBS)
    told = json.loads(await collect(await backend.open(call(request(Operation.COMPLETION, logprobs=2)))))
    assert engine.tasks[0].sampling.logprobs == 2
    assert told["choices"][0]["logprobs"] == {
        "tokens": ["Hel", "lo"],
        "token_logprobs": [-0.1, -0.2],
        "top_logprobs": [{"Hel": -0.1, "Hé": -9999.0}, {"lo": -0.2}],
        "text_offset": [0, 3],
    }
    stream = await collect(await backend.open(call(request(Operation.COMPLETION, logprobs=0, stream=True))))
    found = [one["choices"][0]["logprobs"] for one in payloads(stream) if one["choices"]]
    assert [entry and entry["text_offset"] for entry in found] == [[0], [3], None]


async def test_log_probabilities_that_nobody_asked_for_are_not_told():
    backend, _ = engine_backend(*LOGPROBS)
    assert (await whole(backend))["choices"][0]["logprobs"] is None
    assert all(one["choices"][0]["logprobs"] is None for one in await streamed(backend) if one["choices"])


async def test_tokens_behind_a_stop_string_are_nobodys():
    backend, _ = engine_backend(*LOGPROBS)
    told = await whole(backend, logprobs=True, stop="l")
    assert told["choices"][0]["message"]["content"] == "He"
    assert [token["token"] for token in told["choices"][0]["logprobs"]["content"]] == ["Hel"]


async def test_a_token_without_text_is_told_at_the_end():
    backend, _ = engine_backend(*LOGPROBS[:-1], Piece(logprobs=(TokenLogprob("", -0.5),), finish_reason="stop"))
    told = await streamed(backend, logprobs=True)
    last = [one["choices"][0] for one in told if one["choices"]][-2]
    assert last["logprobs"]["content"][0]["logprob"] == -0.5
    assert text_of(told) == "Hello"


async def test_a_token_whose_text_is_held_back_comes_with_it():
    backend, _ = engine_backend(*LOGPROBS)
    told = await streamed(backend, logprobs=True, stop="lot")
    said = [
        (one["choices"][0]["delta"].get("content"), [t["token"] for t in one["choices"][0]["logprobs"]["content"]])
        for one in told
        if one["choices"] and one["choices"][0]["logprobs"]
    ]
    assert said == [("He", ["Hel"]), ("lo", ["lo"])] or said == [("Hel", ["Hel"]), ("lo", ["lo"])]
