"""Tools, prompts and cascades before a bare engine."""

import json

import pytest

from gateway.backends.backend import BackendLoadError
from gateway.backends.cascade import Errand, Escalation, open_reply
from gateway.backends.engine import Piece, TokenLogprob
from gateway.backends.resilience import Dispatcher, Replicas
from gateway.core.errors import (
    InvalidValueError,
    UnsupportedParameterError,
)
from gateway.schema.request import Operation, decode_request
from gateway.settings.engines import ToolFormat
from gateway.settings.models import Capability
from gateway.settings.routes import CascadeSettings
from tests.builders import call, collect, raised_by, request
from tests.engines import END, PLAIN, Words, engine_backend, streamed, template, text_of, whole

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


@pytest.mark.parametrize("source", ["plain", None])
def test_a_model_said_to_take_tools_must_have_a_template_that_does(source):
    with pytest.raises(BackendLoadError) as caught:
        engine_backend(source=source, capabilities=(Capability.TOOLS,))
    assert caught.value.key == "capabilities"
    assert engine_backend(capabilities=(Capability.TOOLS,))


def nested(depth):
    return '{"x":' * depth + "1" + "}" * depth


@pytest.mark.parametrize("depth", [50, 500, 900])
@pytest.mark.parametrize(
    "body",
    [
        '"tools":[{"type":"function","function":{"name":"f","parameters":%s}}]',
        '"tools":[{"type":"function","function":{"name":"f","parameters":%s}}],"tool_choice":"required"',
        '"chat_template_kwargs":%s',
        '"messages":[{"role":"assistant","tool_calls":[{"function":{"name":"f","arguments":%s}}]}]',
    ],
)
async def test_what_is_nested_too_deep_is_the_clients_fault(body, depth):
    backend, _ = engine_backend("x", END, source="{{ tools }}{{ messages }}<|end|>")
    least = '{"model":"m","messages":[{"role":"user","content":"x"}],'
    asked = decode_request(Operation.CHAT, (least + body % nested(depth) + "}").encode())
    error = await raised_by(backend.open(call(asked)))
    assert error is None if depth == 50 else isinstance(error, InvalidValueError)
