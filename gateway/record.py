"""What is done with a request once it has ended, and with a mark that comes after it. Nobody waits for the first.

Each part fails open by itself: an answer that was given stays given, whatever becomes of its account.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from gateway.accounting.feedback import Answered, AnswerMemory, Marked
from gateway.classify.shadow import BlockingJudge, Shadows
from gateway.core.clock import Stage
from gateway.core.context import RequestContext
from gateway.core.errors import forget_frames, internal_error
from gateway.core.judgement import Judgement
from gateway.routing.routes import RouteTable
from gateway.telemetry.logs import log_failure
from gateway.telemetry.router_watch import RouterMetrics, RouterWatch

_CLASSIFY: Final = Stage.CLASSIFY

Record = Callable[[RequestContext], None]
WatchOf = Callable[[str], RouterWatch | None]
"""The watch over a router, by its name in the configuration."""


@dataclass(frozen=True, slots=True)
class Recorder:
    """The account of requests: its parts by the names under which their failing open is counted."""

    parts: Mapping[str, Record]
    count_fail_open: Callable[[str], None]

    def record(self, finished: Iterable[RequestContext]) -> None:
        """Take down finished requests."""
        for name, record in self.parts.items():
            for ctx in finished:
                try:
                    record(ctx)
                except Exception as exc:  # noqa: BLE001 - fails open: an answer that was given stays given
                    self.count_fail_open(name)
                    log_failure(internal_error(exc), request_id=ctx.request_id)


class Tray:
    """Requests that ended in one turn of the event loop, to be taken down together: core/step.py says why.

    What the next request may ask for is taken down at once: where the conversation was held, which answer is marked.
    """

    def __init__(self, at_once: Recorder, together: Recorder) -> None:
        self._at_once = at_once
        self._together = together
        self._finished: list[RequestContext] = []

    def put(self, ctx: RequestContext) -> None:
        """Take a finished request. Synchronous: it also runs while a request is being cancelled."""
        self._at_once.record((ctx,))
        if not self._finished:
            asyncio.get_running_loop().call_soon(self._empty)
        self._finished.append(ctx)

    def _empty(self) -> None:
        finished, self._finished = self._finished, []
        self._together.record(finished)
        for ctx in finished:
            if ctx.failure is not None:
                forget_frames(ctx.failure)
                ctx.failure = None


@dataclass(frozen=True, slots=True)
class RouterRecord:
    """What routers judge: counted, watched for drift, and shown to the shadows."""

    routes: RouteTable
    judges: Mapping[str, BlockingJudge]
    watch_of: WatchOf
    metrics: RouterMetrics
    shadows: Shadows

    def record(self, ctx: RequestContext) -> None:
        """Take down one finished request; one that no router judged anew says nothing: a cached answer's is older."""
        if ctx.router is None or ctx.decision is None or _CLASSIFY not in ctx.stopwatch.durations_s:
            return
        route = self.routes.resolve(ctx.asked.model, ctx.operation)
        name, threshold = route.ladder.name, ctx.decision.threshold
        side = side_of(ctx.judgement, threshold)
        self.metrics.count_judged(name, ctx.router, route.mode_of(ctx.router), side)
        self.watch(ctx.router, ctx.judgement)
        for shadow in route.trials.shadows if route.trials else ():
            asked = _ShadowAsked(self, name, shadow, threshold, side)
            if not self.shadows.offer(shadow, self.judges[shadow], ctx.asked.conversation, asked.tell):
                self.metrics.count_dropped(shadow)

    def watch(self, router: str, judgement: Judgement | None) -> None:
        """Watch a judgement of live traffic for drift."""
        watch = self.watch_of(router)
        if watch is not None and judgement is not None:
            watch.observe(judgement)


@dataclass(frozen=True, slots=True)
class _ShadowAsked:
    """A shadow that was asked what it would have decided, and what was."""

    record: RouterRecord
    route: str
    shadow: str
    threshold: float | None
    decided: str | None

    def tell(self, judgement: Judgement | None, seconds: float) -> None:
        metrics = self.record.metrics
        metrics.observe_shadow(self.shadow, seconds)
        metrics.count_shadow(self.route, self.shadow, side_of(judgement, self.threshold), self.decided)
        self.record.watch(self.shadow, judgement)


def side_of(judgement: Judgement | None, threshold: float | None) -> str | None:
    """Return the side of the threshold that a judgement is on; None where there is one of the two only."""
    if judgement is None or threshold is None:
        return None
    return "strong" if judgement.score >= threshold else "weak"


@dataclass(frozen=True, slots=True)
class AnswerRecord:
    """What is remembered of answers, so that they can be marked."""

    answers: AnswerMemory
    watch_of: WatchOf

    def record(self, ctx: RequestContext) -> None:
        """Remember an answer that was given whole."""
        if ctx.model is not None and ctx.outcome == "ok":
            self.answers.remember(self._answered(ctx, ctx.model))

    def _answered(self, ctx: RequestContext, model: str) -> Answered:
        watch = None if ctx.router is None else self.watch_of(ctx.router)
        return Answered(
            tenant=ctx.caller.tenant if ctx.caller else "",
            request_id=ctx.request_id,
            route=ctx.asked_ladder.name,
            model=model,
            tier=ctx.tier,
            router=ctx.router,
            version=watch.version if watch else "",
            chance=chance_of(ctx, model),
        )


def chance_of(ctx: RequestContext, model: str) -> float | None:
    """Return the chance that this model's answer is good, as the router had it; None where it has no such heads."""
    ladder = ctx.asked_ladder
    rank = ladder.rank(model)
    if ctx.judgement is None or not 0 <= rank < len(ladder.abilities):
        return None
    return ctx.judgement.chance(ladder.abilities[rank])


@dataclass(frozen=True, slots=True)
class Feedback:
    """Takes marks of answers."""

    answers: AnswerMemory
    metrics: RouterMetrics
    watch_of: WatchOf
    log_mark: Callable[[str, str, float], None] | None = None

    async def take(self, tenant: str, request_id: str, mark: float) -> Marked:
        """Take a mark, 0 to 1. An answer counts in metrics by its first mark: a counter takes nothing back.

        Raises NotFoundError and FeedbackUnavailableError.
        """
        marked = await self.answers.mark(tenant, request_id, mark)
        if marked.previous is None:
            self._count(marked.answered, mark)
        if self.log_mark is not None:
            self.log_mark(tenant, request_id, mark)
        return marked

    def _count(self, answered: Answered, mark: float) -> None:
        self.metrics.count_mark(answered.route, answered.model, answered.tier, mark)
        watch = None if answered.router is None else self.watch_of(answered.router)
        if watch is None or watch.version != answered.version or answered.tier is None or answered.chance is None:
            return
        watch.mark(answered.tier, answered.chance, mark)

    async def close(self) -> None:
        """Store what has not been stored."""
        await self.answers.close()
