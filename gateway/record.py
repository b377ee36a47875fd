"""What is done with a request once it has ended, and with a mark that comes after it. Nobody waits for the first.

Each part fails open by itself: an answer that was given stays given, whatever becomes of its account.
"""

from collections.abc import Callable
from dataclasses import dataclass

from gateway.accounting.feedback import Answered, AnswerMemory, Marked
from gateway.core.clock import Stage
from gateway.core.context import RequestContext
from gateway.core.errors import internal_error
from gateway.telemetry.logs import log_failure, log_request
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.router_watch import RouterMetrics, RouterWatch

WatchOf = Callable[[str], RouterWatch | None]
"""The watch over a router, by its name in the configuration."""


@dataclass(frozen=True, slots=True)
class Recorder:
    """The account of one configuration's requests. `answers`: None where feedback is turned off."""

    metrics: Metrics
    watch_of: WatchOf
    answers: AnswerMemory | None
    count_fail_open: Callable[[str], None]

    def record(self, ctx: RequestContext) -> None:
        """Take down one finished request. Synchronous: it also runs while a request is being cancelled."""
        self._safely("metrics", self._measure, ctx)
        if self.answers is not None:
            self._safely("feedback", self._remember, ctx)
        log_request(ctx)

    def _safely(self, part: str, work: Callable[[RequestContext], None], ctx: RequestContext) -> None:
        try:
            work(ctx)
        except Exception as exc:  # noqa: BLE001 - fails open: an answer that was given stays given
            self.count_fail_open(part)
            log_failure(internal_error(exc))

    def _measure(self, ctx: RequestContext) -> None:
        self.metrics.record(ctx)
        watch = None if ctx.router is None else self.watch_of(ctx.router)
        if watch is not None and ctx.judgement is not None and is_judged_anew(ctx):
            watch.observe(ctx.judgement)

    def _remember(self, ctx: RequestContext) -> None:
        if self.answers is not None and ctx.model is not None and ctx.outcome == "ok":
            self.answers.remember(self._answered(ctx, ctx.model))

    def _answered(self, ctx: RequestContext, model: str) -> Answered:
        """Return what of a request its answer's mark will be set against."""
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


@dataclass(frozen=True, slots=True)
class Feedback:
    """Takes marks of answers."""

    answers: AnswerMemory
    router_metrics: RouterMetrics
    watch_of: WatchOf

    async def take(self, tenant: str, request_id: str, mark: float) -> Marked:
        """Take a mark, 0 to 1. An answer counts in metrics by its first mark: a counter takes nothing back.

        Raises NotFoundError and FeedbackUnavailableError.
        """
        marked = await self.answers.mark(tenant, request_id, mark)
        if marked.previous is None:
            self._count(marked.answered, mark)
        return marked

    def _count(self, answered: Answered, mark: float) -> None:
        self.router_metrics.count_mark(answered.route, answered.model, answered.tier, mark)
        watch = None if answered.router is None else self.watch_of(answered.router)
        if watch is None or watch.version != answered.version or answered.tier is None or answered.chance is None:
            return
        watch.mark(answered.tier, answered.chance, mark)

    async def close(self) -> None:
        """Store what has not been stored."""
        await self.answers.close()


def is_judged_anew(ctx: RequestContext) -> bool:
    """Tell whether a router judged this very request: a cached answer brings an older judgement with it."""
    return Stage.CLASSIFY in ctx.stopwatch.durations_s


def chance_of(ctx: RequestContext, model: str) -> float | None:
    """Return the chance that this model's answer is good, as the router had it; None where it has no such heads."""
    ladder = ctx.asked_ladder
    rank = ladder.rank(model)
    if ctx.judgement is None or not 0 <= rank < len(ladder.abilities):
        return None
    return ctx.judgement.chance(ladder.abilities[rank])
