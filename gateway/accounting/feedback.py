"""Remembers for a while what was answered, so that its reader can say how good it was. Keeps no prompt and no answer.

Written behind the requests: `remember` only takes note, a task stores what has gathered. Fails open: an answer that
could not be stored can't be marked, and that is counted.
"""

import asyncio
import hashlib
from collections.abc import Callable
from itertools import islice

import msgspec

from gateway.core.errors import FeedbackUnavailableError, NotFoundError
from gateway.settings.feedback import FeedbackSettings
from gateway.stores.store import Store, StoreUnavailableError

GATHER_S = 0.05
"""How long answers gather before they are stored together: one call to Redis instead of one an answer."""
BATCH = 32
"""Answers a call: they hold the event loop for half a millisecond, 17 µs each; one call each would take 80."""
MAX_PENDING = 4096
"""Answers that wait to be stored; more of them are forgotten."""

CountFailure = Callable[[], None]


class Answered(msgspec.Struct, frozen=True, array_like=True):
    """What is known of an answer. `chance`: that it is good, as this version of the router had it beforehand."""

    tenant: str
    request_id: str
    route: str
    model: str
    tier: str | None
    router: str | None
    version: str = ""
    chance: float | None = None


class _Entry(msgspec.Struct, frozen=True, array_like=True):
    answered: Answered
    mark: float | None = None


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(_Entry)


class Marked(msgspec.Struct, frozen=True):
    """A mark, 0 (bad) to 1 (good), and the one it takes the place of."""

    answered: Answered
    mark: float
    previous: float | None


class AnswerMemory:
    """The answers of the last while, by tenant and request id. A client that uses an id again means its last answer."""

    def __init__(self, store: Store, settings: FeedbackSettings, count_failure: CountFailure) -> None:
        self._store = store
        self._ttl_s = settings.ttl_s
        self._count_failure = count_failure
        self._pending: dict[tuple[str, str], Answered] = {}
        self._writing: dict[tuple[str, str], Answered] = {}
        self._task: asyncio.Task[None] | None = None

    def remember(self, answered: Answered) -> None:
        """Take note of an answer; never waits."""
        if len(self._pending) >= MAX_PENDING:
            self._count_failure()
            return
        self._pending[answered.tenant, answered.request_id] = answered
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._store_pending())

    async def mark(self, tenant: str, request_id: str, mark: float) -> Marked:
        """Mark an answer; the last mark stands.

        Raises:
            NotFoundError: this tenant has no such request, or it is too long ago.
            FeedbackUnavailableError: the store is away.
        """
        place = (tenant, request_id)
        while place in self._pending or place in self._writing:  # noqa: ASYNC110 - rare: a mark within 50 ms of its answer
            await asyncio.sleep(GATHER_S)
        key = _key_of(*place)
        try:
            entry = _decode(await self._store.get(key))
            if entry is None or (entry.answered.tenant, entry.answered.request_id) != place:
                raise NotFoundError("There is no such request of yours, or it is too long ago.", param="request_id")
            # What was read may be old by now: of marks at the same time only one may be the first.
            marked = _encoder.encode(_Entry(entry.answered, mark))
            before = _decode(await self._store.swap(key, marked, self._ttl_s))
        except StoreUnavailableError as exc:
            raise FeedbackUnavailableError("Feedback can't be taken now. Try again.") from exc
        return Marked(entry.answered, mark, entry.mark if before is None else before.mark)

    async def _store_pending(self) -> None:
        while self._pending:
            await asyncio.sleep(GATHER_S)
            await self._store_gathered()

    async def _store_gathered(self) -> None:
        while self._pending:
            self._writing = self._take_batch()
            values = {_key_of(*place): _encoder.encode(_Entry(each)) for place, each in self._writing.items()}
            try:
                await self._store.set_many(values, self._ttl_s)
            except StoreUnavailableError:
                self._count_failure()
            except asyncio.CancelledError:
                self._pending = {**self._writing, **self._pending}
                raise
            finally:
                self._writing = {}

    def _take_batch(self) -> dict[tuple[str, str], Answered]:
        if len(self._pending) <= BATCH:
            batch, self._pending = self._pending, {}
            return batch
        batch = dict(islice(self._pending.items(), BATCH))
        for place in batch:
            del self._pending[place]
        return batch

    async def close(self) -> None:
        """Store what has gathered. The store itself is its owner's to close."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
        await self._store_gathered()


def _key_of(tenant: str, request_id: str) -> str:
    """Return a key of one length; neither part holds a newline, so no two pairs run into the same text."""
    return "feedback:" + hashlib.blake2b(f"{tenant}\n{request_id}".encode(), digest_size=16).hexdigest()


def _decode(value: bytes | None) -> _Entry | None:
    try:
        return None if value is None else _decoder.decode(value)
    except msgspec.DecodeError:
        return None
