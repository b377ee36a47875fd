"""OpenAI's answers of a bare engine: shapes, waits, ends, and that the engine never works for nobody."""

import asyncio
import json

import pytest

from gateway.backends.backend import Health
from gateway.backends.cascade import Errand, Escalation, open_reply
from gateway.backends.engine import Piece, TokenLogprob
from gateway.backends.resilience import Dispatcher, Replicas
from gateway.core.errors import (
    InvalidValueError,
    UnsupportedParameterError,
    UpstreamContextError,
    UpstreamFailureError,
    UpstreamInterruptedError,
    UpstreamTimeoutError,
)
from gateway.schema.request import Operation
from gateway.schema.sse import DONE, data_of, events_in
from gateway.settings.engines import ToolFormat
from gateway.settings.models import TimeoutSettings
from gateway.settings.routes import CascadeSettings
from tests.builders import call, collect, raised_by, request
from tests.engines import END, PLAIN, engine_backend, template


class Words:
    """Counts words, where a model's tokenizer would count tokens."""

    def adds(self, token):
        return False

    def count(self, text, *, is_prompt=True):
        return len(text.split()) + is_prompt

    async def count_aside(self, text, *, is_prompt=True):
        return self.count(text, is_prompt=is_prompt)


def payloads(stream):
    return [json.loads(data) for event in events_in(stream) if (data := data_of(event)) != b"[DONE]"]


async def whole(backend, **body):
    return json.loads(await collect(await backend.open(call(request(**body)))))


async def streamed(backend, **body):
    return payloads(await collect(await backend.open(call(request(stream=True, **body)))))


def text_of(told):
    return "".join(one["choices"][0]["delta"].get("content", "") for one in told if one["choices"])


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


async def test_counts_that_nobody_told_are_the_tokenizers_and_without_one_there_are_none():
    script = (Piece("one two "), Piece("three"), Piece(finish_reason="stop"))
    backend, _ = engine_backend(*script, tokenizer=Words())
    assert (await whole(backend))["usage"] == {"prompt_tokens": 3, "completion_tokens": 3, "total_tokens": 6}
    backend, _ = engine_backend(*script)
    assert "usage" not in await whole(backend)
    assert not [one for one in await streamed(backend) if "usage" in one]


async def test_a_count_that_is_told_for_some_pieces_only_is_no_count():
    backend, _ = engine_backend("one", Piece("two"), END)
    assert "usage" not in await whole(backend)


@pytest.mark.parametrize("is_streaming", [True, False])
async def test_a_stop_string_ends_the_answer_and_the_work(is_streaming):
    backend, engine = engine_backend("One. En", "d of it", "never seen", 60)
    if is_streaming:
        told = await streamed(backend, stop=["End"])
        assert text_of(told) == "One. "
        assert told[-1]["choices"][0]["finish_reason"] == "stop"
    else:
        told = await whole(backend, stop=["End"])
        assert told["choices"][0]["message"]["content"] == "One. "
        assert told["choices"][0]["finish_reason"] == "stop"
    assert (engine.ended, engine.cancelled) == (1, 1)
    assert engine.tasks[0].sampling.stop == ("End",)


async def test_what_only_began_like_a_stop_string_is_given_in_the_end():
    backend, _ = engine_backend("One. En", END)
    assert text_of(await streamed(backend, stop="End")) == "One. En"


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


async def test_a_token_whose_text_is_held_back_comes_with_it():
    backend, _ = engine_backend(*LOGPROBS)
    told = await streamed(backend, logprobs=True, stop="lot")
    said = [
        (one["choices"][0]["delta"].get("content"), [t["token"] for t in one["choices"][0]["logprobs"]["content"]])
        for one in told
        if one["choices"] and one["choices"][0]["logprobs"]
    ]
    assert said == [("He", ["Hel"]), ("lo", ["lo"])] or said == [("Hel", ["Hel"]), ("lo", ["lo"])]


@pytest.mark.parametrize("is_streaming", [True, False])
async def test_an_engine_that_says_nothing_at_all_has_failed(is_streaming):
    backend, engine = engine_backend()
    assert isinstance(await raised_by(backend.open(call(request(stream=is_streaming)))), UpstreamFailureError)
    assert engine.ended == 1


@pytest.mark.parametrize("is_streaming", [True, False])
async def test_an_empty_answer_is_an_answer(is_streaming):
    backend, _ = engine_backend(END)
    if is_streaming:
        assert text_of(await streamed(backend)) == ""
    else:
        assert (await whole(backend))["choices"][0]["message"]["content"] == ""


@pytest.mark.parametrize("is_streaming", [True, False])
async def test_what_an_engine_raises_before_its_first_piece_is_raised_by_open(is_streaming):
    backend, engine = engine_backend(UpstreamFailureError("no"))
    assert isinstance(await raised_by(backend.open(call(request(stream=is_streaming)))), UpstreamFailureError)
    assert engine.ended == 1


async def test_what_an_engine_raises_later_breaks_the_stream_off():
    backend, engine = engine_backend("a", UpstreamInterruptedError("gone"))
    answer = await backend.open(call(request(stream=True)))
    assert isinstance(await raised_by(collect(answer)), UpstreamInterruptedError)
    assert engine.ended == 1


async def test_a_first_piece_is_waited_for_no_longer_than_set():
    backend, engine = engine_backend(60, "x", timeouts=TimeoutSettings(first_byte_s=0.05))
    error = await raised_by(backend.open(call(request(stream=True))))
    assert isinstance(error, UpstreamTimeoutError)
    assert (engine.ended, engine.cancelled) == (1, 1)


@pytest.mark.parametrize("is_streaming", [True, False])
async def test_a_deadline_ends_the_wait(is_streaming):
    backend, engine = engine_backend(60, "x")
    error = await raised_by(backend.open(call(request(stream=is_streaming), seconds=0.05)))
    assert isinstance(error, UpstreamTimeoutError)
    assert (engine.ended, engine.cancelled) == (1, 1)


async def test_a_deadline_ends_an_answer_that_is_collected():
    backend, engine = engine_backend("a", "b", 60, "c")
    error = await raised_by(backend.open(call(request(), seconds=0.05)))
    assert isinstance(error, UpstreamTimeoutError)
    assert engine.cancelled == 1


@pytest.mark.parametrize(("seconds", "gap_s"), [(0.1, 30), (5, 0.05)])
async def test_silence_in_the_middle_ends_a_stream(seconds, gap_s):
    backend, engine = engine_backend("a", 60, "b", timeouts=TimeoutSettings(between_chunks_s=gap_s))
    answer = await backend.open(call(request(stream=True), seconds=seconds))
    error = await raised_by(collect(answer))
    assert isinstance(error, UpstreamTimeoutError)
    assert "fell silent" in error.message
    assert (engine.ended, engine.cancelled) == (1, 1)


@pytest.mark.parametrize("is_streaming", [True, False])
async def test_cancelling_before_the_answer_stops_the_engine(is_streaming):
    backend, engine = engine_backend(60, "x")
    task = asyncio.create_task(backend.open(call(request(stream=is_streaming))))
    await asyncio.sleep(0.01)
    task.cancel()
    assert isinstance(await raised_by(task), asyncio.CancelledError)
    assert (engine.begun, engine.ended) == (1, 1)


async def test_closing_a_reply_that_nobody_read_stops_the_engine():
    backend, engine = engine_backend("a", 60)
    answer = await backend.open(call(request(stream=True)))
    await answer.close()
    await answer.close()
    await answer.blocks.aclose()
    assert (engine.begun, engine.ended, engine.cancelled) == (1, 1, 1)


async def test_closing_a_reply_half_read_stops_the_engine():
    backend, engine = engine_backend("a", "b", 60)
    answer = await backend.open(call(request(stream=True)))
    assert await anext(answer.blocks)
    await answer.close()
    assert (engine.ended, engine.cancelled) == (1, 1)


async def test_a_reader_who_is_cancelled_while_waiting_stops_the_engine():
    backend, engine = engine_backend("a", 60)
    answer = await backend.open(call(request(stream=True)))
    task = asyncio.create_task(collect(answer))
    await asyncio.sleep(0.01)
    task.cancel()
    assert isinstance(await raised_by(task), asyncio.CancelledError)
    assert (engine.ended, engine.cancelled) == (1, 1)


async def test_the_engine_is_at_rest_before_the_last_event():
    backend, engine = engine_backend("a", END)
    answer = await backend.open(call(request(stream=True)))
    async for block in answer.blocks:
        if block.endswith(DONE):
            assert engine.ended == 1
    await answer.close()


async def test_looks_and_closes_are_the_engines():
    backend, engine = engine_backend()
    assert backend.url == "scripted:"
    assert await backend.look() == Health(waiting=3)
    await backend.close()
    assert engine.closed == 1


TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "Tell the weather.",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
        },
    },
    {"type": "function", "function": {"name": "now"}},
]
CALL = ('<tool_call>\n{"name": "get_', 'weather", "argum', 'ents": {"city": ', '"Paris"}}\n</tool_call>')
HERMES = ToolFormat.HERMES


async def test_a_tool_call_is_told_in_openais_shape():
    backend, engine = engine_backend("Let me see.\n", *CALL, END, tool_format=HERMES)
    choice = (await whole(backend, tools=TOOLS))["choices"][0]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["content"] == "Let me see."
    (found,) = choice["message"]["tool_calls"]
    assert found["id"].startswith("call_")
    assert found["type"] == "function"
    assert found["function"] == {"name": "get_weather", "arguments": '{"city": "Paris"}'}
    assert json.loads(engine.tasks[0].prompt.split("<|tools|>")[1].split("<|assistant|>")[0]) == TOOLS


async def test_a_streamed_tool_call_begins_with_its_name_and_its_arguments_follow():
    backend, _ = engine_backend(*CALL, END, tool_format=HERMES)
    told = await streamed(backend, tools=TOOLS)
    deltas = [one["choices"][0]["delta"] for one in told if one["choices"]]
    first, *rest = [delta["tool_calls"][0] for delta in deltas if "tool_calls" in delta]
    assert first == {
        "index": 0,
        "id": first["id"],
        "type": "function",
        "function": {"name": "get_weather", "arguments": ""},
    }
    assert all(set(one) == {"index", "function"} for one in rest)
    assert "".join(one["function"]["arguments"] for one in rest) == '{"city": "Paris"}'
    assert [one["choices"][0]["finish_reason"] for one in told if one["choices"]][-1] == "tool_calls"
    assert text_of(told) == ""


async def test_an_answer_of_calls_alone_has_no_content():
    backend, _ = engine_backend(*CALL, *CALL, END, tool_format=HERMES)
    message = (await whole(backend, tools=TOOLS))["choices"][0]["message"]
    assert message["content"] is None
    assert len(message["tool_calls"]) == 2


async def test_calls_that_may_not_be_parallel_end_with_the_first():
    backend, engine = engine_backend(*CALL, "\n", *CALL, 60, tool_format=HERMES)
    choice = (await whole(backend, tools=TOOLS, parallel_tool_calls=False))["choices"][0]
    assert len(choice["message"]["tool_calls"]) == 1
    assert choice["finish_reason"] == "tool_calls"
    assert (engine.ended, engine.cancelled) == (1, 1)


async def test_a_call_that_was_cut_off_ends_for_its_length():
    backend, _ = engine_backend(*CALL[:-1], Piece(finish_reason="length", prompt_tokens=7), tool_format=HERMES)
    choice = (await whole(backend, tools=TOOLS))["choices"][0]
    assert choice["finish_reason"] == "length"
    assert choice["message"]["tool_calls"][0]["function"]["arguments"] == '{"city": '


@pytest.mark.parametrize("body", [{}, {"tools": []}, {"tools": TOOLS, "tool_choice": "none"}])
async def test_without_tools_a_text_like_a_call_is_text_and_the_template_sees_none(body):
    backend, engine = engine_backend(*CALL, END, tool_format=HERMES)
    choice = (await whole(backend, **body))["choices"][0]
    assert choice["message"]["content"] == "".join(CALL)
    assert "tool_calls" not in choice["message"]
    assert choice["finish_reason"] == "stop"
    assert "<|tools|>" not in engine.tasks[0].prompt


async def test_calls_of_an_unknown_family_stay_text():
    backend, _ = engine_backend(*CALL, END)
    choice = (await whole(backend, tools=TOOLS))["choices"][0]
    assert choice["message"]["content"] == "".join(CALL)


async def test_the_family_is_told_from_the_template():
    backend, _ = engine_backend(*CALL, END, source=PLAIN + "{# <tool_call> #}")
    assert len((await whole(backend, tools=TOOLS))["choices"][0]["message"]["tool_calls"]) == 1


@pytest.mark.parametrize(
    ("choice", "names"),
    [
        ("required", [["get_weather"], ["now"]]),
        ({"type": "function", "function": {"name": "now"}}, [["now"]]),
    ],
)
async def test_a_call_that_must_be_is_guided_and_read_as_one(choice, names):
    backend, engine = engine_backend('{"name": "now", ', '"arguments": {}}', END, tool_format=HERMES)
    told = (await whole(backend, tools=TOOLS, tool_choice=choice))["choices"][0]
    assert told["message"]["tool_calls"][0]["function"] == {"name": "now", "arguments": "{}"}
    assert told["finish_reason"] == "tool_calls"
    schema = json.loads(engine.tasks[0].sampling.schema)
    calls = schema.get("anyOf", [schema])
    assert [call["properties"]["name"]["enum"] for call in calls] == names


async def test_log_probabilities_come_with_calls_too():
    pieces = [Piece(text, token_count=1, logprobs=(TokenLogprob(text, -0.1),)) for text in CALL]
    backend, _ = engine_backend(*pieces, END, tool_format=HERMES)
    choice = (await whole(backend, tools=TOOLS, logprobs=True))["choices"][0]
    assert [token["token"] for token in choice["logprobs"]["content"]] == list(CALL)
    told = await streamed(backend, tools=TOOLS, logprobs=True)
    found = [one["choices"][0]["logprobs"] for one in told if one["choices"] and one["choices"][0]["logprobs"]]
    assert [token["token"] for entry in found for token in entry["content"]] == list(CALL)


@pytest.mark.parametrize(("ahead", "prompt"), [("<s>", "Hello"), (None, "<s>Hello")])
async def test_the_bos_that_the_server_adds_is_not_sent(ahead, prompt):
    class Adding(Words):
        def adds(self, token):
            return token == ahead

    source = template("{{ bos_token }}Hello", bos="<s>")
    backend, engine = engine_backend("x", END, source=source, tokenizer=Adding())
    await whole(backend)
    assert engine.tasks[0].prompt == prompt


async def test_servers_of_unknown_tokenizers_add_their_bos():
    backend, engine = engine_backend("x", END, source=template("{{ bos_token }}Hello", bos="<s>"))
    await whole(backend)
    assert engine.tasks[0].prompt == "Hello"


async def test_a_wish_for_effort_and_a_clients_variables_reach_the_template():
    backend, engine = engine_backend("x", END, source="{{ reasoning_effort }} {{ mine }}")
    await whole(backend, reasoning_effort="low", chat_template_kwargs={"mine": 1})
    assert engine.tasks[0].prompt == "low 1"


async def test_a_form_goes_to_the_engine_as_a_schema():
    backend, engine = engine_backend('{"a": 1}', END)
    wanted = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}}
    told = await whole(backend, response_format=wanted)
    assert json.loads(engine.tasks[0].sampling.schema) == {"type": "object"}
    assert told["choices"][0]["message"]["content"] == '{"a": 1}'


async def test_tools_that_a_template_does_not_take_are_refused():
    backend, engine = engine_backend("x", source="plain")
    error = await raised_by(whole(backend, tools=TOOLS))
    assert isinstance(error, UnsupportedParameterError)
    assert error.param == "tools"
    assert engine.begun == 0


def sure(text, logprob):
    return Piece(text, token_count=1, logprobs=(TokenLogprob(text, logprob),))


@pytest.mark.parametrize("is_streaming", [True, False])
@pytest.mark.parametrize(("logprob", "model"), [(-0.01, "weak"), (-3.0, "strong")])
async def test_a_cascade_reads_the_confidence_of_an_engines_answer(is_streaming, logprob, model):
    weak, engine = engine_backend(*[sure(f"w{n} ", logprob) for n in range(12)], END)
    strong, _ = engine_backend("strong", END)
    fleet = {"weak": Replicas([weak], lambda _: None), "strong": Replicas([strong], lambda _: None)}
    dispatcher = Dispatcher(fleet, dict.fromkeys(fleet, 5.0), lambda *_: None)
    rule = CascadeSettings(tokens=8)
    failed_open = []
    escalation = Escalation(
        ["strong"], rule, lambda found: found >= 0.5, lambda spent: spent, lambda: failed_open.append(1)
    )
    reply = await open_reply(dispatcher, Errand(request(stream=is_streaming), "req-1", ["weak"], 3, escalation))
    told = (await collect(reply)).decode()
    assert ("strong" in told) == (model == "strong")
    assert not failed_open
    assert '"token"' not in told
    assert engine.tasks[0].sampling.logprobs == 0
    assert engine.ended == 1
