"""What requests ask that a backend can't carry."""

import msgspec
import pytest

from gateway.schema.request import Operation
from gateway.settings.carried import COMMON, HARMLESS, ROWS, find_uncarried
from gateway.settings.engines import Dialect, OnnxSettings, TritonSettings
from gateway.settings.models import BackendKind, Capability
from tests.builders import model, request

TOOL = {"type": "function", "function": {"name": "f", "parameters": {}}}
NAMED = {"type": "function", "function": {"name": "f"}}
IMAGE = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://h"}}]}]
PARTS = [{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}]
SCHEMA = {"type": "json_schema", "json_schema": {"name": "s", "schema": {"type": "object"}}}


def on_triton(dialect=Dialect.VLLM, **more):
    known = {"chat_template": "x", "capabilities": (Capability.TOOLS,), **more}
    return model(backend=BackendKind.TRITON, triton=TritonSettings(dialect=dialect), **known)


IN_PROCESS = model(backend=BackendKind.ONNX, onnx=OnnxSettings(path="x"), capabilities=(Capability.TOOLS,))
BARE = [*(on_triton(dialect) for dialect in Dialect), IN_PROCESS]
every_bare = pytest.mark.parametrize("bare", BARE, ids=[*Dialect, "onnx"])


@pytest.mark.parametrize("kind", [BackendKind.OPENAI, BackendKind.SIMULATED])
def test_what_passes_every_field_on_carries_what_nobody_knows(kind):
    assert find_uncarried(model(backend=kind), request(zzz=1, echo=True, n=5)) is None


@every_bare
@pytest.mark.parametrize(
    "body",
    [
        {},
        {"stream": True, "stream_options": {"include_usage": True}, "max_completion_tokens": 5},
        {"temperature": 0.5, "top_p": 0.9, "stop": ["a", "b"], "max_tokens": 5},
        {"messages": PARTS},
        {"tools": [TOOL], "tool_choice": "auto", "parallel_tool_calls": False},
        {"tools": [TOOL], "tool_choice": "none"},
        {"response_format": {"type": "text"}},
        {"user": "u", "metadata": {"a": "b"}, "store": True, "service_tier": "flex", "safety_identifier": "s"},
        {"prompt_cache_key": "k", "prompt_cache_retention": "24h", "reasoning_effort": "high"},
        {"chat_template_kwargs": {"enable_thinking": False}},
        {"zzz": None, "seed": None, "tools": None, "response_format": None, "tool_choice": None},
        {"n": 1, "presence_penalty": 0, "frequency_penalty": 0.0, "logprobs": False, "logit_bias": {}, "top_k": -1},
        {"modalities": ["text"], "functions": [], "verbosity": "medium", "best_of": 1, "min_p": 0},
    ],
)
def test_every_bare_model_carries_the_common_fields_and_values_that_hold_anyway(bare, body):
    assert find_uncarried(bare, request(**body)) is None


@every_bare
@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"zzz": 1}, "zzz"),
        ({"n": 2}, "n"),
        ({"best_of": 2}, "best_of"),
        ({"echo": True}, "echo"),
        ({"suffix": "x"}, "suffix"),
        ({"functions": [{"name": "f"}]}, "functions"),
        ({"modalities": ["text", "audio"]}, "modalities"),
        ({"web_search_options": {}}, "web_search_options"),
        ({"messages": IMAGE}, "messages"),
        ({"tools": [{"type": "custom", "custom": {"name": "f"}}]}, "tools"),
        ({"tools": [TOOL], "tool_choice": {"type": "allowed_tools"}}, "tool_choice"),
        ({"tools": [TOOL], "tool_choice": 7}, "tool_choice"),
        ({"response_format": {"type": "grammar"}}, "response_format"),
        ({"logit_bias": {str(n): 1 for n in range(40)}, "zzz": 1e300}, None),
    ],
)
def test_no_bare_model_carries_what_it_would_have_to_drop(bare, body, param):
    told = find_uncarried(bare, request(**body))
    assert told == param or (param is None and told is not None)


def test_the_first_field_in_the_body_is_the_one_told():
    assert find_uncarried(on_triton(), request(zzz=1, aaa=1)) == "zzz"
    assert find_uncarried(on_triton(), request(aaa=1, zzz=1)) == "aaa"


@pytest.mark.parametrize("raw", ["1e999", "9" * 400, '"' + "x" * 10_000 + '"', "[" * 500 + "]" * 500])
def test_no_value_breaks_the_look_at_it(raw):
    body = request()
    fields = {**body.fields, "seed": raw.encode(), "n": raw.encode(), "tools": raw.encode(), "tool_choice": b"{}"}
    asked = type(body)(**{name: getattr(body, name) for name in body.__struct_fields__} | {"fields": fields})
    assert find_uncarried(on_triton(), asked) == "n"
    for name in ("tools", "tool_choice", "response_format"):
        asked = type(body)(
            **{field: getattr(body, field) for field in body.__struct_fields__} | {"fields": {name: raw.encode()}}
        )
        assert find_uncarried(on_triton(), asked) == name


@pytest.mark.parametrize(
    ("kind", "model_of_it"), [*((dialect, on_triton(dialect)) for dialect in Dialect), (BackendKind.ONNX, IN_PROCESS)]
)
@pytest.mark.parametrize("name", ["seed", "top_k", "min_p", "min_tokens", "presence_penalty", "repetition_penalty"])
def test_what_a_row_lists_is_carried_and_nothing_else(kind, model_of_it, name):
    carried = find_uncarried(model_of_it, request(**{name: 3})) is None
    assert carried == (name in ROWS[kind].fields)
    assert name not in COMMON | HARMLESS


@pytest.mark.parametrize("capabilities", [(Capability.TOOLS, Capability.JSON_SCHEMA), (Capability.TOOLS,)])
@every_bare
@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"response_format": SCHEMA}, "response_format"),
        ({"tools": [TOOL], "tool_choice": "required"}, "tool_choice"),
        ({"tools": [TOOL], "tool_choice": NAMED}, "tool_choice"),
    ],
)
def test_a_form_is_held_where_the_backend_can_guide_and_the_model_is_said_to_be_guided(bare, body, param, capabilities):
    row = ROWS[bare.triton.dialect if bare.triton else BackendKind.ONNX]
    can_guide = row.can_guide and Capability.JSON_SCHEMA in capabilities
    said = msgspec.structs.replace(bare, capabilities=capabilities)
    assert find_uncarried(said, request(**body)) == (None if can_guide else param)


def test_a_forced_call_takes_a_model_with_tools():
    asked = request(tool_choice="required")
    assert find_uncarried(on_triton(capabilities=()), asked) == "tool_choice"


def test_a_model_without_a_chat_template_takes_completions_only():
    bare = on_triton(chat_template=None, capabilities=())
    assert find_uncarried(bare, request()) == "messages"
    assert find_uncarried(bare, request(Operation.COMPLETION)) is None
    assert find_uncarried(IN_PROCESS, request()) is None  # its folder holds one


@every_bare
@pytest.mark.parametrize(
    ("prompt", "param"),
    [("a", None), (["a"], None), (["a", "b"], "prompt"), ([1, 2], "prompt"), ([[1, 2]], "prompt"), ([], "prompt")],
)
def test_one_text_is_a_prompt_and_nothing_else(bare, prompt, param):
    assert find_uncarried(bare, request(Operation.COMPLETION, prompt=prompt)) == param
