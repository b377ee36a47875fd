"""`GET /v1/models`: every name that a client may ask for."""

import msgspec
from litestar import Response, get
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath

from gateway.api.cold import AnyRequest, identify, json_response
from gateway.api.live import Live
from gateway.core.errors import ModelNotFoundError
from gateway.settings.models import BackendKind
from gateway.settings.root import Settings

OWNER = "postern"


def model_handlers(live: Live) -> list[HTTPRouteHandler]:
    """Return the handlers of `/v1/models` and `/v1/models/{id}`."""

    @get("/v1/models", sync_to_thread=False)
    def list_models(request: AnyRequest) -> Response[bytes]:
        identify(live, request)
        return json_response(msgspec.json.encode({"object": "list", "data": list(_cards(live.settings).values())}))

    # A path, as names like `meta-llama/Llama-3` hold slashes.
    @get("/v1/models/{model_id:path}", sync_to_thread=False)
    def show_model(request: AnyRequest, model_id: FromPath[str]) -> Response[bytes]:
        identify(live, request)
        card = _cards(live.settings).get(model_id.removeprefix("/"))
        if card is None:
            raise ModelNotFoundError("There is no such model here. `GET /v1/models` lists all.", param="model")
        return json_response(msgspec.json.encode(card))

    return [list_models, show_model]


def _cards(settings: Settings) -> dict[str, dict[str, object]]:
    routes = {
        name: _card(name, kind="route", models=list(route.models), policy=route.policy.name)
        for name, route in settings.routes.items()
    }
    models = {
        name: _card(
            name,
            kind="model",
            context_tokens=model.context_tokens,
            capabilities=list(model.capabilities),
            simulated=model.backend is BackendKind.SIMULATED,
        )
        for name, model in settings.models.items()
    }
    return routes | models


def _card(name: str, **facts: object) -> dict[str, object]:
    return {"id": name, "object": "model", "created": 0, "owned_by": OWNER, OWNER: facts}
