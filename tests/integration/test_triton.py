"""What OpenAI's fields become inside a real Triton, and its answers OpenAI's: each dialect over each transport."""

import asyncio
import json
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from tokenizers import Tokenizer, models, pre_tokenizers

from gateway.backends.engine_backend import EngineBackend
from gateway.backends.triton.backend import triton_backends
from gateway.core.errors import UpstreamFailureError, UpstreamModelUnavailableError
from gateway.schema.request import Operation
from gateway.schema.sse import data_of, events_in
from gateway.settings.engines import Dialect, TritonSettings
from gateway.settings.models import BackendKind, Capability
from tests.builders import call, collect, model, raised_by, request
from tests.triton_server import TritonServer, need_triton

pytestmark = [need_triton, pytest.mark.xdist_group("triton")]

DIALECTS = ("vllm", "trtllm", "llmapi")
TRANSPORTS = ("grpc", "http")
every_dialect = pytest.mark.parametrize("dialect", DIALECTS)
every_transport = pytest.mark.parametrize("transport", TRANSPORTS)
streamed_or_not = pytest.mark.parametrize("is_streaming", [True, False])

SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}}
TOOL = {"type": "function", "function": {"name": "forecast", "description": "Tell the weather.", "parameters": SCHEMA}}
TEMPLATE = "{{ tools | tojson if tools else '' }}{% for one in messages %}{{ one.content }}{% endfor %}"


class Models:
    """Makes backends of models on one server, and closes them."""

    def __init__(self, server: TritonServer, folder) -> None:
        self._server = server
        self._folder = folder
        self._made: list[EngineBackend] = []

    def make(self, dialect: str, transport: str, *, name: str | None = None, lora: str | None = None) -> EngineBackend:
        template = self._folder / "chat.jinja"
        template.write_text(TEMPLATE)
        settings = model(
            backend=BackendKind.TRITON,
            urls=(self._server.url(transport),),
            triton=TritonSettings(dialect=Dialect(dialect), model=name or self._server.models[dialect], lora=lora),
            chat_template=str(template),
            tokenizer=str(words(self._folder)) if dialect == "llmapi" else None,
            context_tokens=2000,
            capabilities=(Capability.TOOLS,),
        )
        (made,) = triton_backends("m", settings)
        self._made.append(made)
        return made

    async def close(self) -> None:
        for one in self._made:
            await one.close()


def words(folder):
    """Write a tokenizer of words."""
    tokenizer = Tokenizer(models.WordLevel({"?": 0}, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder / "tokenizer.json"


@pytest_asyncio.fixture
async def on_triton(triton: TritonServer, tmp_path) -> AsyncIterator[Models]:
    made = Models(triton, tmp_path)
    yield made
    await made.close()


async def told(backend, prompt, *, stream=False, **fields):
    """Ask, and return the answer as if it were not streamed: message, reason and usage."""
    fields = {"messages": [{"role": "user", "content": prompt}], "stream": stream, **fields}
    if stream:
        fields["stream_options"] = {"include_usage": True}
    whole = await collect(await backend.open(call(request(**fields), seconds=20)))
    return joined(whole) if stream else json.loads(whole)


def joined(stream):
    """Put a stream's chunks together."""
    chunks = [json.loads(data) for event in events_in(stream) if (data := data_of(event)) != b"[DONE]"]
    choices = [chunk["choices"][0] for chunk in chunks if chunk["choices"]]
    content = "".join(choice["delta"].get("content") or "" for choice in choices)
    parts = [part["function"] for choice in choices for part in choice["delta"].get("tool_calls") or []]
    made = {name: "".join(part.get(name) or "" for part in parts) for name in ("name", "arguments")}
    message = {"content": content, "tool_calls": [{"function": made}]}
    usage = next((chunk["usage"] for chunk in reversed(chunks) if chunk.get("usage")), None)
    return {"choices": [{"message": message, "finish_reason": choices[-1]["finish_reason"]}], "usage": usage}


def text_of(answer):
    return answer["choices"][0]["message"]["content"]


def reason_of(answer):
    return answer["choices"][0]["finish_reason"]


SAMPLING = {
    "temperature": 0.5,
    "top_p": 0.75,
    "top_k": 7,
    "seed": 11,
    "presence_penalty": 0.25,
    "frequency_penalty": -0.5,
    "repetition_penalty": 1.5,
    "max_tokens": 900,
}
ARRIVED = {
    "vllm": SAMPLING,
    "trtllm": {
        **{name: value for name, value in SAMPLING.items() if name not in {"top_p", "top_k", "max_tokens"}},
        "runtime_top_p": 0.75,
        "runtime_top_k": 7,
        "request_output_len": 900,
    },
    "llmapi": {f"sampling_param_{name}": value for name, value in SAMPLING.items() if name != "repetition_penalty"},
}


@every_dialect
@every_transport
async def test_what_is_asked_of_the_sampling_arrives_in_the_model(on_triton, dialect, transport):
    wishes = {name: value for name, value in SAMPLING.items() if dialect != "llmapi" or name != "repetition_penalty"}
    echoed = json.loads(text_of(await told(on_triton.make(dialect, transport), "[[echo=1]]", **wishes)))
    assert {name: echoed.get(name) for name in ARRIVED[dialect]} == ARRIVED[dialect]


@every_dialect
@every_transport
@streamed_or_not
async def test_an_answer_has_its_text_its_reason_and_true_counts(on_triton, triton, dialect, transport, is_streaming):
    backend, prompt = on_triton.make(dialect, transport), "Go [[tokens=7]]"
    tokens = await asyncio.to_thread(triton.count, "tokens", dialect=dialect)
    answer = await told(backend, prompt, stream=is_streaming)
    assert len(text_of(answer).split()) == 7
    assert reason_of(answer) == "stop"
    assert answer["usage"]["completion_tokens"] == 7
    assert answer["usage"]["prompt_tokens"] == (2 if dialect == "llmapi" else 6)
    cut = await told(backend, "Go [[tokens=7]]", stream=is_streaming, max_tokens=3)
    assert (len(text_of(cut).split()), reason_of(cut)) == (3, "length")
    assert cut["usage"]["completion_tokens"] == 3
    await asyncio.to_thread(triton.wait_for, "tokens", tokens + 10, dialect=dialect)


@every_dialect
@every_transport
async def test_an_answer_without_a_bound_of_its_own_is_not_cut_by_the_servers_default(on_triton, dialect, transport):
    assert reason_of(await told(on_triton.make(dialect, transport), "Go [[tokens=300]]")) == "stop"


@every_dialect
@every_transport
@streamed_or_not
async def test_a_stop_string_ends_the_answer_and_is_no_part_of_it(on_triton, dialect, transport, is_streaming):
    backend = on_triton.make(dialect, transport)
    answer = await told(
        backend, "Say [[gap=0.01 text=one, two STOP three]]", stream=is_streaming, stop=["STOP", "never"]
    )
    assert text_of(answer) == "one, two "
    assert reason_of(answer) == "stop"


@every_transport
async def test_characters_are_never_cut(on_triton, transport):
    text = "zwölf 😀 Boxkämpfer 你好 👩‍👩‍👧"
    for dialect in ("vllm", "llmapi"):
        assert text_of(await told(on_triton.make(dialect, transport), f"Say [[text={text}]]", stream=True)) == text
    accumulating = on_triton.make("trtllm", transport, name="tensorrt_llm_bls")
    assert text_of(await told(accumulating, f"Say [[text={text}]]", stream=True)) == text
    assert text_of(await told(on_triton.make("trtllm", transport), f"Say [[text={text}]]")) == text


@pytest.mark.parametrize("dialect", ["vllm", "trtllm"])
@every_transport
@streamed_or_not
async def test_a_schema_is_followed(on_triton, dialect, transport, is_streaming):
    wanted = {"type": "json_schema", "json_schema": {"name": "trip", "schema": SCHEMA}}
    answer = await told(on_triton.make(dialect, transport), "Go", stream=is_streaming, response_format=wanted)
    assert json.loads(text_of(answer)) == {"city": "a", "days": 0}


@pytest.mark.parametrize("dialect", ["vllm", "trtllm"])
@every_transport
@streamed_or_not
async def test_a_call_that_is_required_is_made(on_triton, dialect, transport, is_streaming):
    backend = on_triton.make(dialect, transport)
    answer = await told(backend, "Go", stream=is_streaming, tools=[TOOL], tool_choice="required")
    (made,) = answer["choices"][0]["message"]["tool_calls"]
    assert made["function"]["name"] == "forecast"
    assert json.loads(made["function"]["arguments"]) == {"city": "a", "days": 0}
    assert reason_of(answer) == "tool_calls"


@every_transport
async def test_an_adapter_is_named_in_the_dialects_own_way(on_triton, transport):
    poet = on_triton.make("vllm", transport, lora="poet")
    assert json.loads(text_of(await told(poet, "[[echo=1]]")))["lora_name"] == "poet"
    first = on_triton.make("trtllm", transport, lora="1")
    assert json.loads(text_of(await told(first, "[[echo=1]]")))["lora_task_id"] == 1
    unknown = on_triton.make("vllm", transport, lora="nobody")
    assert isinstance(await raised_by(told(unknown, "Go")), UpstreamFailureError | UpstreamModelUnavailableError)


@every_transport
@pytest.mark.parametrize("alternatives", [0, 3])
async def test_log_probabilities_come_with_their_alternatives(on_triton, transport, alternatives):
    backend = on_triton.make("vllm", transport)
    answer = await told(backend, "Say [[text=so it is]]", logprobs=True, top_logprobs=alternatives)
    content = answer["choices"][0]["logprobs"]["content"]
    assert "".join(token["token"] for token in content) == "so it is"
    assert {len(token["top_logprobs"]) for token in content} == {alternatives}


@every_dialect
@every_transport
async def test_a_prompt_without_a_chat_is_completed(on_triton, dialect, transport):
    asked = request(Operation.COMPLETION, prompt="Say [[text=on we go]]")
    whole = json.loads(await collect(await on_triton.make(dialect, transport).open(call(asked))))
    assert whole["choices"][0]["text"] == "on we go"


@every_transport
async def test_a_model_of_another_dialect_is_known_by_its_inputs(on_triton, transport):
    mistaken = on_triton.make("vllm", transport, name="ensemble")
    health = await mistaken.look()
    assert not health.is_ready
    assert "sampling_parameters BYTES" in health.problem
    assert "max_tokens INT32" in health.problem
    assert isinstance(await raised_by(told(mistaken, "Go")), UpstreamModelUnavailableError)


@every_transport
async def test_a_look_tells_of_readiness(on_triton, triton, transport):
    backend = on_triton.make("llmapi", transport)
    assert (await backend.look()).is_ready
    await asyncio.to_thread(triton.unload, "llmapi")
    assert not (await backend.look()).is_ready
    assert isinstance(await raised_by(told(backend, "Go")), UpstreamModelUnavailableError)
    await asyncio.to_thread(triton.load, "llmapi")
    assert (await backend.look()).is_ready
    assert text_of(await told(backend, "Say [[text=back]]")) == "back"
