"""What one setting demands of another. Knows nothing of YAML: it reads structs, skipping those found unsound."""

from collections.abc import Iterator, Mapping

import msgspec

from gateway.settings.crosscheck_models import check_model
from gateway.settings.crosscheck_policy import check_abilities, check_policy
from gateway.settings.crosscheck_service import check_keys, check_redis, check_server
from gateway.settings.faults import Fault, suggest, under
from gateway.settings.models import ModelSettings
from gateway.settings.names import NAME_REMEDY, is_name
from gateway.settings.root import Settings
from gateway.settings.routes import RouteSettings
from gateway.settings.service import KeysSettings, RedisSettings, ServerSettings
from gateway.settings.tracing import TracingSettings, check_tracing


class Draft(msgspec.Struct, frozen=True):
    """The configuration as far as it is sound: None stands for what is not."""

    models: Mapping[str, ModelSettings | None] | None
    routes: Mapping[str, RouteSettings | None] | None
    has_redis: bool
    server: ServerSettings | None = ServerSettings()
    redis: RedisSettings | None = None
    keys: KeysSettings | None = KeysSettings()
    tracing: TracingSettings | None = None


def draft_whole(settings: Settings) -> Draft:
    """Return sound settings as a draft, to check those that no file has made."""
    return Draft(
        settings.models,
        settings.routes,
        settings.redis is not None,
        settings.server,
        settings.redis,
        settings.keys,
        settings.tracing,
    )


def crosscheck(draft: Draft) -> Iterator[Fault]:
    """Yield every fault between settings that are each well-formed."""
    yield from _check_names(draft)
    yield from _check_models(draft.models)
    yield from _check_routes(draft)
    yield from check_server(draft.server, has_redis=draft.has_redis)
    yield from check_redis(draft.redis)
    yield from check_keys(draft.keys)
    yield from check_tracing(draft.tracing)


def _check_names(draft: Draft) -> Iterator[Fault]:
    clients = draft.keys.clients if draft.keys else {}
    for section, names in (("models", draft.models), ("routes", draft.routes), ("keys.clients", clients)):
        for name in names or ():
            if not is_name(name):
                yield Fault(under(section, name), "is no name", NAME_REMEDY)
    for name, client in clients.items():
        if client.team is not None and not is_name(client.team):
            yield Fault(under(under("keys.clients", name), "team"), "is no name", NAME_REMEDY)


def _check_models(models: Mapping[str, ModelSettings | None] | None) -> Iterator[Fault]:
    if models is not None and not models:
        yield Fault(
            "models", "has no model", 'add one, such as `phi: {backend: openai, urls: ["http://HOST:PORT/v1"]}`'
        )
    for name, model in (models or {}).items():
        if model is not None:
            yield from check_model(model, under("models", name))


def _check_routes(draft: Draft) -> Iterator[Fault]:
    if draft.routes is not None and not draft.routes:
        yield Fault("routes", "has no route", "add one, such as `auto: {models: [WEAK, STRONG]}`")
    for name, route in (draft.routes or {}).items():
        path = under("routes", name)
        if name in (draft.models or {}):
            yield Fault(path, "is named like a model", "rename one of the two: clients ask for either by its name")
        if route is not None:
            yield from _check_ladder(route, path)
            yield from check_abilities(route, draft.models or {}, under(path, "models"))
            yield from check_policy(route, draft.models or {}, under(path, "policy"))
            yield from _check_known(draft.models, route.models, under(path, "models"))
            yield from _check_known(draft.models, route.fallback, under(path, "fallback"))


def _check_ladder(route: RouteSettings, path: str) -> Iterator[Fault]:
    if not route.models:
        yield Fault(under(path, "models"), "has no model", "name at least one, weakest first")
    for index, name in enumerate(route.models):
        if name in route.models[:index]:
            yield Fault(f"{under(path, 'models')}[{index}]", "stands twice in the ladder", "keep one of the two")


def _check_known(known: Mapping[str, object] | None, names: tuple[str, ...], path: str) -> Iterator[Fault]:
    for index, name in enumerate(names):
        if known is not None and name not in known:
            yield Fault(f"{path}[{index}]", "names no model of `models`", suggest(name, known))
