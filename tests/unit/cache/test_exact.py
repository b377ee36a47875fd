"""The exact cache: what is kept, what is served, and that a store that is away means a miss."""

import msgspec
import pytest
from msgspec import structs

from gateway.cache.exact import Entry, ExactCache, is_whole, replay, serves
from gateway.core.context import Usage, Verdict
from gateway.core.judgement import Judgement
from gateway.schema.sse import DONE, event_of
from gateway.settings.service import ExactCacheSettings
from gateway.stores.memory import MemoryStore
from gateway.stores.store import StoreUnavailableError
from tests.builders import STREAM, FakeClock, body, chunk, collect, context, decided_context, reply, usage_chunk

KEY, OTHER_KEY = "a" * 64, "b" * 64
EMBEDDINGS = b'{"object":"list","data":[{"index":0,"embedding":[0.5]}],"usage":{"prompt_tokens":1}}'


class BrokenStore:
    """A store that is away."""

    async def get(self, key):
        raise StoreUnavailableError("away")

    async def set(self, key, value, ttl_s):
        raise StoreUnavailableError("away")


class House:
    """A cache with all that it touches."""

    def __init__(self, store=None, **settings):
        self.failures = 0
        self.wall = FakeClock(1_000_000.0)
        self.store = store or MemoryStore(10)
        self.cache = ExactCache(self.store, ExactCacheSettings(**settings), self.count_failure, self.wall)

    def count_failure(self):
        self.failures += 1

    async def keep(self, answer=None, *, is_streaming=False, verdict=None):
        await self.cache.keep(
            KEY, reply(is_streaming=is_streaming, verdict=verdict), Judgement(0.25, domain="law"), answer or body()
        )

    async def find(self, key=KEY, max_age_s=None):
        return await self.cache.find(key, max_age_s)


def choices(*reasons):
    return msgspec.json.encode({"choices": [{"index": n, "finish_reason": reason} for n, reason in enumerate(reasons)]})


@pytest.mark.parametrize(
    ("answer", "is_kept"),
    [
        (body("stop"), True),
        (body("tool_calls"), True),
        (body("function_call"), True),
        (body("length"), False),
        (body("content_filter"), False),
        (body("surprise"), False),
        (body(None), False),
        (choices("stop", "stop"), True),
        (choices("stop", "length"), False),
        (choices("stop", None), False),
        (choices(), False),
        (EMBEDDINGS, True),
        (b"{}", False),
        (b'{"detail":"loading"}', False),
        (b'{"error":{"message":"x"}}', False),
        (b'{"object":"error","data":[]}', False),
        (body("stop", error={"message": "x"}), False),
        (body("stop", error=None), True),
        (b"", False),
        (b"<html>", False),
        (b'{"choices":"many"}', False),
        (b"\xff", False),
        (b"[" * 100_000, False),
    ],
)
def test_a_body_is_whole_when_each_choice_came_to_its_natural_end(answer, is_kept):
    assert is_whole(answer, is_streaming=False) is is_kept


@pytest.mark.parametrize(
    ("stream", "is_kept"),
    [
        (STREAM, True),
        (STREAM.removesuffix(DONE), False),
        (chunk("Hi") + DONE, False),
        (DONE, False),
        (chunk("Hi") + chunk(finish_reason="length") + DONE, False),
        (chunk(finish_reason="stop") + usage_chunk(prompt_tokens=1) + DONE, True),
        (chunk("a") + chunk("b", index=1) + chunk(finish_reason="stop") + DONE, False),
        (chunk("a") + chunk(finish_reason="stop", index=1) + chunk(finish_reason="stop") + DONE, True),
        (chunk("a") + chunk(finish_reason="length", index=1) + chunk(finish_reason="stop") + DONE, False),
        (chunk(finish_reason="stop") + event_of({"error": {"message": "x"}}) + DONE, False),
        (chunk('"error"', error=None) + chunk(finish_reason="stop") + DONE, True),
        (b'data: {"choices": [{"finish_reason": 7}]}\n\n' + DONE, False),
        (b'data: {"choices": \n\n' + DONE, False),
    ],
)
def test_a_stream_is_whole_when_each_choice_finished_and_done_was_said(stream, is_kept):
    assert is_whole(stream, is_streaming=True) is is_kept


@pytest.mark.parametrize(
    ("usual", "unusual"),
    [
        (b"\n\n", b"\r\n\r\n"),
        (b"data: {", b"data:{"),
        (b"\n\ndata: {", b"\n\n: still there\n\ndata: {"),
        (b',"choices"', b'\ndata: ,"choices"'),
        (b"\n\ndata: {", b"\n\n\ndata: {"),
        (b"data: {", b"id: 1\ndata: {"),
    ],
)
@pytest.mark.parametrize(("reason", "is_kept"), [("stop", True), ("length", False), (None, False)])
def test_a_stream_is_read_however_its_events_are_written(usual, unusual, reason, is_kept):
    stream = chunk("a") + chunk(finish_reason=reason)
    assert usual in stream
    assert is_whole(stream.replace(usual, unusual) + DONE, is_streaming=True) is is_kept


async def test_what_was_kept_is_found_with_its_model_and_score():
    house = House()
    await house.keep()
    assert await house.find() == Entry(KEY, "small", Judgement(0.25, domain="law"), False, 1_000_000.0, body())
    assert await house.find(OTHER_KEY) is None


async def test_an_answer_cut_short_is_not_kept():
    house = House()
    await house.keep(body("length"))
    assert await house.find() is None


async def test_an_answer_too_large_is_not_kept_and_one_of_just_that_size_is():
    for limit, is_kept in ((len(body()) - 1, False), (len(body()), True)):
        house = House(max_entry_bytes=limit)
        await house.keep()
        assert (await house.find() is not None) is is_kept


async def test_an_entry_under_a_strangers_key_is_not_served():
    house = House()
    await house.keep()
    await house.store.set(OTHER_KEY, await house.store.get(KEY), 60)
    assert await house.find(OTHER_KEY) is None


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"junk",
        b"\x91\xa1x",
        msgspec.msgpack.encode([KEY, "m", {"score": 0.1}, False, "", 1]),
        msgspec.msgpack.encode([KEY, "m", 0.1, False, 1_000_000.0, body()]),  # as before judgements were kept
        msgspec.msgpack.encode([KEY, "m", {}, False, 1_000_000.0, body()]),
    ],
)
async def test_a_value_that_is_no_entry_is_a_miss(value):
    house = House()
    await house.store.set(KEY, value, 60)
    assert await house.find() is None
    assert house.failures == 0


async def test_a_store_that_is_away_means_a_miss_and_is_counted():
    house = House(BrokenStore())
    assert await house.find() is None
    assert house.failures == 1
    await house.keep()
    assert house.failures == 2


async def test_max_age_is_measured_by_the_wall_clock():
    house = House()
    await house.keep()
    house.wall.pass_s(30)
    assert await house.find(max_age_s=30) is not None
    assert await house.find(max_age_s=29) is None
    assert await house.find(max_age_s=None) is not None


async def test_an_entry_dies_after_its_time_to_live():
    clock = FakeClock()
    house = House(MemoryStore(10, clock), ttl_s=60)
    await house.keep()
    clock.pass_s(59.9)
    assert await house.find() is not None
    clock.pass_s(0.1)
    assert await house.find() is None


@pytest.mark.parametrize("is_streaming", [True, False])
async def test_a_replayed_answer_is_the_same_bytes_and_nobody_pays_for_it(is_streaming):
    answer = STREAM if is_streaming else body()
    told = replay(Entry(KEY, "small", Judgement(0.25, domain="law"), is_streaming, 0.0, answer))
    assert (told.model, told.is_streaming, told.attempts, told.claim_bill()) == ("small", is_streaming, 0, False)
    assert await collect(told) == answer


@pytest.mark.parametrize(
    ("stored", "chosen", "is_served"),
    [
        ("small", "small", True),
        ("small", "middle", False),
        ("small", "large", False),
        ("middle", "large", False),
        ("middle", "small", True),
        ("large", "small", True),
        ("large", "large", True),
        ("stranger", "small", False),
    ],
)
def test_a_weaker_answer_never_serves_for_a_stronger_one_and_the_other_way_round_it_does(stored, chosen, is_served):
    ctx = decided_context(chosen, models=("small", "middle", "large"))
    assert serves(Entry(KEY, stored, None, False, 0.0, b""), ctx) is is_served


def test_nothing_is_served_before_the_model_is_chosen():
    assert not serves(Entry(KEY, "small", None, False, 0.0, b""), context())


@pytest.mark.parametrize(
    ("verdict", "has_passed"),
    [(None, False), (Verdict(0.9), True), (Verdict(), True), (Verdict(0.1, has_passed=False), False)],
)
async def test_an_entry_knows_whether_a_cascade_let_it_go_on(verdict, has_passed):
    house = House()
    await house.keep(verdict=verdict)
    assert (await house.find()).has_passed is has_passed


@pytest.mark.parametrize(
    ("stored", "has_passed", "is_served"),
    [("small", True, True), ("small", False, False), ("middle", False, True), ("large", False, True)],
)
def test_where_an_answer_would_be_judged_a_stored_one_must_have_been(stored, has_passed, is_served):
    ctx = decided_context("small", models=("small", "middle", "large"))
    ctx.decision = structs.replace(ctx.decision, escalation="middle")
    assert serves(Entry(KEY, stored, None, False, 0.0, b"", has_passed), ctx) is is_served


async def test_an_entry_of_an_earlier_version_has_not_been_judged():
    house = House()
    old = [KEY, "small", None, False, house.wall(), body()]
    await house.store.set(KEY, msgspec.msgpack.encode(old), 60)
    found = await house.find()
    assert (found.has_passed, found.usage, replay(found).usage) == (False, None, None)


async def test_a_replayed_answer_carries_what_was_known_of_its_tokens_when_it_was_stored():
    house, usage = House(), Usage(10, 5, 2)
    await house.cache.keep(KEY, structs.replace(reply(), usage=usage), None, body())
    assert replay(await house.find()).usage == usage
