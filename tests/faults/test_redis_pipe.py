"""The pipe to Redis before servers that lie, hang, trickle, refuse and break off."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from gateway.core.clock import monotonic_s
from gateway.core.secret import Secret
from gateway.settings.faults import SettingsError
from gateway.settings.service import RedisSettings
from gateway.stores import pipe
from gateway.stores.breaker import Breaker
from gateway.stores.pipe_store import PipeStore
from gateway.stores.store import StoreUnavailableError
from tests.faults.lying_redis import OK, Answer, Command, LyingRedis, bulk, echo
from tests.faults.wire import ask, call, eventually
from tests.running import RunningGateway, two_models
from tests.upstream import Upstream

TIMEOUT_S = 0.2
SLACK_S = 0.5
"""How late a busy machine may be."""


def name(key: str) -> bytes:
    return f"postern:{key}".encode()


@asynccontextmanager
async def linked(
    answer: Answer = echo,
    greet: Answer | None = None,
    options: str = "",
    threshold: int = 3,
    timeout_s: float = TIMEOUT_S,
) -> AsyncIterator[tuple[LyingRedis, PipeStore]]:
    async with LyingRedis(answer, greet) as server:
        settings = RedisSettings(url=Secret(server.url + options), timeout_s=timeout_s)
        store = PipeStore(settings, lambda *_: None, breaker=Breaker(threshold))
        try:
            yield server, store
        finally:
            await store.close()


async def fails(call: Awaitable[object], match: str | None = None) -> float:
    began_s = monotonic_s()
    with pytest.raises(StoreUnavailableError, match=match):
        await call
    return monotonic_s() - began_s


async def hang(command: Command, writer: asyncio.StreamWriter) -> None:
    pass


async def test_what_is_asked_in_one_turn_goes_out_in_one_write() -> None:
    async with linked() as (server, store):
        await store.get("first")
        server.reads.clear()
        assert await asyncio.gather(*(store.get(f"{n}") for n in range(100))) == [name(f"{n}") for n in range(100)]
        assert server.reads == [100]
        assert server.connections == 1


async def test_a_caller_that_left_keeps_its_place_and_costs_nobody_the_connection() -> None:
    """CVE-2023-28858, CVE-2023-28859."""

    async def late(command: Command, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.02)
        writer.write(bulk(command[1]))

    async with linked(late) as (server, store):
        await store.get("first")
        for turns in (0, 1, 2, 5):
            leaving = asyncio.create_task(store.get("mine"))
            for _ in range(turns):
                await asyncio.sleep(0)
            staying = asyncio.create_task(store.get("yours"))
            await asyncio.sleep(0.001 * turns)
            leaving.cancel()
            assert await staying == name("yours")
        assert server.connections == 1


async def test_an_answer_that_comes_too_late_is_nobodys() -> None:
    async def trickle(command: Command, writer: asyncio.StreamWriter) -> None:
        if command[1] != name("slow"):
            await echo(command, writer)
            return
        for byte in bulk(b"stranger"):
            writer.write(bytes([byte]))
            await asyncio.sleep(0.02)

    async with linked(trickle) as (server, store):
        assert TIMEOUT_S <= await fails(store.get("slow"), "took too long") < TIMEOUT_S + SLACK_S
        assert await store.get("next") == name("next")
        assert server.connections == 1, "bytes came all the time: the server lives"


async def test_a_reply_that_never_ends_costs_the_connection_in_the_end() -> None:
    async def drip(command: Command, writer: asyncio.StreamWriter) -> None:
        writer.write(b"$1000\r\n")
        while True:
            writer.write(b"x")
            await asyncio.sleep(0.02)

    async with linked(drip, threshold=100) as (server, store):
        await fails(store.get("slow"))
        server.answer = echo

        async def is_well() -> bool:
            try:
                return await store.get("well") == name("well")
            except StoreUnavailableError:
                return False

        await eventually(is_well, 2 * pipe.PATIENCE * TIMEOUT_S, 0.05)
        assert server.connections == 2


async def test_a_server_gone_silent_is_left_and_who_can_be_asked_again_is() -> None:
    async with linked(hang, timeout_s=1.0) as (server, store):
        waiting = asyncio.create_task(store.get("old"))
        await asyncio.sleep(0.5)
        young, once = asyncio.create_task(store.get("young")), asyncio.create_task(store.swap("young", b"", 60))
        await eventually(lambda: len(server.commands) == 3)
        server.answer = echo
        await fails(waiting, "took too long")
        assert await young == name("young")
        await fails(once, "lost the connection")
        assert [command[1] for command in server.commands].count(name("young")) == 2
        assert server.connections == 2


async def test_a_server_that_greets_and_then_hangs_is_not_asked_for_long() -> None:
    async with linked(hang) as (server, store):
        for _ in range(3):
            assert await fails(store.get("key")) < TIMEOUT_S + SLACK_S
        assert await fails(store.get("key"), "not asked") < TIMEOUT_S / 2
        assert server.connections == 3


async def test_a_connection_broken_off_at_the_greeting_counts_once() -> None:
    async def hang_up(command: Command, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async with linked(echo, hang_up) as (server, store):
        for _ in range(3):
            await fails(store.get("key"), "no connection")
        await fails(store.get("key"), "not asked")
        assert server.connections == 3


async def test_a_greeting_that_hangs_is_within_the_time_out() -> None:
    async with linked(echo, hang) as (server, store):
        assert await fails(store.get("key")) < TIMEOUT_S + SLACK_S
        assert server.commands == []


@pytest.mark.parametrize("lie", [b"+extra\r\n", b"!junk\x00", bulk(b"stranger") * 3])
async def test_what_nobody_asked_for_costs_the_connection(lie: bytes, caplog: pytest.LogCaptureFixture) -> None:
    async def more(command: Command, writer: asyncio.StreamWriter) -> None:
        await echo(command, writer)
        writer.write(lie)

    async with linked(more, threshold=100) as (server, store):
        assert await store.get("one") == name("one")
        await asyncio.sleep(0.02)
        server.answer = echo
        assert await store.get("two") == name("two")
        assert server.connections == 2
        assert not caplog.records, "expected of a lying server, so no fault of the loop's"


@pytest.mark.parametrize("torn", [b"", b"$", b"$100\r\nhalf", b"*2\r\n$1\r\nx\r\n"])
async def test_a_reply_broken_off_is_asked_for_once_more_and_then_never_half_there(torn: bytes) -> None:
    async def break_off(command: Command, writer: asyncio.StreamWriter) -> None:
        writer.write(torn)
        writer.close()

    async with linked(break_off) as (server, store):
        await fails(store.get("key"), "lost the connection")
        assert server.connections == len(server.commands) == 2
        server.answer = echo
        assert await store.get("key") == name("key")


def refuse(error: bytes) -> Answer:
    async def answer(command: Command, writer: asyncio.StreamWriter) -> None:
        writer.write(b"-%b postern:secret\r\n" % error if command[0] != b"GET" else bulk(command[1]))

    return answer


@pytest.mark.parametrize(
    "error", [b"OOM command not allowed", b"NOPERM no", b"MOVED 1 h:1", b"MISCONF", b"WRONGTYPE x"]
)
async def test_a_refused_command_says_nothing_against_the_server(error: bytes) -> None:
    async with linked(refuse(error)) as (server, store):
        for _ in range(5):
            with pytest.raises(StoreUnavailableError) as told:
                await store.set("key", b"1", 60)
        assert str(told.value) == f"Redis: set failed: {error.split()[0].decode()}"
        assert await store.get("key") == name("key")
        assert server.connections == 1


@pytest.mark.parametrize("error", [b"LOADING data", b"MASTERDOWN no", b"NOAUTH required", b"BUSY script"])
async def test_a_server_of_no_use_is_not_asked_for_long(error: bytes) -> None:
    async with linked(refuse(error)) as (_, store):
        for _ in range(3):
            await fails(store.set("key", b"1", 60), error.split()[0].decode())
        await fails(store.get("key"), "not asked")


async def test_a_master_become_a_replica_is_left_but_not_over_and_over(monkeypatch: pytest.MonkeyPatch) -> None:
    async with linked(refuse(b"READONLY replica")) as (server, store):
        for _ in range(10):
            await fails(store.set("key", b"1", 60), "READONLY")
            await asyncio.sleep(0.01)
        assert server.connections == 2
        assert await store.get("key") == name("key")


async def test_a_refused_greeting_tells_its_code_and_nothing_secret() -> None:
    async def refuse_password(command: Command, writer: asyncio.StreamWriter) -> None:
        writer.write(b"-WRONGPASS hunter2 is not it\r\n" if command[0] == b"AUTH" else OK)

    async with linked(echo, refuse_password, "?username=u&password=hunter2") as (server, store):
        for _ in range(3):
            with pytest.raises(StoreUnavailableError) as told:
                await store.get("key")
            assert str(told.value) == "Redis: no connection: WRONGPASS"
        await fails(store.get("key"), "not asked")
        assert server.commands == []


async def test_where_the_database_is_refused_nothing_is_asked_of_another() -> None:
    async def refuse_select(command: Command, writer: asyncio.StreamWriter) -> None:
        writer.write(b"-ERR DB index is out of range\r\n" if command[0] == b"SELECT" else OK)

    async with linked(echo, refuse_select, "?db=99") as (server, store):
        await fails(store.get("key"), "no connection: ERR")
        assert server.commands == []


async def test_a_name_that_is_refused_is_done_without() -> None:
    async def refuse_name(command: Command, writer: asyncio.StreamWriter) -> None:
        writer.write(b"-NOPERM\r\n")

    async with linked(echo, refuse_name) as (_, store):
        assert await store.get("key") == name("key")


async def test_what_is_pushed_is_no_reply() -> None:
    async def push(command: Command, writer: asyncio.StreamWriter) -> None:
        writer.write(b">2\r\n+invalidate\r\n*0\r\n" + bulk(command[1]) + b">1\r\n+x\r\n")

    async with linked(push, options="?protocol=3") as (server, store):
        assert await asyncio.gather(store.get("a"), store.get("b")) == [name("a"), name("b")]
        assert server.connections == 1


async def test_what_waits_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipe, "MAX_PLACES", 50)
    async with linked(hang, threshold=1000) as (_, store):
        calls = [asyncio.create_task(store.get("key")) for _ in range(60)]
        await asyncio.sleep(0.05)
        assert sum(call.done() for call in calls) == 10
        for call in calls:
            await fails(call)


async def test_bytes_that_wait_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipe, "MAX_UNSENT_BYTES", 1000)
    async with linked(threshold=1000) as (_, store):
        calls = [store.set("key", b"x" * 400, 60) for _ in range(10)]
        kept = await asyncio.gather(*calls, return_exceptions=True)
        assert [type(one) for one in kept] == [type(None)] * 3 + [StoreUnavailableError] * 7
        await store.set("key", b"x" * 400, 60)


@pytest.mark.parametrize("is_greeted", [True, False])
async def test_closing_fails_whoever_waits_and_whoever_comes_after(is_greeted: bool) -> None:
    async with linked(hang, None if is_greeted else hang) as (_, store):
        waiting = asyncio.create_task(store.get("key"))
        await asyncio.sleep(0.05)
        await store.close()
        assert await fails(waiting) < TIMEOUT_S / 2
        assert await fails(store.get("key"), "closed") < TIMEOUT_S / 2


@pytest.mark.parametrize(
    "url", ["redis://h:1/0?protocol=4", "rediss://h?ssl_cert_reqs=no", "rediss://h?ssl_x=1", "redis://h?ssl_ciphers=x",
            "rediss://h?ssl_ca_certs=/no/such"],
)  # fmt: skip
def test_a_url_that_cannot_be_read_is_refused_without_telling_it(url: str) -> None:
    with pytest.raises(SettingsError) as told:
        PipeStore(RedisSettings(url=Secret(url)), lambda *_: None)
    assert "redis.url" in str(told.value)
    assert url not in str(told.value)


async def test_a_crowd_behind_a_hanging_server_is_one_failure_each_and_all_are_told_in_time() -> None:
    async with linked(hang) as (_, store):
        calls: list[Callable[[], Awaitable[object]]] = [lambda: store.get("key")] * 300
        took_s = await asyncio.gather(*(fails(call()) for call in calls))
        assert max(took_s) < TIMEOUT_S + SLACK_S
        await fails(store.get("key"), "not asked")


async def test_what_waited_for_room_is_sent_when_there_is_room() -> None:
    async with linked() as (_, store):
        await store.get("first")
        large = asyncio.create_task(store.set("large", b"x" * 8_000_000, 60))
        for _ in range(3):
            await asyncio.sleep(0)
        assert await store.get("small") == name("small")
        await large


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_no_client_waits_until_its_answer_is_kept(tmp_path: Path, stream: bool) -> None:
    async def keep_nothing(command: Command, writer: asyncio.StreamWriter) -> None:
        if command[0] != b"SET":
            writer.write(b"$-1\r\n")

    async with LyingRedis(keep_nothing) as server, Upstream() as upstream:
        sections = {"redis": {"url": server.url, "timeout_s": 5.0}, "cache": {"exact": {}}, "feedback": None}
        async with RunningGateway(two_models(upstream.url, upstream.url, **sections), tmp_path) as gateway:
            began_s = monotonic_s()
            assert (await call(gateway.url, ask("kept?", stream=stream))).status == 200
            await eventually(lambda: b"SET" in [command[0] for command in server.commands])
            assert monotonic_s() - began_s < 4.0
