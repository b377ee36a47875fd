"""In step: who waits for the others of its turn goes on once each of them is as far."""

import asyncio

from gateway.core.step import IN_STEP


async def test_those_of_one_turn_go_through_a_stage_one_after_another():
    seen = []

    async def walk(name):
        seen.append(f"{name} looks up")
        await IN_STEP
        seen.append(f"{name} is judged")
        await IN_STEP
        seen.append(f"{name} goes on")

    await asyncio.gather(*map(walk, "ab"))
    assert seen == [f"{name} {done}" for done in ("looks up", "is judged", "goes on") for name in "ab"]


async def test_one_alone_waits_for_no_more_than_a_turn():
    turns = []
    asyncio.get_running_loop().call_soon(turns.append, 1)
    await IN_STEP
    assert turns == [1]
