"""THE WALK: how one request goes through the gateway. Whoever reads `walk` and `_stages` has read the architecture.

Each verb below is one stage, and each stage owns one room of the house; they meet only here. The pipeline knows
neither HTTP nor Redis nor any model: what it is built of is handed to it by `app.py`.
"""

import asyncio
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from gateway.accounting.feedback import Marked
from gateway.accounting.price import add_charge, bill_of, charge_for
from gateway.accounting.usage import UsageTap, usage_of, usage_of_body
from gateway.auth.keys import KeyRing
from gateway.backends.cascade import Errand, Escalation, open_reply
from gateway.backends.resilience import Dispatcher, Plan
from gateway.cache.control import parse_cache_control
from gateway.cache.exact import Entry, ExactCache, replay, serves
from gateway.cache.flights import Flights
from gateway.cache.keys import cache_key
from gateway.cache.sessions import Sessions
from gateway.core.client import Asker, Client
from gateway.core.clock import Stage
from gateway.core.context import Bill, CacheOutcome, Charge, Decision, Phase, Reason, RequestContext
from gateway.core.deadlines import Wheel
from gateway.core.errors import PosternError, UpstreamTimeoutError, internal_error
from gateway.core.judges import Detector, Judge
from gateway.core.reply import Reply, Spent, is_here, pour_of, read_all
from gateway.core.step import IN_STEP
from gateway.core.tokens import estimate_prompt_tokens
from gateway.limits.in_flight import InFlight
from gateway.routing.bars import Bars
from gateway.routing.candidates import can_serve, find_candidates
from gateway.routing.escalation import find_escalation
from gateway.routing.policies import Facts, forced_choice, settle_choice
from gateway.routing.routes import Route, RouteTable
from gateway.schema.request import Operation
from gateway.settings.models import ModelSettings

CLASSIFY_STAGE = "classify"
CASCADE_STAGE = "cascade"

# At hand, as to ask an enum for a member takes 0.13 µs (until Python 3.12), and a walk would ask thirty times.
_AUTH, _LIMITS, _CACHE, _CLASSIFY, _UPSTREAM, _GATEWAY = Stage
_, _AT_LOOKUP, _AT_CLASSIFY, _AT_UPSTREAM, _AT_RELAY = Phase
_HIT, _SHARED, _MISS, _BYPASS = CacheOutcome
_CHAT, _FROM_CACHE = Operation.CHAT, Reason.CACHE


class Feedback(Protocol):
    """Takes marks of answers that have been given."""

    async def take(self, tenant: str, request_id: str, mark: float) -> Marked:
        """Take a mark, 0 to 1. Raises NotFoundError and FeedbackUnavailableError."""
        ...

    async def close(self) -> None:
        """Let go; no mark will come any more."""
        ...


@dataclass(frozen=True, slots=True)
class Parts:
    """What a pipeline is built of."""

    models: Mapping[str, ModelSettings]
    routes: RouteTable
    keys: KeyRing
    in_flight: InFlight
    classifiers: Mapping[str, Judge]
    detector: Detector
    dispatcher: Dispatcher
    flights: Flights
    cache: ExactCache | None
    sessions: Sessions
    record: Callable[[RequestContext], None]
    count_fail_open: Callable[[str], None]
    feedback: Feedback | None = None
    bars: Bars = field(default_factory=Bars)
    wheel: Wheel = field(default_factory=Wheel)


class Pipeline:
    """The stages, in their order."""

    def __init__(self, parts: Parts) -> None:
        self.parts = parts
        # All that began here. `parts.in_flight` takes a request in only once its whole body has come.
        self._under_way = InFlight(sys.maxsize)

    async def walk(self, ctx: RequestContext, client: Client) -> None:
        """Take one request from its first byte to its account. Raises nothing but CancelledError."""
        with self._under_way.take():
            try:
                await self._stages(ctx, client)
            except PosternError as error:
                await self._fail(ctx, client, error)
            except asyncio.CancelledError:
                ctx.is_cancelled = True
                raise
            except Exception as exc:  # noqa: BLE001 - the edge: whatever it is, the client gets an answer, the log the cause
                await self._fail(ctx, client, internal_error(exc))
            finally:
                self.settle(ctx)

    async def _stages(self, ctx: RequestContext, client: Client) -> None:
        """Go through the stages, in the order in which a request meets them; `settle` is the last, come what may."""
        self.identify(ctx)
        route = await self.receive(ctx, client)
        with self.admit(ctx):
            entry = await self.lookup(ctx, route)
            await self._fall_in_step(ctx)
            await self.recall(ctx, route, entry)
            await self.protect(ctx, route)
            await self.classify(ctx)
            self.choose(ctx, route)
            reply = await self.dispatch(ctx, route, entry)
            await self.relay(ctx, reply, client)

    async def refuse(self, ctx: RequestContext, client: Client, error: PosternError) -> None:
        """Answer a request whose head alone is at fault, and account for it."""
        try:
            await self._fail(ctx, client, error)
        finally:
            self.settle(ctx)

    async def judge(self, ctx: RequestContext, client: Asker) -> Decision:
        """Take the walk only as far as the decision; no model is called. Raises PosternError."""
        with self._under_way.take():
            self.identify(ctx)
            route = await self.receive(ctx, client)
            await self.recall(ctx, route)
            await self.protect(ctx, route, wants_all=True)
            await self.classify(ctx)
            self.choose(ctx, route)
            return ctx.decided

    def identify(self, ctx: RequestContext) -> None:
        """Find out who is calling."""
        ctx.caller = self.parts.keys.identify(ctx.wishes)
        ctx.stopwatch.lap(_AUTH)

    async def receive(self, ctx: RequestContext, client: Asker) -> Route:
        """Read the request and find the route it names."""
        ctx.request = await client.receive(ctx)
        route = self.parts.routes.resolve(ctx.request.model, ctx.operation)
        ctx.ladder, ctx.router = route.ladder, route.pick_router(ctx)
        ctx.prompt_tokens = estimate_prompt_tokens(ctx.request.conversation)
        ctx.stopwatch.lap(_GATEWAY, "receive")
        return route

    def admit(self, ctx: RequestContext) -> InFlight:
        """Let the request in, if there is room, until the context is left."""
        place = self.parts.in_flight.take()
        ctx.stopwatch.lap(_LIMITS)
        return place

    async def lookup(self, ctx: RequestContext, route: Route) -> Entry | None:
        """Find an answer given before, and with it the judgement it was given under."""
        ctx.phase = _AT_LOOKUP
        control = parse_cache_control(ctx.wishes.cache_control)
        if self.parts.cache is None or not control.may_store:
            return None
        ctx.cache_key = self._key(ctx, route)
        if not control.may_read:
            return None
        finding, session = self.parts.cache.find(ctx.cache_key, control.max_age_s), route.session
        if session is not None and ctx.operation is _CHAT and self.parts.sessions.must_ask(ctx, session):
            # Both at once, so that a store elsewhere is waited for once.
            entry, recall = await asyncio.gather(finding, self.parts.sessions.recall(ctx, session))
            ctx.recall = recall if entry is None else None
        else:
            entry = await finding
        if entry is not None:
            ctx.judgement = entry.judgement
        ctx.cache_outcome = _MISS
        ctx.stopwatch.lap(_CACHE)
        return entry

    async def recall(self, ctx: RequestContext, route: Route, entry: Entry | None = None) -> None:
        """Recall the conversation. An answer found costs nothing: whoever has one need not know where it was held."""
        if route.session is None or entry is not None or ctx.recall is not None or ctx.operation is not _CHAT:
            return
        ctx.recall = await self.parts.sessions.recall(ctx, route.session)
        ctx.stopwatch.lap(_CACHE, "recall")

    async def protect(self, ctx: RequestContext, route: Route, *, wants_all: bool = False) -> None:
        """On a private route, look for personal data. Fails closed: what can't be read is personal."""
        if not route.is_private:
            return
        ctx.personal = await self.parts.detector.find_kinds(ctx.asked, ctx.request_id, wants_all=wants_all)
        ctx.stopwatch.lap(_GATEWAY, "protect")

    async def classify(self, ctx: RequestContext) -> None:
        """Judge how hard the request is. Fails open: without a judgement the policy goes to the strong side."""
        if ctx.router is None or ctx.wishes.tier is not None or ctx.judgement is not None:
            return
        ctx.phase = _AT_CLASSIFY
        tenant = ctx.caller.tenant if ctx.caller else None
        ctx.judgement = await self.parts.classifiers[ctx.router].judge(ctx.asked.conversation, tenant)
        if ctx.judgement is None:
            self.parts.count_fail_open(CLASSIFY_STAGE)
        ctx.stopwatch.lap(_CLASSIFY)
        await self._fall_in_step(ctx)

    def choose(self, ctx: RequestContext, route: Route) -> None:
        """Choose the model: candidates first, then the policy among them."""
        candidates = find_candidates(
            route.ladder, self.parts.models, ctx.asked, ctx.prompt_tokens, only_local=bool(ctx.personal)
        )
        facts = Facts(ctx.judgement, ctx.wishes, candidates, ctx.recall, ctx.router)
        choice = route.policy.choose(route.ladder, facts)
        if ctx.wishes.tier is not None and not route.ladder.is_pinned:
            choice = forced_choice(route.ladder, ctx.wishes.tier, choice.threshold)
        choice = settle_choice(choice, candidates)
        escalation = find_escalation(route.cascade, choice, candidates, ctx, self.parts.models)
        ctx.decision = Decision(
            choice.model, choice.reason, choice.threshold, candidates, escalation=escalation, rent_usd=choice.rent_usd
        )
        ctx.reason = choice.reason
        ctx.stopwatch.lap(_GATEWAY, "choose")

    async def dispatch(self, ctx: RequestContext, route: Route, entry: Entry | None) -> Reply:
        """Get an answer: the stored one if it is good enough, else from an upstream, shared where that is allowed."""
        ctx.phase = _AT_UPSTREAM
        if entry is not None and serves(entry, ctx):
            ctx.cache_outcome, ctx.reason = _HIT, _FROM_CACHE
            return replay(entry)
        self._observe(ctx, route)
        try:
            reply = await self._ask_upstream(ctx, route)
        except PosternError as error:
            ctx.attempts = error.attempts
            raise
        ctx.attempts, ctx.verdict = reply.attempts, reply.verdict
        if reply.verdict is not None:
            ctx.charge = reply.verdict.charge
        if reply.is_fallback:
            ctx.reason = Reason.FALLBACK
        elif reply.verdict is not None and not reply.verdict.has_passed:
            ctx.reason = Reason.ESCALATED
        return reply

    async def relay(self, ctx: RequestContext, reply: Reply, client: Client) -> None:
        """Pass the answer on and count what passes."""
        ctx.model = reply.model
        ctx.stopwatch.lap(_UPSTREAM)
        ctx.phase = _AT_RELAY
        try:
            if is_here(reply.blocks) and not reply.is_streaming and client.is_taking:
                await self._relay_whole(ctx, reply, client)  # waits for nobody: a deadline costs 4 µs
            else:
                await self._relay_in_time(ctx, reply, client)
        except TimeoutError as exc:
            raise UpstreamTimeoutError("The answer took longer than its total time-out.") from exc
        finally:
            ctx.pays = reply.claim_bill()
            await reply.close()

    def settle(self, ctx: RequestContext) -> None:
        """Account for the request. Synchronous: it also runs while a request is being cancelled."""
        ctx.stopwatch.stop()
        if ctx.usage is not None and ctx.model is not None:
            if ctx.bill is None or ctx.pays is not ctx.is_own_call:  # else it stands as it was told to the client
                ctx.bill = bill_of(ctx, ctx.usage, self.parts.models, pays=ctx.pays)
        elif ctx.charge is not None and ctx.pays:
            ctx.bill = add_charge(Bill(), ctx.charge)
        self.parts.record(ctx)

    @staticmethod
    async def _fall_in_step(ctx: RequestContext) -> None:
        """Let the others of this turn catch up; whose time that is, is not this request's."""
        ctx.stopwatch.lap(_GATEWAY)
        await IN_STEP
        ctx.stopwatch.skip()

    def _observe(self, ctx: RequestContext, route: Route) -> None:
        """Tell who holds the share of a decision that its threshold took: before the call, as calls take long."""
        if route.held is None or ctx.score is None or ctx.wishes.threshold is not None:
            return
        if ctx.decided.reason is Reason.SCORE and ctx.decided.threshold is not None:
            route.held.tracker(ctx.router).observe(ctx.score, is_strong=ctx.score >= ctx.decided.threshold)

    def _key(self, ctx: RequestContext, route: Route) -> str:
        router = self.parts.classifiers[ctx.router].version if ctx.router else ""
        return cache_key(
            route=route.ladder.name,
            tenant=ctx.caller.tenant if ctx.caller else "",
            operation=ctx.operation,
            router=router,
            fleet=route.fleet,
            fields=ctx.asked.fields,
        )

    async def _ask_upstream(self, ctx: RequestContext, route: Route) -> Reply:
        errand = self._errand(ctx, route)

        async def start() -> Reply:
            return await open_reply(self.parts.dispatcher, errand)

        if ctx.cache_key is None or self.parts.cache is None:
            return await start()
        cache, key, judgement = self.parts.cache, ctx.cache_key, ctx.judgement

        async def finish(reply: Reply, body: bytes) -> None:
            # `no-cache` and `max-age` read past what is stored: a weaker answer must not take a stronger one's place.
            if not ctx.wishes.cache_control or not await cache.holds_stronger(key, route.ladder, reply.model):
                reply.usage = None if reply.answer is None else usage_of(reply.answer)
                await cache.keep(key, reply, judgement, body)

        is_alone = ctx.cache_outcome is _BYPASS
        decided = ctx.decided
        flight = f"{key}:{decided.model}:{decided.escalation}"
        reply, is_shared = await self.parts.flights.ride(flight, start, finish, alone=is_alone)
        if is_shared:
            ctx.cache_outcome, ctx.reason = _SHARED, _FROM_CACHE
        return reply

    def _errand(self, ctx: RequestContext, route: Route) -> Errand:
        """Return whom to ask, and, on a cascade, whom to ask if the chosen model is unsure."""
        chosen, stronger = ctx.decided.model, ctx.decided.escalation
        errand = Errand(ctx.asked, ctx.request_id, self._plan(ctx, route, chosen), route.max_attempts, None, ctx.trace)
        if stronger is None or route.cascade is None:
            return errand

        def charge(spent: Spent) -> Charge:
            # At once, not only in the reply: whoever leaves while the stronger model is asked has used these tokens.
            ctx.charge = charge_for(spent, ctx.prompt_tokens, self.parts.models)
            return ctx.charge

        def count() -> None:
            self.parts.count_fail_open(CASCADE_STAGE)

        rule, name = route.cascade, route.ladder.name

        def clears(confidence: float) -> bool:
            return self.parts.bars.clears(name, chosen, rule, confidence)

        return errand.with_escalation(Escalation(self._plan(ctx, route, stronger), rule, clears, charge, count))

    def _plan(self, ctx: RequestContext, route: Route, chosen: str) -> Sequence[str]:
        """Return the chosen model, then the fallbacks that can serve."""

        def find_fallbacks() -> list[str]:
            models, request, tokens, is_private = self.parts.models, ctx.asked, ctx.prompt_tokens, bool(ctx.personal)
            others = [name for name in route.fallback if name != chosen]
            return [name for name in others if can_serve(models[name], request, tokens, only_local=is_private)]

        return Plan(chosen, find_fallbacks)

    async def _relay_in_time(self, ctx: RequestContext, reply: Reply, client: Client) -> None:
        relay_reply = self._relay_stream if reply.is_streaming else self._relay_whole
        # A client that reads too slowly, or not at all, must not hold an upstream longer than its total time-out.
        with self.parts.wheel.within(self.parts.models[reply.model].timeouts.total_s):
            await relay_reply(ctx, reply, client)

    async def _relay_whole(self, ctx: RequestContext, reply: Reply, client: Client) -> None:
        body = await read_all(reply.blocks)
        ctx.first_token_s = ctx.last_token_s = ctx.stopwatch.elapsed_s()
        ctx.usage = reply.usage or usage_of_body(body, ctx.prompt_tokens, reply.answer)
        ctx.bill = bill_of(ctx, ctx.usage, self.parts.models, pays=ctx.is_own_call)
        await client.answer(ctx, body)

    async def _relay_stream(self, ctx: RequestContext, reply: Reply, client: Client) -> None:
        tap = UsageTap(
            is_wanted=ctx.asked.wants_usage,
            cost_of=lambda usage: bill_of(ctx, usage, self.parts.models, pays=ctx.is_own_call).cost_usd,
        )
        pour = pour_of(reply.blocks)
        await client.begin(ctx)
        ctx.first_token_s = ctx.stopwatch.elapsed_s()
        try:
            async for block in reply.blocks:
                await client.send(tap.pass_on(block))
                if pour is not None:
                    await pour(lambda block: client.offer(tap.pass_on(block)))
        finally:
            ctx.last_token_s = ctx.stopwatch.elapsed_s()
            ctx.usage = tap.usage_or_estimate(ctx.prompt_tokens)
        await client.end()

    async def wait_ended(self) -> None:
        """Return once every request that began here has ended, those still sending their bodies too."""
        await self._under_way.wait_empty()

    async def close(self) -> None:
        """Let go of upstreams and of what has not been stored; nothing may be in flight any more."""
        await self.parts.flights.close()
        await self.parts.dispatcher.close()
        await IN_STEP  # what ended last is taken down after its turn
        await self.parts.sessions.close()
        if self.parts.feedback is not None:
            await self.parts.feedback.close()

    async def _fail(self, ctx: RequestContext, client: Client, error: PosternError) -> None:
        ctx.failure = error
        await client.fail(ctx, error)
