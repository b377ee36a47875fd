"""What every kind of backend promises to the dispatcher."""

import asyncio
import json
import os
import signal
from typing import ClassVar

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from gateway.backends.http1_pool import Http1Client
from gateway.backends.onnx.backend import onnx_backends
from gateway.backends.openai import OpenAIBackend
from gateway.backends.simulated import SimulatedBackend
from gateway.backends.triton.backend import triton_backends
from gateway.core.errors import UpstreamTimeoutError
from gateway.schema.request import Operation
from gateway.schema.sse import DONE, data_of, events_in
from gateway.settings.engines import Dialect, OnnxSettings, TritonSettings
from gateway.settings.models import BackendKind, SimulatedSettings
from tests.builders import AT_ONCE, call, collect, model, raised_by, request
from tests.tiny_model import pieces_of, ready, task, tiny_folder
from tests.triton_server import need_triton
from tests.upstream import Answer, Upstream

SLOW = SimulatedSettings(ttft_s=5.0, tokens_per_s=1.0)
DRIPPING = SimulatedSettings(ttft_s=0.0, tokens_per_s=2.0)


class Simulated:
    """The simulated backend; it has nobody behind it who could go on working."""

    serves: ClassVar = {"logprobs", "embeddings"}

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        pass

    def make(self, manner):
        return SimulatedBackend("m", model(simulated={"at once": AT_ONCE, "slow": SLOW, "dripping": DRIPPING}[manner]))

    async def wait_idle(self):
        pass


class OpenAI:
    """The `openai` backend before a scripted upstream."""

    serves: ClassVar = {"logprobs", "embeddings"}

    async def __aenter__(self):
        self.upstream = await Upstream().__aenter__()
        return self

    async def __aexit__(self, *error):
        await self.upstream.__aexit__(*error)

    def make(self, manner):
        answers = {"at once": Answer(logprobs=[-0.5]), "slow": Answer(ttft_s=5), "dripping": Answer(gap_s=0.5)}
        self.upstream.script(answers[manner])
        settings = model(backend=BackendKind.OPENAI, urls=(self.upstream.url,))
        return OpenAIBackend("m", self.upstream.url, settings, Http1Client(connect_s=1, max_connections=5))

    async def wait_idle(self):
        """Return once the upstream has nothing to do any more."""
        async with asyncio.timeout(2):
            while self.upstream.open_now:  # noqa: ASYNC110 - the upstream's counters are plain numbers
                await asyncio.sleep(0.001)


class Onnx:
    """The `onnx` backend with models of random weights; a slow one has its worker stopped.

    One request at a time where it matters who is still at work: another is served once nobody is.
    """

    serves: ClassVar = frozenset()
    models: ClassVar = {"at once": {}, "slow": {"is_endless": True}, "dripping": {"work": 512, "is_endless": True}}

    async def __aenter__(self):
        self._made, self._pids = {}, {}
        for manner, options in self.models.items():
            onnx = OnnxSettings(str(tiny_folder(**options)), max_batch=8 if manner == "at once" else 1, threads=1)
            (self._made[manner],) = onnx_backends("m", model(backend=BackendKind.ONNX, onnx=onnx))
        for manner, made in self._made.items():
            self._pids[manner] = await ready(made._engine)
        return self

    async def __aexit__(self, *_):
        for made in self._made.values():
            await made.close()

    def make(self, manner):
        if manner == "slow":
            os.kill(self._pids[manner], signal.SIGSTOP)
        return self._made[manner]

    async def wait_idle(self):
        os.kill(self._pids["slow"], signal.SIGCONT)
        for made in self._made.values():
            async with asyncio.timeout(2):
                await pieces_of(made._engine, task(max_tokens=1))


class Triton:
    """The `triton` backend before a real Triton. The model is scripted by what the chat template adds."""

    MANNERS: ClassVar = {"at once": "tokens=5", "slow": "tokens=30 ttft=1.5 gap=0.5", "dripping": "tokens=40 gap=0.5"}

    serves: ClassVar = frozenset()
    dialect: Dialect
    transport: str

    def stand_on(self, server, folder):
        """Take the server to use, and a folder for templates."""
        self._server = server
        self._folder = folder

    async def __aenter__(self):
        self._under_way = self._server.under_way(self.dialect)
        return self

    async def __aexit__(self, *_):
        pass

    def make(self, manner):
        return triton_backends("m", self._settings(self.MANNERS[manner]))[0]

    def _settings(self, script):
        template = self._folder / f"{len(script)}.jinja"
        template.write_text(f"{{{{ messages[-1].content }}}} [[{script}]]")
        return model(
            backend=BackendKind.TRITON,
            urls=(self._server.url(self.transport),),
            triton=TritonSettings(dialect=self.dialect, model=self._server.models[self.dialect]),
            chat_template=str(template),
            tokenizer=str(self._tokenizer()),
        )

    def _tokenizer(self):
        """Write a tokenizer of words: the `llmapi` dialect tells no counts."""
        tokenizer = Tokenizer(models.WordLevel({"?": 0}, unk_token="?"))
        tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        tokenizer.save(str(self._folder / "tokenizer.json"))
        return self._folder / "tokenizer.json"

    async def wait_idle(self):
        """Return once the model has stopped; left alone, it would go on for 15 s.

        Over HTTP Triton sees a client leave when it next writes: the first token is awaited.
        """
        async with asyncio.timeout(5):
            while await asyncio.to_thread(self._server.under_way, self.dialect) > self._under_way:  # noqa: ASYNC110
                await asyncio.sleep(0.01)


def triton_kinds():
    """Return a kind for each dialect and transport."""
    serves = {Dialect.VLLM: {"logprobs"}}
    return {
        f"triton-{dialect}-{way}": type(
            "Triton", (Triton,), {"dialect": dialect, "transport": way, "serves": serves.get(dialect, set())}
        )
        for dialect in Dialect
        for way in ("grpc", "http")
    }


KINDS = {"simulated": Simulated, "openai": OpenAI, "onnx": Onnx, **triton_kinds()}


def of_kinds_that_serve(what):
    """Run a test for the kinds that can; the others are never sent such a request (`settings/carried.py`)."""
    found = [param_of(name) for name, kind in KINDS.items() if what in kind.serves]
    return pytest.mark.parametrize("kind", found, indirect=True)


def param_of(name):
    marks = [need_triton, pytest.mark.xdist_group("triton")] if name.startswith("triton") else []
    return pytest.param(KINDS[name], id=name, marks=marks)


@pytest.fixture(params=[param_of(name) for name in KINDS])
async def kind(request):
    made = request.param()
    if isinstance(made, Triton):
        made.stand_on(request.getfixturevalue("triton"), request.getfixturevalue("tmp_path"))
    async with made as found:
        found.made = []
        make = found.make

        def make_and_keep(manner="at once"):
            found.made.append(make(manner))
            return found.made[-1]

        found.make = make_and_keep
        yield found
        for backend in found.made:
            await backend.close()


def payloads(stream):
    return [json.loads(data) for event in events_in(stream) if (data := data_of(event)) != b"[DONE]"]


async def test_a_whole_answer_is_one_json_body_with_its_usage(kind):
    answer = await kind.make().open(call())
    assert (answer.is_streaming, answer.model) == (False, "m")
    told = json.loads(await collect(answer))
    assert told["choices"][0]["message"]["content"]
    assert told["choices"][0]["finish_reason"] == "stop"
    assert told["usage"]["prompt_tokens"] > 0
    assert told["usage"]["completion_tokens"] > 0


@pytest.mark.parametrize("options", [None, {"include_usage": False}, {"include_usage": True}])
async def test_a_stream_is_whole_events_with_usage_asked_for_or_not_and_ends_with_done(kind, options):
    answer = await kind.make().open(call(request(stream=True, stream_options=options)))
    assert answer.is_streaming
    blocks = [block async for block in answer.blocks]
    await answer.close()
    stream = b"".join(blocks)
    assert all(block.endswith(b"\n\n") for block in blocks)
    assert stream.endswith(DONE)
    assert stream.count(DONE) == 1
    told = payloads(stream)
    assert "".join(one["choices"][0]["delta"].get("content", "") for one in told if one["choices"])
    assert [one["choices"][0]["finish_reason"] for one in told if one["choices"]][-1] == "stop"
    assert [one["usage"]["prompt_tokens"] > 0 for one in told if one.get("usage")] == [True]


@of_kinds_that_serve("logprobs")
@pytest.mark.parametrize("is_streaming", [True, False])
async def test_log_probabilities_are_told_where_they_are_asked_for(kind, is_streaming):
    told = {}
    for wish in (True, False):
        answer = await kind.make().open(call(request(stream=is_streaming, logprobs=wish)))
        whole = await collect(answer)
        chunks = payloads(whole) if is_streaming else [json.loads(whole)]
        found = [one["choices"][0].get("logprobs") or {"content": []} for one in chunks if one["choices"]]
        told[wish] = [token for one in found for token in one["content"]]
        if wish:
            text = [
                one["choices"][0].get("delta", one["choices"][0].get("message")) for one in chunks if one["choices"]
            ]
            assert "".join(one.get("content") or "" for one in text) == "".join(one["token"] for one in told[wish])
    assert told[False] == []
    assert all(token["logprob"] <= 0 for token in told[True])


@pytest.mark.parametrize("is_streaming", [True, False])
async def test_a_completion_is_answered_in_its_own_shape(kind, is_streaming):
    answer = await kind.make().open(call(request(Operation.COMPLETION, stream=is_streaming)))
    whole = await collect(answer)
    told = payloads(whole) if is_streaming else [json.loads(whole)]
    assert "".join(one["choices"][0]["text"] for one in told if one["choices"])


@of_kinds_that_serve("embeddings")
async def test_embeddings_are_one_vector_an_input_in_order(kind):
    answer = await kind.make().open(call(request(Operation.EMBEDDING, input=["one", "two", "three"])))
    told = json.loads(await collect(answer))
    assert [one["index"] for one in told["data"]] == [0, 1, 2]
    assert len({len(one["embedding"]) for one in told["data"]}) == 1
    assert told["usage"]["prompt_tokens"] > 0


@pytest.mark.parametrize("is_streaming", [True, False])
async def test_a_deadline_ends_the_wait_for_an_answer(kind, is_streaming):
    backend, loop = kind.make("slow"), asyncio.get_running_loop()
    began_s = loop.time()
    with pytest.raises(UpstreamTimeoutError):
        await backend.open(call(request(stream=is_streaming), seconds=0.1))
    assert loop.time() - began_s < 1
    await kind.wait_idle()


async def test_a_deadline_ends_an_answer_under_way(kind):
    answer = await kind.make("dripping").open(call(request(stream=True), seconds=0.8))  # a block comes each half second
    with pytest.raises(UpstreamTimeoutError):
        await collect(answer)
    await kind.wait_idle()


@pytest.mark.parametrize("is_streaming", [True, False])
async def test_cancelling_before_the_answer_stops_the_work(kind, is_streaming):
    task = asyncio.create_task(kind.make("slow").open(call(request(stream=is_streaming))))
    await asyncio.sleep(0.05)
    task.cancel()
    assert isinstance(await raised_by(task), asyncio.CancelledError)
    await kind.wait_idle()


async def test_closing_a_reply_half_read_stops_the_work_and_closing_twice_harms_nobody(kind):
    answer = await kind.make("dripping").open(call(request(stream=True)))
    assert await anext(answer.blocks)
    await answer.close()
    await answer.close()
    await kind.wait_idle()


async def test_a_reply_that_nobody_reads_can_be_closed(kind):
    for is_streaming in (True, False):
        answer = await kind.make().open(call(request(stream=is_streaming)))
        await answer.close()
    await kind.wait_idle()


async def test_one_backend_serves_many_at_once(kind):
    backend = kind.make()
    answers = await asyncio.gather(*(backend.open(call(request(stream=n % 2 == 0))) for n in range(5)))
    wholes = [await collect(answer) for answer in answers]
    assert [whole.endswith(DONE) for whole in wholes] == [True, False, True, False, True]
