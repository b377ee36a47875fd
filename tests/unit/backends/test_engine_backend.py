"""When a bare engine answers: waits, ends, and that it never works for nobody."""

import asyncio

import pytest

from gateway.backends.backend import Health
from gateway.core.errors import (
    UpstreamFailureError,
    UpstreamInterruptedError,
    UpstreamTimeoutError,
)
from gateway.schema.sse import DONE
from gateway.settings.models import TimeoutSettings
from tests.builders import call, collect, raised_by, request
from tests.engines import END, engine_backend, streamed, text_of, whole


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
    assert "within 0.05 s" in error.message
    assert (engine.ended, engine.cancelled) == (1, 1)


async def test_an_answer_that_is_not_streamed_may_take_its_whole_time():
    backend, _ = engine_backend(0.1, "x", END, timeouts=TimeoutSettings(first_byte_s=0.01, between_chunks_s=0.01))
    assert (await whole(backend))["choices"][0]["message"]["content"] == "x"


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
