"""The names clients may ask for: routes, and models by their own names."""

from collections.abc import Callable, Mapping
from typing import Final

import msgspec

from gateway.core.context import Ladder, RequestContext
from gateway.core.errors import ModelNotFoundError
from gateway.routing.abilities import fill_abilities, find_steps
from gateway.routing.domains import DomainPolicy, find_specialists
from gateway.routing.exchange import HeldShare
from gateway.routing.policies import ComplexityPolicy, PinnedPolicy, Policy
from gateway.routing.session import SessionPolicy
from gateway.routing.trials import Mode, Trials, build_trials, point_of
from gateway.schema.request import Operation
from gateway.settings.models import Capability, ModelSettings
from gateway.settings.root import Settings
from gateway.settings.routes import CascadeSettings, PolicyKind, RouteSettings, SessionSettings

_EMBEDDING: Final = Operation.EMBEDDING


class Route(msgspec.Struct, frozen=True):
    """What stands behind a name: its ladder, how to choose, and what to do when the choice fails.

    `fleet` changes whenever one of its models comes to mean another server or another model there, or its answers are
    judged by another rule. `cascade` says when a weaker model's answer goes on; None: always. `session`: how
    conversations are remembered; None: not at all. `held` is told of every request that its threshold decided; None: no
    share is held.
    """

    ladder: Ladder
    policy: Policy
    router: str | None
    fleet: str = ""
    fallback: tuple[str, ...] = ()
    max_attempts: int = 3
    is_private: bool = False
    cascade: CascadeSettings | None = None
    session: SessionSettings | None = None
    trials: Trials | None = None
    held: HeldShare | None = None

    def pick_router(self, ctx: RequestContext) -> str | None:
        """Return the router that decides for a request; None where nothing is judged."""
        if self.router is None or self.trials is None or not self.trials.shares:
            return self.router
        tenant = ctx.caller.tenant if ctx.caller else ""
        point = point_of(self.ladder.name, tenant, ctx.wishes.session, ctx.asked.conversation)
        return self.trials.pick(self.router, point)

    def mode_of(self, router: str) -> Mode:
        """Return what a router that decides is to this route."""
        return Mode.MAIN if router == self.router else Mode.SHARE


class RouteTable:
    """Every name a client may ask for."""

    def __init__(self, routes: Mapping[str, Route], embedding_routes: Mapping[str, Route]) -> None:
        self._routes = routes
        self._embedding_routes = embedding_routes

    def resolve(self, name: str, operation: Operation) -> Route:
        """Return what stands behind a name. Raises ModelNotFoundError; the name itself is not repeated in it."""
        routes = self._embedding_routes if operation is _EMBEDDING else self._routes
        route = routes.get(name)
        if route is None:
            raise ModelNotFoundError(
                f"There is no such model here. `GET /v1/models` lists {len(self._routes)}.", param="model"
            )
        return route


def build_routes(settings: Settings, held: Mapping[str, HeldShare] | None = None) -> RouteTable:
    """Return the table of a configuration: each route, and each model pinned under its own name.

    `held`: by route, for those that hold a share.
    """
    held = held or {}
    pinned = {name: _pinned(name, name, settings) for name in settings.models}
    routes = {name: _route(name, route, settings, held.get(name)) for name, route in settings.routes.items()}
    embedding = {name: _embedding_route(name, route, settings) for name, route in settings.routes.items()}
    return RouteTable(routes | pinned, embedding | pinned)


def _pinned(name: str, model: str, settings: Settings) -> Route:
    ladder = Ladder(name, (model,), is_pinned=True)
    return Route(ladder, PinnedPolicy(model), router=None, fleet=_fleet((model,), settings))


def _route(name: str, route: RouteSettings, settings: Settings, held: HeldShare | None) -> Route:
    policy = build_policy(route, settings.models, held)
    cascade = route.policy.cascade if PolicyKind.CASCADE in route.policy.kinds else None
    return Route(
        ladder=build_ladder(name, route, settings.models),
        policy=policy,
        router=route.policy.router if policy.needs_score else None,
        fleet=_fleet((*route.models, *route.fallback), settings) + (repr(cascade) if cascade else ""),
        fallback=route.fallback,
        max_attempts=route.max_attempts,
        is_private=PolicyKind.PRIVATE in route.policy.kinds,
        cascade=cascade,
        trials=build_trials(route.policy.routers),
        session=route.policy.session if PolicyKind.SESSION in route.policy.kinds else None,
        held=held,
    )


def _fleet(names: tuple[str, ...], settings: Settings) -> str:
    models = [(name, settings.models[name]) for name in names]
    return repr(
        [(name, model.backend.value, model.urls, model.upstream_model, *_rest(model)) for name, model in models]
    )


def _rest(model: ModelSettings) -> tuple[object, ...]:
    """Return what else makes the answers of a bare model; nothing for others, whose stored answers stay valid."""
    if model.triton is None and model.onnx is None:
        return ()
    path = None if model.onnx is None else model.onnx.path  # not how many threads run it
    return model.triton, path, model.chat_template, model.tool_format


def _embedding_route(name: str, route: RouteSettings, settings: Settings) -> Route:
    """Pin embeddings to the first model that makes them: vectors of two models can't be compared.

    On a private route to the first local one, where there is one: whatever is in a text, its vector must come from the
    same model.
    """
    is_private = PolicyKind.PRIVATE in route.policy.kinds
    able = [model for model in route.models if Capability.EMBEDDINGS in settings.models[model].capabilities]
    local = [model for model in able if is_private and settings.models[model].local]
    pinned = _pinned(name, (*local, *able, *route.models)[0], settings)
    return msgspec.structs.replace(pinned, is_private=is_private)


def build_ladder(name: str, route: RouteSettings, models: Mapping[str, ModelSettings]) -> Ladder:
    """Return a route's ladder, each model with its ability."""
    abilities = fill_abilities([models[model].ability for model in route.models])
    return Ladder(name, route.models, abilities=abilities, steps=find_steps(abilities))


WRAPPERS: Mapping[PolicyKind, Callable[[Policy, RouteSettings, Mapping[str, ModelSettings]], Policy]] = {
    PolicyKind.DOMAIN: lambda inner, route, models: DomainPolicy(inner, find_specialists(route.models, models)),
    PolicyKind.SESSION: lambda inner, route, models: SessionPolicy(
        inner, {name: models[name].price for name in route.models}, route.policy.session.margin
    ),
}
"""The policies that rule before another: what wraps the one that would decide, the innermost first."""


def build_policy(route: RouteSettings, models: Mapping[str, ModelSettings], held: HeldShare | None = None) -> Policy:
    """Return the policy of a route; the configuration has been checked, so a pinned one names its model."""
    settings = route.policy
    is_pinned = PolicyKind.PINNED in settings.kinds
    policy: Policy = PinnedPolicy(settings.model or "") if is_pinned else ComplexityPolicy(held or settings.threshold)
    for kind, wrap in WRAPPERS.items():
        if kind in settings.kinds:
            policy = wrap(policy, route, models)
    return policy
