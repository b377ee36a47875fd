"""The front: of a crowd that comes in one turn, the walks begin in batches, and all of them begin."""

import asyncio
from types import SimpleNamespace

import pytest

from gateway.api.front import AT_ONCE, Front
from gateway.core.step import IN_STEP

PATH = b"/v1/chat/completions"


class Counted(Front):
    """A front whose walks do nothing but begin."""

    def __init__(self):
        server = SimpleNamespace(body_timeout_s=1.0)
        settings = SimpleNamespace(limits=SimpleNamespace(max_body_bytes=1000), server=server)
        super().__init__(SimpleNamespace(settings=settings, fleet_line=b"", pipeline=self))
        self.begun = 0

    async def walk(self, ctx, exchange):
        self.begun += 1
        exchange._has_ended = True


@pytest.fixture
async def connection():
    loop, server_state = asyncio.get_running_loop(), SimpleNamespace(tasks=set())
    return SimpleNamespace(method=b"POST", headers=[], keep_alive=True, loop=loop, server_state=server_state)


async def test_a_crowd_begins_in_batches(connection):
    front = Counted()
    for _ in range(2 * AT_ONCE + 6):
        front.open(connection, PATH)
    for begun in (AT_ONCE, 2 * AT_ONCE, 2 * AT_ONCE + 6):
        await IN_STEP
        assert front.begun == begun


async def test_a_walk_that_was_stopped_before_it_began_holds_nobody_up(connection):
    front = Counted()
    for _ in range(3):
        front.open(connection, PATH)
        for task in connection.server_state.tasks:
            task.cancel()
        for _ in range(AT_ONCE + 5):
            front.open(connection, PATH)
        await asyncio.sleep(0.01)
    assert front.begun == 3 * (AT_ONCE + 5)
    assert front._unbegun <= AT_ONCE
