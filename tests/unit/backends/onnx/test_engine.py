import asyncio
import json
import os
from contextlib import aclosing
from pathlib import Path

import pytest

from gateway.backends.backend import Health
from gateway.backends.onnx.engine import RETRY_AFTER_S
from gateway.core.errors import UpstreamContextError, UpstreamOverloadedError, UpstreamRejectionError
from tests.builders import raised_by
from tests.tiny_model import FOR_EVER, is_gone, pieces_of, ready, task, text_of, until

LONG = {**FOR_EVER, "max_tokens": 2000}


async def begun(engine, asked):
    """The pieces of an answer that has begun."""
    pieces = engine.generate(asked)
    await anext(pieces)
    return pieces


async def test_nothing_runs_before_the_first_look_or_call(tiny, engine_of):
    engine = engine_of(tiny)
    assert engine._supervisor.ready is None
    assert engine._supervisor._task is None
    assert not (await engine.look()).is_ready
    await ready(engine)
    assert await engine.look() == Health(is_ready=True, waiting=0, running=0)


async def test_a_call_before_the_model_is_loaded_waits_for_it(tiny, engine_of):
    engine = engine_of(tiny)
    pieces = await pieces_of(engine, task(**FOR_EVER))
    assert sum(piece.token_count for piece in pieces) == 20
    assert [piece.finish_reason for piece in pieces] == [None] * (len(pieces) - 1) + ["length"]
    assert [piece.prompt_tokens is None for piece in pieces] == [True] * (len(pieces) - 1) + [False]


async def test_text_comes_as_it_is_made(slow, engine_of):
    pieces = await pieces_of(engine_of(slow), task(max_tokens=10, **FOR_EVER))
    assert len(pieces) >= 8


@pytest.mark.parametrize("seed", [None, 5])
async def test_what_is_not_streamed_is_one_piece(slow, engine_of, seed):
    (piece,) = await pieces_of(engine_of(slow), task(is_streaming=False, max_tokens=5, seed=seed, min_tokens=5))
    assert piece.text
    assert (piece.token_count, piece.finish_reason) == (5, "length")


async def test_answers_side_by_side_take_turns(slow, engine_of):
    engine, order = engine_of(slow), []
    await ready(engine)

    async def follow(name, **sampling):
        async with aclosing(engine.generate(task(max_tokens=12, **FOR_EVER, **sampling))) as pieces:
            async for _ in pieces:
                order.append(name)  # noqa: PERF401 - the order of all is what counts

    await asyncio.gather(*(follow(name) for name in "abc"), follow("seeded", seed=3))
    first_end = min(len(order) - order[::-1].index(name) for name in {*order})
    assert {*order[: first_end - 1]} == {"a", "b", "c", "seeded"}
    assert all(order[: first_end - 1].count(name) > 5 for name in {*order})


async def test_a_newcomer_does_not_wait_for_those_before_it(slow, engine_of):
    engine = engine_of(slow)
    async with aclosing(await begun(engine, task(**LONG))):
        async with asyncio.timeout(5):
            assert await text_of(engine, task(max_tokens=3))
        assert (await engine.look()).running == 1


async def test_more_than_a_batch_wait_and_more_than_may_wait_are_turned_away_at_once(slow, engine_of):
    engine = engine_of(slow, max_batch=2, max_waiting=1)
    await ready(engine)
    running = [await begun(engine, task(**LONG)) for _ in range(2)]
    waiting = asyncio.create_task(text_of(engine, task(max_tokens=2)))
    await asyncio.sleep(0.2)
    assert not waiting.done()
    assert await engine.look() == Health(is_ready=True, waiting=1, running=2)
    failure = await raised_by(text_of(engine))
    assert isinstance(failure, UpstreamOverloadedError)
    assert failure.retry_after_s == RETRY_AFTER_S
    await running[0].aclose()
    async with asyncio.timeout(5):
        assert await waiting
    await running[1].aclose()
    assert await engine.look() == Health(is_ready=True, waiting=0, running=0)


@pytest.mark.parametrize("seed", [None, 5])
async def test_an_answer_given_up_frees_its_place_in_the_worker(slow, engine_of, seed):
    engine = engine_of(slow, max_batch=1)
    await pieces_of(engine, task(seed=seed, **LONG), count=2)
    async with asyncio.timeout(5):
        assert await text_of(engine, task(max_tokens=2))


async def test_an_answer_given_up_while_it_waits_is_never_begun(slow, engine_of):
    engine = engine_of(slow, max_batch=1)
    async with aclosing(await begun(engine, task(**LONG))):
        waiting = [asyncio.create_task(text_of(engine, task(**LONG))) for _ in range(3)]
        await asyncio.sleep(0.1)
        for one in waiting:
            one.cancel()
        await asyncio.wait(waiting)
        assert (await engine.look()).waiting == 0
    async with asyncio.timeout(5):
        assert await text_of(engine, task(max_tokens=2))


async def test_a_slow_reader_gets_all_of_its_answer_and_holds_nobody_up(slow, engine_of):
    engine = engine_of(slow)
    expected = await text_of(engine, task(max_tokens=20, **FOR_EVER))
    pieces = await begun(engine, task(max_tokens=20, **FOR_EVER))
    for _ in range(2):
        assert await text_of(engine, task(max_tokens=20, **FOR_EVER)) == expected
    rest = [piece async for piece in pieces]
    assert expected.endswith("".join(piece.text for piece in rest))
    assert len(rest) == 1
    assert rest[0].token_count >= 15


@pytest.mark.parametrize(
    ("asked", "kind"),
    [
        (task("hello " * 3000), UpstreamContextError),
        (task(schema=b'{"type": "nonsense"}'), UpstreamRejectionError),
        (task(temperature=-1.0), UpstreamRejectionError),
    ],
)
async def test_a_request_at_fault_is_told_so_and_others_are_not_touched(slow, engine_of, asked, kind):
    engine = engine_of(slow)
    async with aclosing(await begun(engine, task(max_tokens=10, **FOR_EVER))) as other:
        assert isinstance(await raised_by(text_of(engine, asked)), kind)
        assert [piece.finish_reason async for piece in other][-1] == "length"


async def test_a_schema_makes_valid_json_over_the_wire(tiny, engine_of):
    schema = {"type": "object", "properties": {"a": {"enum": [1, 2]}}, "required": ["a"], "additionalProperties": False}
    text = await text_of(engine_of(tiny), task(max_tokens=100, schema=json.dumps(schema).encode()))
    assert json.loads(text)["a"] in {1, 2}


async def test_the_same_seed_says_the_same_in_another_process(tiny, engine_of):
    asked = task(seed=11, min_tokens=15)
    assert await text_of(engine_of(tiny), asked) == await text_of(engine_of(tiny), asked)


async def test_threads_are_as_many_as_were_set(tiny, engine_of):
    assert await text_of(engine_of(tiny, threads=1), task(temperature=0.0)) == await text_of(
        engine_of(tiny), task(temperature=0.0)
    )


async def test_closing_ends_the_process_and_what_it_held(slow, engine_of):
    engine = engine_of(slow)
    pid = await ready(engine)
    pieces = await begun(engine, task(**LONG))
    await engine.close()
    await engine.close()
    assert isinstance(await raised_by(_drain(pieces)), Exception)
    await until(lambda: is_gone(pid))


async def _drain(pieces):
    async for _ in pieces:
        pass


@pytest.mark.parametrize("turns_of_the_loop", [1, 2, 5, 50])
async def test_closing_while_the_process_starts_leaves_none_behind(tiny, engine_of, turns_of_the_loop):
    before = children()
    engine = engine_of(tiny)
    await engine.look()
    for _ in range(turns_of_the_loop):
        await asyncio.sleep(0.001)
    await engine.close()
    await until(lambda: children() <= before, seconds=2)


def children():
    """The processes that this one started and has not waited for."""
    return set(Path(f"/proc/self/task/{os.getpid()}/children").read_text().split())
