"""Explain a decision without calling a model: `POST /v1/route` and `postern explain`."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import msgspec
from litestar import Response, post
from litestar.handlers import HTTPRouteHandler

from gateway.accounting.price import cost_usd
from gateway.api.asgi import Receive
from gateway.api.body import decode_body, read_body
from gateway.api.cold import AnyRequest, json_response, request_id
from gateway.api.headers import read_headers, request_id_of, wishes_of
from gateway.api.live import Live
from gateway.core.client import Asker
from gateway.core.context import Ladder, RequestContext, Usage
from gateway.core.judgement import Judgement
from gateway.pipeline import Pipeline
from gateway.schema.request import Operation, Request
from gateway.settings.models import ModelSettings

ASSUMED_COMPLETION_TOKENS = 256
"""For the estimate of a cost when neither the request sets a bound nor the router expects a length."""


class CandidateExplanation(msgspec.Struct, frozen=True):
    """One model of the ladder: whether it can serve, what about it would cost, its chance of a good answer.

    `chance` is null where the router has no heads for it. `lacks`: the request's field that it is not capable of.
    """

    model: str
    tier: str
    can_serve: bool
    dropped: str | None
    estimated_cost_usd: float
    chance: float | None = None
    lacks: str | None = None


class Explanation(msgspec.Struct, frozen=True):
    """The decision and everything it rests on. Costs assume `completion_tokens` in the answer.

    `escalation`: on a cascade, the model that is asked where the chosen one begins unsure; null where nobody judges it.
    `strong_share`: the share that the threshold moves to hold; null where it stands.
    `personal`: on a private route, the kinds of personal data that were found, never what or where.
    """

    route: str
    model: str
    tier: str
    reason: str
    score: float | None
    threshold: float | None
    router: str | None
    prompt_tokens: int
    completion_tokens: int
    candidates: list[CandidateExplanation]
    escalation: str | None = None
    personal: list[str] = []
    domain: str | None = None
    strong_share: float | None = None


async def explain(pipeline: Pipeline, ctx: RequestContext, client: Asker) -> Explanation:
    """Walk to the decision and tell it. Raises PosternError."""
    decision = await pipeline.judge(ctx, client)
    ladder, models = ctx.asked_ladder, pipeline.parts.models
    judgement = ctx.judgement
    held = pipeline.parts.routes.resolve(ctx.asked.model, ctx.operation).held
    completion_tokens = _expect_tokens(judgement, ctx.asked.max_tokens)
    usage = Usage(ctx.prompt_tokens, completion_tokens, is_estimated=True)
    return Explanation(
        route=ladder.name,
        model=decision.model,
        tier=ladder.tier(decision.model),
        reason=decision.reason,
        score=ctx.score,
        threshold=decision.threshold,
        router=ctx.router,
        prompt_tokens=ctx.prompt_tokens,
        completion_tokens=completion_tokens,
        candidates=[
            CandidateExplanation(
                candidate.model,
                ladder.tier(candidate.model),
                candidate.dropped is None,
                candidate.dropped,
                _cost(models, candidate.model, usage),
                _chance(judgement, ladder, candidate.model),
                candidate.lacks,
            )
            for candidate in decision.candidates
        ],
        escalation=decision.escalation,
        personal=sorted(ctx.personal),
        domain=judgement.domain if judgement else None,
        strong_share=held.target if held else None,
    )


def _expect_tokens(judgement: Judgement | None, max_tokens: int) -> int:
    """Return how long the answer is taken to be: as the router expects, within the request's own bound."""
    expected = judgement.output_tokens if judgement else None
    if expected is None:
        return max_tokens or ASSUMED_COMPLETION_TOKENS
    return min(expected, max_tokens or expected)


def _chance(judgement: Judgement | None, ladder: Ladder, model: str) -> float | None:
    if judgement is None or not ladder.abilities:
        return None
    chance = judgement.chance(ladder.abilities[ladder.rank(model)])
    return None if chance is None else round(chance, 4)


def _cost(models: Mapping[str, ModelSettings], model: str, usage: Usage) -> float:
    return round(cost_usd(usage, models[model].price), 9)


@dataclass(frozen=True, slots=True)
class _Asker:
    """Whoever asks over ASGI."""

    live: Live
    headers: Mapping[str, str]
    receive_message: Receive

    async def receive(self, ctx: RequestContext) -> Request:
        settings = self.live.settings
        bounds = (settings.limits.max_body_bytes, settings.server.body_timeout_s)
        body = await read_body(self.receive_message, self.headers, *bounds)
        ctx.stopwatch.skip()
        return decode_body(ctx.operation, body)


def route_handlers(live: Live) -> list[HTTPRouteHandler]:
    """Return the handler of `/v1/route`, which takes the body of a chat completion."""

    @post("/v1/route")
    async def explain_route(request: AnyRequest) -> Response[bytes]:
        headers = read_headers(request.scope["headers"])
        ctx = RequestContext(Operation.CHAT, request_id(request) or request_id_of(headers), wishes_of(headers))
        explanation = await explain(live.pipeline, ctx, _Asker(live, headers, cast("Receive", request.receive)))
        return json_response(msgspec.json.encode(explanation))

    return [explain_route]
