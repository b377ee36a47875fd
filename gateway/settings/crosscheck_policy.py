"""Cross checks of a route's `policy` and of the ladder it chooses on."""

from collections.abc import Iterator, Mapping

from gateway.settings.faults import Fault, suggest, under
from gateway.settings.models import Capability, ModelSettings, PriceSettings
from gateway.settings.routes import CascadeSettings, PolicyKind, PolicySettings, RouteSettings, SessionSettings

_ROUNDING = 1e-9

BESIDE_PINNED = frozenset({PolicyKind.PINNED, PolicyKind.PRIVATE})
"""The kinds that leave a pinned route something to decide."""

MIN_CASCADE_ATTEMPTS = 2


def check_policy(route: RouteSettings, known: Mapping[str, ModelSettings | None], path: str) -> Iterator[Fault]:
    """Yield what a policy lacks or has too much of. `known` are the models there are, None those unsound."""
    yield from _check_kinds(route.policy.kinds, under(path, "kind"))
    yield from _check_model(route, known, under(path, "model"))
    yield from _check_shares(route.policy, path)
    if PolicyKind.PRIVATE in route.policy.kinds:
        yield from _check_private(route, known, under(path, "kind"))
    if PolicyKind.CASCADE in route.policy.kinds:
        yield from _check_cascade(route, known, path)
    elif route.policy.cascade != CascadeSettings():
        yield Fault(
            under(path, "cascade"), "is for `kind: cascade` only", "leave it out, or add `cascade` to the kinds"
        )
    if PolicyKind.SESSION in route.policy.kinds:
        yield from _check_session(route, known, path)
    elif route.policy.session != SessionSettings():
        yield Fault(
            under(path, "session"), "is for `kind: session` only", "leave it out, or add `session` to the kinds"
        )
    yield from _check_trials(route.policy, under(path, "routers"))
    if PolicyKind.DOMAIN in route.policy.kinds:
        yield from _check_domains(route, known, under(path, "kind"))


def _check_kinds(kinds: tuple[PolicyKind, ...], path: str) -> Iterator[Fault]:
    if not kinds:
        yield Fault(path, "has no kind", "name one, or leave it out for complexity")
    for index, kind in enumerate(kinds):
        if kind in kinds[:index]:
            yield Fault(f"{path}[{index}]", "stands twice", "keep one of the two")
        if PolicyKind.PINNED in kinds and kind not in BESIDE_PINNED:
            yield Fault(f"{path}[{index}]", "has nothing to decide beside `pinned`", "leave one of the two out")


def _check_model(route: RouteSettings, known: Mapping[str, object], path: str) -> Iterator[Fault]:
    model = route.policy.model
    if PolicyKind.PINNED not in route.policy.kinds:
        if model is not None:
            yield Fault(path, "is for `kind: pinned` only", "leave it out, or set `kind: pinned`")
    elif model is None:
        yield Fault(path, "is missing", "`kind: pinned` needs it: name one of the route's models")
    elif model not in route.models:
        choices = [name for name in route.models if name in known]  # the others may be anything, a secret too
        yield Fault(path, "is not one of the route's models", suggest(model, choices))


def _check_shares(policy: PolicySettings, path: str) -> Iterator[Fault]:
    """Yield a share to hold beside the bound that it moves, or with nothing to hold it by."""
    if policy.strong_share is not None and not policy.needs_router:
        yield Fault(under(path, "strong_share"), "has no scores to hold it by beside `pinned`", "leave it out")
    elif policy.strong_share is not None and policy.threshold != PolicySettings().threshold:
        yield Fault(under(path, "threshold"), "moves by itself, as `strong_share` is set", "leave one of the two out")
    cascade = policy.cascade
    if cascade.escalate_share is not None and cascade.min_confidence != CascadeSettings().min_confidence:
        where = under(under(path, "cascade"), "min_confidence")
        yield Fault(where, "moves by itself, as `escalate_share` is set", "leave one of the two out")


def _check_private(route: RouteSettings, known: Mapping[str, ModelSettings | None], path: str) -> Iterator[Fault]:
    models = [known.get(name) for name in route.models]
    if models and not any(model is None or model.local for model in models):
        yield Fault(
            path,
            "leaves personal data nowhere to go: no model of the route is local",
            "set `local: true` on a model that may see them, or leave `private` out",
        )


def _check_cascade(route: RouteSettings, known: Mapping[str, ModelSettings | None], path: str) -> Iterator[Fault]:
    weaker = [known.get(name) for name in route.models[:-1]]
    if not any(model is None or Capability.LOGPROBS in model.capabilities for model in weaker):
        yield Fault(
            under(path, "kind"),
            "can judge no answer: no model but the strongest has `logprobs` among its capabilities",
            "add it to a weaker model whose server tells log probabilities, or leave `cascade` out",
        )
    if route.max_attempts < MIN_CASCADE_ATTEMPTS:
        yield Fault(
            under(path, "kind"),
            "leaves no attempt to the stronger model",
            "set the route's `max_attempts` to 2 at least",
        )


def _check_session(route: RouteSettings, known: Mapping[str, ModelSettings | None], path: str) -> Iterator[Fault]:
    models = [known.get(name) for name in route.models]
    if not any(model is None or _has_cheap_cache(model.price) for model in models):
        yield Fault(
            under(path, "kind"),
            "has no prompt cache to keep: no model's `price.cached_input` is under its `price.input`",
            "set it where the upstream bills cached tokens for less, or leave `session` out",
        )


def _has_cheap_cache(price: PriceSettings) -> bool:
    return price.cached_input is not None and price.cached_input < price.input


def _check_domains(route: RouteSettings, known: Mapping[str, ModelSettings | None], path: str) -> Iterator[Fault]:
    models = [known.get(name) for name in route.models]
    if not any(model is None or model.domains for model in models):
        yield Fault(
            path,
            "has no specialist: no model of the route lists `domains`",
            "add them to a model, such as `domains: [law]`, or leave `domain` out",
        )


def _check_trials(policy: PolicySettings, path: str) -> Iterator[Fault]:
    """Yield routers on trial that would do nothing, or more than there is to do."""
    if policy.routers and not policy.needs_router:
        yield Fault(path, "has nothing to judge for beside `pinned`", "leave it out, or set another kind")
    for name, trial in policy.routers.items():
        if name == policy.router:
            yield Fault(under(path, name), "is the route's own router", "name another one")
        if trial.shadow == (trial.share > 0):
            yield Fault(under(path, name), "needs either a share or shadow", "write `share: 0.1` or `shadow: true`")
    total = sum(trial.share for trial in policy.routers.values())
    if total > 1 + _ROUNDING:
        yield Fault(path, "has shares that add up to more than 1", "lower them: the rest is the route's own router's")


def check_abilities(route: RouteSettings, known: Mapping[str, ModelSettings | None], path: str) -> Iterator[Fault]:
    """Yield models that stand above an abler one: a ladder goes up."""
    highest = 0.0
    for index, name in enumerate(route.models):
        model = known.get(name)
        if model is None or model.ability is None:
            continue
        if model.ability < highest:
            yield Fault(f"{path}[{index}]", "is less able than one before it", "list the weakest first, by `ability`")
        highest = max(highest, model.ability)
