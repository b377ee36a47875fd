import asyncio

import pytest

from gateway.backends.engine import Piece
from gateway.backends.onnx.mailbox import Mailbox
from gateway.backends.onnx.wire import Said
from gateway.core.errors import UpstreamFailureError
from tests.builders import raised_by


async def test_what_a_slow_reader_left_comes_as_one_piece_with_all_its_counts():
    mailbox = Mailbox()
    for said in (Said(1, "a", 1), Said(1, "b", 2), Said(1, "c", 1, 7, "stop")):
        mailbox.put(said)
    assert await mailbox.take() == Piece("abc", 4, 7, "stop")
    assert mailbox.is_over


async def test_a_reader_waits_for_what_comes():
    mailbox = Mailbox()
    reading = asyncio.create_task(mailbox.take())
    await asyncio.sleep(0)
    mailbox.put(Said(1, "a", 1))
    assert await reading == Piece("a", 1)
    reading = asyncio.create_task(mailbox.take())
    await asyncio.sleep(0)
    assert not reading.done()
    mailbox.put(Said(1, "b", 1))
    assert (await reading).text == "b"


async def test_what_came_before_a_failure_is_read_first():
    mailbox = Mailbox()
    mailbox.put(Said(1, "a", 1))
    failure = UpstreamFailureError("gone")
    mailbox.fail(failure)
    assert (await mailbox.take()).text == "a"
    assert await raised_by(mailbox.take()) is failure


async def test_a_failure_wakes_the_reader():
    mailbox = Mailbox()
    reading = asyncio.create_task(mailbox.take())
    await asyncio.sleep(0)
    mailbox.fail(UpstreamFailureError("gone"))
    with pytest.raises(UpstreamFailureError):
        await reading


async def test_an_answer_that_ended_does_not_fail_any_more():
    mailbox = Mailbox()
    mailbox.put(Said(1, "a", 1, 2, "stop"))
    mailbox.fail(UpstreamFailureError("gone"))
    assert (await mailbox.take()).finish_reason == "stop"
