"""The cascade: a weaker model begins, and its first tokens' probabilities decide who goes on, before a byte is sent.

An answer that goes on is passed on from its first byte; one that does not is cancelled, paid for and never seen, and
the next stronger model is asked, once. What fails on the way fails as it does without a cascade: the fallback is asked,
within the same deadline and the same bound on attempts. Sources: FrugalGPT (arXiv 2305.05176) and AutoMix (2310.12963)
for asking the weak model first; docs/adr/0006 for what differs.
"""

import asyncio
import math
from collections.abc import Callable, Sequence

import msgspec

from gateway.backends.backend import Call
from gateway.backends.held import Held
from gateway.backends.resilience import Dispatcher, tell_attempt
from gateway.core.context import Charge, Verdict
from gateway.core.errors import PosternError, UpstreamError, UpstreamRejectionError
from gateway.core.reply import Reply, Spent
from gateway.core.trace import Trace
from gateway.schema.request import Request
from gateway.settings.routes import CascadeSettings


class Escalation(msgspec.Struct, frozen=True):
    """Whom to ask where the first model is unsure: `plan`, a stronger one and its fallbacks.

    `clears` tells from its confidence whether it goes on. `charge` is told at once what was given up, and
    `count_fail_open` that an answer could not be judged and went on.
    """

    plan: Sequence[str]
    rule: CascadeSettings
    clears: Callable[[float], bool]
    charge: Callable[[Spent], Charge]
    count_fail_open: Callable[[], None]


class Errand(msgspec.Struct, frozen=True):
    """One request and whom to ask: `plan`, the chosen model and its fallbacks."""

    request: Request
    request_id: str
    plan: Sequence[str]
    max_attempts: int
    escalation: Escalation | None = None
    trace: Trace | None = None

    def with_escalation(self, escalation: Escalation) -> "Errand":
        """Return the errand as a cascade."""
        return msgspec.structs.replace(self, escalation=escalation)


async def open_reply(dispatcher: Dispatcher, errand: Errand) -> Reply:
    """Return the reply that the client gets. Raises what `Dispatcher.open` raises."""
    if errand.escalation is not None:
        return await _Cascade(dispatcher, errand, errand.escalation).open()
    return await dispatcher.open(
        errand.plan,
        errand.max_attempts,
        lambda deadline_s: Call(errand.request, errand.request_id, deadline_s, errand.trace),
    )


class _Cascade:
    """One request's way. All its calls share the first one's deadline."""

    def __init__(self, dispatcher: Dispatcher, errand: Errand, escalation: Escalation) -> None:
        self._dispatcher = dispatcher
        self._errand = errand
        self._escalation = escalation
        self._is_asked_by_client = any(need.capability == "logprobs" for need in errand.request.needs)
        self._attempts = 0
        self._deadline_s = math.inf

    async def open(self) -> Reply:
        """Ask the chosen model, hold its beginning back, and let it go on or ask the stronger one."""
        try:
            reply = await self._begin()
        except UpstreamError as exc:
            return await self._fall_back(exc)
        if reply.verdict is not None:
            return reply
        held = Held(reply, self._escalation.rule.tokens)
        if self._attempts >= self._errand.max_attempts:
            # Replicas that failed have used them up: a doubt would be in vain.
            return self._let_go(reply, held, None)
        try:
            await held.read(self._escalation.rule.wait_s)
        except UpstreamError as exc:
            # Nobody has seen a byte of it, so it is as if it had failed before the first.
            charge = await self._give_up(held)
            reply = await self._fall_back(exc)
            reply.verdict = Verdict(None, has_passed=False, charge=charge)
            return reply
        except BaseException:
            await self._give_up(held)
            raise
        return await self._decide(reply, held)

    async def _begin(self) -> Reply:
        """Ask the chosen model for its answer with log probabilities; a reply with a verdict is past judging."""
        errand = self._errand
        reserved = len(errand.plan) - 1
        request = errand.request if self._is_asked_by_client else _with_logprobs(errand.request)
        try:
            return await self._open(errand.plan[:1], max(1, errand.max_attempts - reserved), request)
        except UpstreamRejectionError:
            if self._is_asked_by_client:
                raise
        # Perhaps what it refused is what we have added: then the client must not suffer for it.
        reply = await self._open(errand.plan[:1], max(1, self._attempts_left - reserved), errand.request)
        self._escalation.count_fail_open()
        reply.verdict = Verdict(None)
        return reply

    async def _decide(self, reply: Reply, held: Held) -> Reply:
        confidence = held.reading.confidence(self._escalation.rule.quantile)
        if confidence is not None and not self._escalation.clears(confidence):
            charge = await self._give_up(held)
            stronger = await self._open(self._escalation.plan, self._attempts_left, self._errand.request)
            stronger.verdict = Verdict(confidence, has_passed=False, charge=charge)
            return stronger
        return self._let_go(reply, held, confidence)

    def _let_go(self, reply: Reply, held: Held, confidence: float | None) -> Reply:
        if confidence is None:
            self._escalation.count_fail_open()
        reply.blocks = held.release(strips=not self._is_asked_by_client)
        reply.close = held.close
        reply.verdict = Verdict(confidence)
        return reply

    async def _give_up(self, held: Held) -> Charge:
        try:
            return self._escalation.charge(held.spent())
        finally:
            await held.close()

    async def _fall_back(self, failure: UpstreamError) -> Reply:
        """Ask the fallback of a model that failed before anything of it was seen; without one, raise its failure."""
        rest, is_late = self._errand.plan[1:], asyncio.get_running_loop().time() >= self._deadline_s
        failure.attempts = self._attempts
        if not rest or is_late or self._attempts >= self._errand.max_attempts:
            raise failure
        tell_attempt(self._errand.request_id, self._errand.plan[0], failure)
        reply = await self._open(rest, self._attempts_left, self._errand.request)
        reply.is_fallback = True
        return reply

    @property
    def _attempts_left(self) -> int:
        return max(1, self._errand.max_attempts - self._attempts)

    async def _open(self, plan: Sequence[str], max_attempts: int, request: Request) -> Reply:
        def call_of(deadline_s: float) -> Call:
            self._deadline_s = min(self._deadline_s, deadline_s)
            return Call(request, self._errand.request_id, self._deadline_s, self._errand.trace)

        try:
            reply = await self._dispatcher.open(plan, max_attempts, call_of)
        except PosternError as exc:
            self._attempts += exc.attempts
            exc.attempts = self._attempts
            raise
        self._attempts += reply.attempts
        reply.attempts = self._attempts
        return reply


def _with_logprobs(request: Request) -> Request:
    return msgspec.structs.replace(request, fields={**request.fields, "logprobs": msgspec.Raw(b"true")})
