"""The `routes` section: the names clients ask for, and how each is served."""

from enum import StrEnum
from typing import Annotated

import msgspec
from msgspec import Meta

Share = Annotated[float, Meta(ge=0, le=1)]
Seconds = Annotated[float, Meta(gt=0, le=86_400)]


class PolicyKind(StrEnum):
    """How a route chooses among its candidates."""

    COMPLEXITY = "complexity"
    PINNED = "pinned"
    DOMAIN = "domain"
    PRIVATE = "private"
    SESSION = "session"
    CASCADE = "cascade"


class CascadeSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """When a weaker model's answer goes on: its first tokens' log probabilities decide before any byte is sent."""

    tokens: Annotated[
        int,
        Meta(
            ge=1,
            le=256,
            description="Tokens of the beginning that are held back and judged. Default 16: a sentence's first half, "
            "0.2 s of a small model.",
        ),
    ] = 16
    quantile: Annotated[
        Share,
        Meta(
            description="Which of their probabilities is the confidence: 0 the lowest, 0.5 the median. Default 0.2: "
            "of 16 tokens the fourth lowest, so three may be a matter of wording."
        ),
    ] = 0.2
    min_confidence: Annotated[
        Share,
        Meta(
            description="Confidence below which the next stronger model is asked. Default 0.3, a place to start from: "
            "models differ, so set it by `postern_cascade_confidence`."
        ),
    ] = 0.3
    escalate_share: Annotated[
        Share | None,
        Meta(
            description="Share of the judged answers that are given up, the least sure ones, held on live traffic. "
            "null: `min_confidence` stands as it is."
        ),
    ] = None
    band: Annotated[
        Share,
        Meta(
            description="Share of the range below the threshold, from its top, in which answers are judged. "
            "Default 1: all of it. 0.5 at a threshold of 0.3: scores from 0.15; below it nothing is held back."
        ),
    ] = 1.0
    wait_s: Annotated[
        float,
        Meta(
            gt=0,
            le=60,
            description="Seconds for which a stream that has begun is held back at most. Default 2: a model that "
            "takes longer for 16 tokens is judged by those that came.",
        ),
    ] = 2.0


class TrialSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A router beside the route's own: it decides for a share of the conversations, or only judges along."""

    share: Annotated[
        Share,
        Meta(description="Share of the conversations it decides for, 0 to 1; each stays with one router. Default 0."),
    ] = 0.0
    shadow: Annotated[
        bool,
        Meta(description="Judge what other routers decide, behind the answer, for the metrics only. Default false."),
    ] = False


class SessionSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """When a conversation keeps its model for the sake of the upstream's prompt cache. Prices are the models' own."""

    cache_ttl_s: Annotated[
        Seconds,
        Meta(
            description="Seconds an upstream keeps a prompt cache that nobody reads. Default 300: providers tell 5 to "
            "10 minutes."
        ),
    ] = 300.0
    min_tokens: Annotated[
        int,
        Meta(
            ge=1,
            description="Prompt tokens under which upstreams cache nothing. Default 1024: what providers tell. With "
            "less, nothing is remembered.",
        ),
    ] = 1024
    margin: Annotated[
        Share,
        Meta(
            description="How far the score may lie over the cut while a weaker model keeps the conversation. Default "
            "0.02: less than a score can tell. 0: a weaker model is never kept."
        ),
    ] = 0.02


class PolicySettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`complexity`: `score >= threshold` goes to the strongest model. `pinned`: always `model`.

    All other kinds rule before or beside one of these two, complexity unless `pinned` is named, which decides in the
    end: `[private, domain]` is `[private, domain, complexity]`. `private`: personal data goes to `local` models only.
    """

    kind: Annotated[
        PolicyKind | tuple[PolicyKind, ...],
        Meta(
            description="How to choose: one kind, or a list of kinds that combine. "
            "Default complexity: what the gateway is for."
        ),
    ] = PolicyKind.COMPLEXITY
    threshold: Annotated[
        Share,
        Meta(
            description="Win rate from which the strongest model serves, 0 to 1. Default 0.3: with the router that "
            "ships, of the demo's prompts all hard ones and a fifth of the easy are strong; nothing at 0.5. "
            "Fixed thresholds don't travel: `postern calibrate`, or strong_share."
        ),
    ] = 0.3
    router: Annotated[str, Meta(description="The router model that scores prompts. Default: the one that ships.")] = (
        "default"
    )
    routers: Annotated[
        dict[str, TrialSettings],
        Meta(
            description="Routers beside it, by name: `{new: {share: 0.1}}` or `{new: {shadow: true}}`. Default none. "
            "What no share takes is left to `router`."
        ),
    ] = {}
    model: Annotated[
        str | None, Meta(description="`pinned` only: the model, one of the route's. null: for every other kind.")
    ] = None
    cascade: Annotated[
        CascadeSettings, Meta(description="`cascade` only: when a weaker model's answer goes on. Default: as below.")
    ] = CascadeSettings()
    strong_share: Annotated[
        Share | None,
        Meta(
            description="The share of requests that go to the strongest model, held on live traffic: the threshold "
            "moves. It is that of the requests which the score decides: others, and cache hits, don't count. "
            "null: `threshold` stands as it is."
        ),
    ] = None
    session: Annotated[
        SessionSettings,
        Meta(description="`session` only: when a conversation keeps its model. Default: 5 minutes, a margin of 0.02."),
    ] = SessionSettings()

    @property
    def kinds(self) -> tuple[PolicyKind, ...]:
        """Return the kinds as a list, whichever way they were written."""
        return (self.kind,) if isinstance(self.kind, PolicyKind) else self.kind

    @property
    def name(self) -> str:
        """Return the kinds as one word for people."""
        return "+".join(self.kinds)

    @property
    def all_routers(self) -> tuple[str, ...]:
        """Return every router that judges for this policy; none where nothing is judged."""
        return (self.router, *self.routers) if self.needs_router else ()

    @property
    def needs_router(self) -> bool:
        """Tell whether requests are judged at all."""
        return PolicyKind.PINNED not in self.kinds


class RouteSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A ladder of models, weakest first, and what to try when the chosen one fails."""

    models: Annotated[tuple[str, ...], Meta(description="Names from `models`, weakest first; at least one.")]
    policy: Annotated[PolicySettings, Meta(description="How to choose. Default: complexity at 0.3.")] = PolicySettings()
    fallback: Annotated[
        tuple[str, ...],
        Meta(description="What to try, in order, when the chosen model fails. Default none: the error is told."),
    ] = ()
    max_attempts: Annotated[
        int, Meta(ge=1, le=10, description="Upstream attempts for one request. Default 3: more only adds to an outage.")
    ] = 3
