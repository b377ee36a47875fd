"""The exact cache: whole answers under their keys. Fails open: a store that is away means a miss."""

import time
from collections.abc import Callable

import msgspec

from gateway.core.context import Ladder, RequestContext, Usage
from gateway.core.judgement import Judgement
from gateway.core.reply import Reply, nothing_to_close, once
from gateway.schema.response import Answer, decode_answer, decode_answers
from gateway.schema.sse import DONE, data_of, events_in
from gateway.settings.service import ExactCacheSettings
from gateway.stores.store import Store, StoreUnavailableError

WHOLE = frozenset({"stop", "tool_calls", "function_call"})
"""The finish reasons of whole answers. One cut at its token limit or by a filter is cut short: never stored."""

CountFailure = Callable[[], None]


class Entry(msgspec.Struct, frozen=True, array_like=True):
    """A stored answer. It carries its own key: a store that hands out a stranger's value is found out.

    `has_passed`: a cascade has judged its beginning and let it go on. `usage`: as a whole answer tells it; None where
    it tells none, and of a stream, which tells it to whoever reads.
    """

    key: str
    model: str
    judgement: Judgement | None
    is_streaming: bool
    stored_at_s: float
    body: bytes
    has_passed: bool = False
    usage: Usage | None = None


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Entry)


class ExactCache:
    """Look up and keep answers; count every failing-open."""

    def __init__(
        self,
        store: Store,
        settings: ExactCacheSettings,
        count_failure: CountFailure,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._settings = settings
        self._count_failure = count_failure
        self._wall_clock = wall_clock

    async def find(self, key: str, max_age_s: int | None) -> Entry | None:
        """Return the entry under a key, if there is one young enough."""
        try:
            found = await self._store.get(key)
        except StoreUnavailableError:
            self._count_failure()
            return None
        entry = _decode(found) if found else None
        if entry is None or entry.key != key:
            return None
        if max_age_s is not None and self._wall_clock() - entry.stored_at_s > max_age_s:
            return None
        return entry

    async def holds_stronger(self, key: str, ladder: Ladder, model: str) -> bool:
        """Tell whether the answer of a stronger model than this one is stored, however old."""
        entry = await self.find(key, None)
        return entry is not None and ladder.rank(entry.model) > ladder.rank(model)

    async def keep(self, key: str, reply: Reply, judgement: Judgement | None, body: bytes) -> None:
        """Store a reply's whole answer; one that is cut short, failed or too large is left out."""
        if len(body) > self._settings.max_entry_bytes:
            return
        if not is_whole(body, is_streaming=reply.is_streaming, answer=reply.answer):
            return
        has_passed = reply.verdict is not None and reply.verdict.has_passed
        entry = Entry(
            key, reply.model, judgement, reply.is_streaming, self._wall_clock(), body, has_passed, reply.usage
        )
        try:
            await self._store.set(key, _encoder.encode(entry), self._settings.ttl_s)
        except StoreUnavailableError:
            self._count_failure()


def _decode(value: bytes) -> Entry | None:
    try:
        return _decoder.decode(value)
    except msgspec.DecodeError:
        return None


def is_whole(body: bytes, *, is_streaming: bool, answer: Answer | None = None) -> bool:
    """Tell whether an answer came to its natural end, each of its choices. Embeddings have `data` in their place.

    `answer`: the body, where it has been decoded already.
    """
    try:
        return _is_whole_stream(body) if is_streaming else _is_whole_answer(answer or decode_answer(body))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False


def _is_whole_answer(answer: Answer) -> bool:
    if answer.is_error:
        return False
    if answer.choices is None:
        return bytes(answer.data).startswith(b"[")
    return bool(answer.choices) and all(choice.finish_reason in WHOLE for choice in answer.choices)


def _is_whole_stream(body: bytes) -> bool:
    if not body.endswith(DONE):
        return False
    reasons: dict[bytes, str | None] = {}
    for answer in _answers_in(body):
        if answer.is_error:
            return False
        for choice in answer.choices or ():
            place = bytes(choice.index)
            reasons[place] = choice.finish_reason or reasons.get(place)
    return bool(reasons) and all(reason in WHOLE for reason in reasons.values())


def _answers_in(body: bytes) -> list[Answer]:
    """Return a stream's chunks: by one decoding where each event is one line of data, as nearly always."""
    lines = body.removeprefix(b"data: ").removesuffix(DONE).rstrip()
    try:
        return decode_answers(b"[%b]" % lines.replace(b"\n\ndata: ", b","))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        said = (event for event in events_in(body) if b'"choices"' in event or b'"error"' in event)
        return [decode_answer(data_of(event)) for event in said]


def replay(entry: Entry) -> Reply:
    """Return a stored answer as a reply: a stream as a stream, in one block."""
    return Reply(
        model=entry.model,
        is_streaming=entry.is_streaming,
        blocks=once(entry.body),
        close=nothing_to_close,
        attempts=0,
        claim_bill=_pay_nothing,
        usage=entry.usage,
    )


def _pay_nothing() -> bool:
    return False


def serves(entry: Entry, ctx: RequestContext) -> bool:
    """Tell whether a stored answer is good enough: from the chosen model or a stronger one of the same ladder.

    Where the chosen model's answer would be judged, its stored one must have been.
    """
    if ctx.ladder is None or ctx.decision is None:
        return False
    if entry.model == ctx.decision.model and ctx.decision.escalation is not None:
        return entry.has_passed
    rank = ctx.ladder.rank(entry.model)
    return rank >= 0 and rank >= ctx.ladder.rank(ctx.decision.model)
