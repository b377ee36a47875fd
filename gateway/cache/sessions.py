"""What is remembered of conversations, and what is learned of upstreams' prompt caches by it.

Fails open: a store that is away means a conversation nobody knows. Knows nothing of how models are chosen.
"""

import asyncio
import math
import time
from collections.abc import Callable, MutableMapping
from typing import Final

import msgspec

from gateway.cache.keys import session_key
from gateway.core.context import CacheOutcome, Decision, Reason, RequestContext, Usage
from gateway.core.session import MAX_TURNS, Held, HitShares, Recall, Session
from gateway.settings.routes import SessionSettings
from gateway.stores.store import Store, StoreUnavailableError

CountFailure = Callable[[], None]
Learned = MutableMapping[str, dict[str, HitShares]]
"""How well each model's cache does, by route: every route has its own prompts."""

PREFIX: Final = "session:"
MAX_WRITES: Final = 1_000
"""Writes under way in one process; more would only pile up behind a store that is slower than its clients."""
MAX_HELD: Final = 8
"""Models remembered for one conversation, the latest: more than anybody's ladder."""
GENEROSITY: Final = 2
"""Estimates may be off by this factor: only a prompt too short even then is surely in no cache."""
WEIGHT: Final = 0.2
"""Of the newest report: a cache that never hits loses half its credit in 3 turns, nine tenths in 10."""

_decoder = msgspec.msgpack.Decoder(Session)


class Sessions:
    """Recall conversations, remember them; count every failing-open."""

    def __init__(
        self,
        store: Store,
        learned: Learned,
        count_failure: CountFailure,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._learned = learned
        self._count_failure = count_failure
        self._wall_clock = wall_clock
        self._writes: set[asyncio.Task[None]] = set()

    def must_ask(self, ctx: RequestContext, settings: SessionSettings) -> bool:
        """Tell whether recalling a request's conversation means to ask the store: it may continue a stored one."""
        is_long = ctx.prompt_tokens * GENEROSITY >= settings.min_tokens
        return is_long and any(turn.role == "assistant" for turn in ctx.asked.conversation.turns)

    async def recall(self, ctx: RequestContext, settings: SessionSettings) -> Recall:
        """Return a request as a turn of its conversation. One without an answer in it continues none."""
        conversation, route = ctx.asked.conversation, ctx.asked_ladder.name
        key = session_key(
            route=route,
            tenant=ctx.caller.tenant if ctx.caller else "",
            session=ctx.wishes.session,
            conversation=conversation,
        )
        return Recall(
            session=await self._find(key) if self.must_ask(ctx, settings) else Session(key),
            now_s=self._wall_clock(),
            lengths=tuple(len(turn.text) for turn in conversation.turns[:MAX_TURNS]),
            estimated_tokens=ctx.prompt_tokens,
            max_tokens=ctx.asked.max_tokens,
            ttl_s=settings.cache_ttl_s,
            min_tokens=settings.min_tokens,
            shares=self._learned.get(route, {}),
        )

    def remember(self, ctx: RequestContext) -> None:
        """Take down an answer that an upstream gave in full. Synchronous, as accounting is; a task writes it."""
        recall, usage, model = ctx.recall, ctx.usage, ctx.model
        if recall is None or usage is None or model is None or ctx.outcome != "ok":
            return
        if ctx.cache_outcome is CacheOutcome.HIT:
            return
        if ctx.is_own_call and not usage.is_estimated:
            shares = self._learned.setdefault(ctx.asked_ladder.name, {})
            shares[model] = learn(shares.get(model, HitShares()), recall, model, usage)
        if usage.prompt_tokens + usage.completion_tokens >= recall.min_tokens:
            self._write(continue_session(recall, model, usage, ctx.decided), math.ceil(recall.ttl_s))

    async def _find(self, key: str) -> Session:
        try:
            found = await self._store.get(PREFIX + key)
        except StoreUnavailableError:
            self._count_failure()
            return Session(key)
        session = _decode(found) if found else None
        if session is None or session.key != key or session.model not in session.held:
            return Session(key)
        return session

    def _write(self, session: Session, ttl_s: int) -> None:
        if len(self._writes) >= MAX_WRITES:
            self._count_failure()
            return
        task = asyncio.create_task(self._keep(session, ttl_s))
        self._writes.add(task)
        task.add_done_callback(self._writes.discard)

    async def _keep(self, session: Session, ttl_s: int) -> None:
        try:
            await self._store.set(PREFIX + session.key, msgspec.msgpack.encode(session), ttl_s)
        except StoreUnavailableError:
            self._count_failure()

    async def close(self) -> None:
        """Wait for what is being written."""
        await asyncio.gather(*self._writes)


def _decode(value: bytes) -> Session | None:
    try:
        return _decoder.decode(value)
    except msgspec.DecodeError:
        return None


def continue_session(recall: Recall, model: str, usage: Usage, decision: Decision) -> Session:
    """Return the conversation with a turn more. Rent adds up while it stays where the policy would not have it."""
    past = recall.session
    others = [(name, held) for name, held in past.held.items() if name != model and recall.is_live(held)]
    latest = sorted(others, key=lambda other: other[1].at_s, reverse=True)[: MAX_HELD - 1]
    newest = Held(recall.now_s, recall.estimated_tokens, usage.prompt_tokens, usage.completion_tokens, recall.lengths)
    is_kept = decision.reason is Reason.SESSION and decision.model == model
    return Session(
        key=past.key,
        model=model,
        rent_usd=past.rent_usd + decision.rent_usd if is_kept else 0.0,
        held={model: newest, **dict(latest)},
    )


def learn(shares: HitShares, recall: Recall, model: str, usage: Usage) -> HitShares:
    """Return how well a model's cache does, one report later.

    Nothing can be learned from a prompt too short to be cached, or from a cache that may have died of age.
    """
    if usage.prompt_tokens < recall.min_tokens:
        return shares
    if model not in recall.session.held:
        return HitShares(shares.warm, _mix(shares.cold, usage.cached_tokens / usage.prompt_tokens))
    expected_tokens = min(recall.count_prefix(model), usage.prompt_tokens)
    if not expected_tokens:
        return shares
    return HitShares(_mix(shares.warm, min(1.0, usage.cached_tokens / expected_tokens)), shares.cold)


def _mix(before: float, reported: float) -> float:
    return before + WEIGHT * (reported - before)
