"""The Redis store: values over a pipe, behind a breaker. What is asked of it costs a twelfth of redis-py's."""

from collections.abc import Mapping
from typing import Any, Final

from hiredis import ReplyError

from gateway.core.clock import monotonic_s
from gateway.core.deadlines import Wheel
from gateway.settings.service import RedisSettings
from gateway.stores.address import Address, read_address
from gateway.stores.breaker import Breaker, store_breaker
from gateway.stores.line import pack
from gateway.stores.pipe import UNKNOWN_SCRIPT, FindServer, Pipe, code_of
from gateway.stores.scripts import CHANGE_TALLY, SWAP, Script, tally_arguments
from gateway.stores.store import Observe, StoreUnavailableError, refuse_url
from gateway.stores.tally import Change, Tally, pack_tally, unpack_tally

PREFIX: Final = "postern:"


class PipeStore:
    """Keep values in one Redis. Every failure, of whatever kind, is a StoreUnavailableError within the time-out."""

    def __init__(
        self,
        settings: RedisSettings,
        observe: Observe,
        wheel: Wheel | None = None,
        breaker: Breaker | None = None,
        find_server: FindServer | None = None,
    ) -> None:
        self._observe = observe
        self._breaker = breaker or store_breaker()
        self._pipe = Pipe(find_server or _always(settings), settings.timeout_s, self._breaker, wheel)

    async def get(self, key: str) -> bytes | None:
        """Return the value, or None. Raises StoreUnavailableError."""
        found: bytes | None = await self._ask("get", pack((b"GET", PREFIX + key)))
        return found

    async def set(self, key: str, value: bytes, ttl_s: int) -> None:
        """Keep a value for `ttl_s` seconds. Raises StoreUnavailableError."""
        await self._ask("set", _set(key, value, ttl_s))

    async def swap(self, key: str, value: bytes, ttl_s: int) -> bytes | None:
        """Keep a value and return the one before it, in one step, by a script. Raises StoreUnavailableError."""
        before: bytes | None = await self._run("swap", SWAP, key, value, ttl_s)
        return before

    async def set_many(self, values: Mapping[str, bytes], ttl_s: int) -> None:
        """Keep several values in one round trip. Raises StoreUnavailableError."""
        commands = [_set(key, value, ttl_s) for key, value in values.items()]
        await self._ask("set_many", *commands)

    async def change_tally(self, key: str, change: Change, ttl_s: int) -> Tally | None:
        """Add to a tally in one step, by a script, and return it; one that can't be read is dropped."""
        found = await self._run("change_tally", CHANGE_TALLY, key, *tally_arguments(change, ttl_s))
        return unpack_tally(found, len(change.sums)) if found else None

    async def begin_tally(self, key: str, tally: Tally, ttl_s: int) -> bool:
        """Keep a tally unless there is one."""
        command = pack((b"SET", PREFIX + key, pack_tally(tally), b"EX", ttl_s, b"NX"))
        return await self._ask("begin_tally", command, may_repeat=False) is not None

    async def ping(self) -> None:
        """Return once Redis has answered. Raises StoreUnavailableError."""
        await self._ask("ping", pack((b"PING",)))

    async def close(self) -> None:
        """Close the connection."""
        await self._pipe.close()

    async def _run(self, operation: str, script: Script, key: str, *arguments: Any) -> Any:
        """Run a script by its name; where Redis does not know it (yet, or any more), by its text."""
        rest = (1, PREFIX + key, *arguments)
        try:
            return await self._ask(operation, pack((b"EVALSHA", script.sha1, *rest)), may_repeat=False)
        except _UnknownScriptError:
            return await self._ask(operation, pack((b"EVAL", script.text, *rest)), may_repeat=False)

    async def _ask(self, operation: str, *commands: bytes, may_repeat: bool = True) -> Any:
        """Return the reply to the last command, once all are answered and none by an error."""
        if not self._breaker.allows():
            raise StoreUnavailableError("Redis is not answering; it is not asked for a while.")
        started_s = monotonic_s()
        reply = None
        try:
            for answer in [self._pipe.ask(command, may_repeat=may_repeat) for command in commands]:
                reply = await answer
                if type(reply) is ReplyError:
                    code = code_of(reply)
                    kind = _UnknownScriptError if code == UNKNOWN_SCRIPT else StoreUnavailableError
                    raise kind(f"Redis: {operation} failed: {code}")
        finally:
            self._observe(operation, monotonic_s() - started_s)
        return reply


class _UnknownScriptError(StoreUnavailableError):
    """Redis was restarted, or its scripts were flushed, since it was told this one."""


def _set(key: str, value: bytes, ttl_s: int) -> bytes:
    return pack((b"SET", PREFIX + key, value, b"EX", ttl_s))


def _always(settings: RedisSettings) -> FindServer:
    """Raises SettingsError."""
    try:
        address = read_address(settings.url.reveal())
    except (ValueError, OSError):
        refuse_url()

    async def find() -> Address:
        return address

    return find
