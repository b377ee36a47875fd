"""The engine over a fake transport: when the model is checked, what is told of it, and that nothing is left running."""

import asyncio

import pytest

from gateway.backends.backend import Health
from gateway.backends.http import IteratedResponse
from gateway.backends.triton.engine import TritonEngine, Watch
from gateway.backends.triton.tensorrt import TrtllmDialect
from gateway.backends.triton.vllm import VllmDialect
from gateway.backends.triton.wire import Fault, WireError
from gateway.core.errors import (
    UpstreamFailureError,
    UpstreamInterruptedError,
    UpstreamModelUnavailableError,
    UpstreamUnavailableError,
)
from gateway.core.reply import once
from tests.builders import nothing, raised_by
from tests.unit.backends.triton.builders import TRTLLM_INPUTS, VLLM_INPUTS, facts, task

GONE = WireError(Fault.TOLD, "Request for unknown model: 'm' has no available versions")
DEAD = WireError(Fault.CONNECTING, "failed to connect")
END = {"text_output": [b""], "finish_reason": [b"stop"]}


def text(said):
    return {"text_output": [said.encode()], "finish_reason": [b"None"]}


class FakeTransport:
    """Answer every request with these responses, an error being raised in its place."""

    def __init__(self, *responses, model=None, is_ready=True, is_heard=True):
        self.is_heard = is_heard
        self.responses, self.model, self.ready = responses, model or facts(), is_ready
        self.asked, self.described, self.open_now, self.closed = [], 0, 0, False

    async def ask(self, ask, _):
        self.asked.append(ask)
        self.open_now += 1
        try:
            for response in self.responses:
                await asyncio.sleep(0)
                yield await self._say(response)
        finally:
            self.open_now -= 1

    async def is_ready(self):
        return await self._say(self.ready)

    async def describe(self):
        self.described += 1
        return await self._say(self.model)

    async def _say(self, told):
        if told == "silence":
            await asyncio.Event().wait()
        if isinstance(told, Exception):
            raise told
        return told

    async def close(self):
        self.closed = True


def engine_of(transport, dialect=None):
    return TritonEngine("m", "grpc://h:1", dialect or VllmDialect(), transport, Watch(0.05))


async def collect(engine, **asked):
    return [piece async for piece in engine.generate(task(**asked))]


async def test_a_model_is_checked_once_before_it_is_asked():
    transport = FakeTransport(text("Hel"), text("lo"), END)
    engine = engine_of(transport)
    for _ in range(3):
        assert "".join(piece.text for piece in await collect(engine)) == "Hello"
    assert transport.described == 1


async def test_a_model_of_another_dialect_is_never_asked_and_told_what_it_has():
    transport = FakeTransport(model=facts({"text_input": "BYTES", "max_tokens": "INT32"}))
    engine = engine_of(transport)
    error = await raised_by(collect(engine))
    assert type(error) is UpstreamModelUnavailableError
    assert "sampling_parameters BYTES" in error.detail
    assert "max_tokens INT32" in error.detail
    await raised_by(collect(engine))
    assert (transport.asked, transport.described) == ([], 1)
    health = await engine.look()
    assert not health.is_ready
    assert "max_tokens INT32" in health.problem


async def test_a_look_finds_a_model_mended():
    transport = FakeTransport(END, model=facts({"text_input": "BYTES"}))
    engine = engine_of(transport)
    await raised_by(collect(engine))
    transport.model = facts()
    assert (await engine.look()).is_ready
    assert len(await collect(engine)) == 1


async def test_a_model_is_checked_anew_when_it_comes_back():
    transport = FakeTransport(END)
    engine = engine_of(transport)
    assert (await engine.look()).is_ready
    assert (await engine.look()).is_ready
    assert transport.described == 1
    transport.ready = False
    assert not (await engine.look()).is_ready
    transport.ready = True
    assert (await engine.look()).is_ready
    assert transport.described == 2


@pytest.mark.parametrize(("failure", "kind"), [(GONE, UpstreamModelUnavailableError), (DEAD, UpstreamUnavailableError)])
async def test_a_model_is_checked_anew_after_it_was_gone(failure, kind):
    transport = FakeTransport(failure)
    engine = engine_of(transport)
    assert type(await raised_by(collect(engine))) is kind
    transport.responses = (END,)
    await collect(engine)
    assert transport.described == 2


async def test_a_request_that_needs_an_input_the_model_lacks_goes_elsewhere():
    bare = {name: kind for name, kind in VLLM_INPUTS.items() if name != "return_logprobs"}
    transport = FakeTransport(END, model=facts(bare))
    error = await raised_by(collect(engine_of(transport), logprobs=1))
    assert type(error) is UpstreamModelUnavailableError
    assert "return_logprobs" in error.message
    assert len(await collect(engine_of(transport))) == 1


async def test_nothing_is_no_answer():
    assert type(await raised_by(collect(engine_of(FakeTransport())))) is UpstreamFailureError


async def test_an_answer_given_up_is_told_as_what_it_is():
    aborted = {"text_output": [b""], "finish_reason": [b"abort"]}
    assert type(await raised_by(collect(engine_of(FakeTransport(aborted))))) is UpstreamFailureError
    broken = [FakeTransport(text("a"), aborted), FakeTransport(text("a"))]
    for transport in broken:
        assert type(await raised_by(collect(engine_of(transport)))) is UpstreamInterruptedError


async def test_closing_the_pieces_closes_the_request():
    transport = FakeTransport(text("a"), text("b"), END)
    pieces = engine_of(transport).generate(task())
    assert (await anext(pieces)).text == "a"
    assert transport.open_now == 1
    await pieces.aclose()
    assert transport.open_now == 0


ENSEMBLE = facts(TRTLLM_INPUTS, rank=2, steps={"inside": frozenset({"request_output_len"})})


async def left_after(transport, how):
    engine = engine_of(transport, TrtllmDialect())
    pieces = engine.generate(task())
    await anext(pieces)
    if how == "closed":
        await pieces.aclose()
    elif how == "cancelled":
        waiting = asyncio.create_task(anext(pieces))
        await asyncio.sleep(0)
        waiting.cancel()
        await raised_by(waiting)
    else:
        await raised_by(anext(pieces))
    await engine.close()
    return [(ask.model, ask.request_id) for ask in transport.asked]


@pytest.mark.parametrize("how", ["closed", "cancelled", "too late"])
async def test_whoever_leaves_an_ensemble_stops_the_model_inside_before_the_connections_close(how):
    responses = (text("a"), WireError(Fault.DEADLINE, "late")) if how == "too late" else (text("a"), text("b"))
    asked = await left_after(FakeTransport(*responses, model=ENSEMBLE), how)
    assert asked == [("", "postern-task-1"), ("inside", "postern-task-1")]


async def test_a_request_that_failed_is_not_stopped():
    boom = WireError(Fault.TOLD, "boom", "INTERNAL")
    assert len(await left_after(FakeTransport(text("a"), boom, model=ENSEMBLE), "failed")) == 1


async def test_a_request_that_ended_is_not_stopped():
    transport = FakeTransport(text("a"), model=ENSEMBLE)
    engine = engine_of(transport, TrtllmDialect())
    async for _ in engine.generate(task()):
        pass
    await engine.close()
    assert len(transport.asked) == 1


async def test_a_stop_that_fails_or_hangs_is_nobodys_trouble(monkeypatch):
    monkeypatch.setattr("gateway.backends.triton.engine.STOP_S", 0.01)
    for last in (WireError(Fault.BROKEN, "gone"), "silence"):
        transport = FakeTransport(text("a"), text("b"), model=ENSEMBLE)
        engine = engine_of(transport, TrtllmDialect())
        pieces = engine.generate(task())
        await anext(pieces)
        transport.responses = (last,)
        await pieces.aclose()
        await engine.close()
        assert (len(transport.asked), transport.open_now) == (2, 0)


@pytest.mark.parametrize("told", ["silence", DEAD, WireError(Fault.TOLD, "x", "INTERNAL")], ids=str)
async def test_a_look_never_raises_and_never_hangs(told):
    for transport in (FakeTransport(is_ready=told), FakeTransport(model=told)):
        health = await engine_of(transport).look()
        assert not health.is_ready
        assert health.problem


async def test_a_look_that_is_cancelled_is_cancelled():
    look = asyncio.create_task(engine_of(FakeTransport(is_ready="silence")).look())
    await asyncio.sleep(0)
    look.cancel()
    assert type(await raised_by(look)) is asyncio.CancelledError


async def test_closing_closes_the_connections():
    transport = FakeTransport()
    await engine_of(transport).close()
    assert transport.closed


class FakePage:
    """A metrics page."""

    def __init__(self, page):
        self.page, self.is_closed = page, False

    async def send(self, _):
        return IteratedResponse(200, {}, once(self.page), nothing)

    async def close(self):
        self.is_closed = True


async def test_a_look_tells_how_loaded_the_server_is():
    page = FakePage(b'vllm:num_requests_waiting{model="m"} 3\nvllm:num_requests_running{model="m"} 2\n')
    transport = FakeTransport()
    engine = TritonEngine("m", "grpc://h:1", VllmDialect(), transport, Watch(0.05, page, "http://h:8002/metrics", "m"))
    assert await engine.look() == Health(is_ready=True, waiting=3, running=2)
    transport.ready = False
    assert (await engine.look()).waiting is None
    await engine.close()
    assert page.is_closed
