"""The Litestar applications: everything on the data port that is not hot, and the admin port."""

from collections.abc import Sequence
from typing import Any, TypeAlias

from litestar import Litestar, Request, Response
from litestar.exceptions import HTTPException, MethodNotAllowedException
from litestar.exceptions import NotFoundException as LitestarNotFoundException
from litestar.handlers import HTTPRouteHandler
from litestar.plugins import PluginProtocol

from gateway.api.errors import error_bytes, error_headers
from gateway.api.headers import REQUEST_ID, read_headers, wishes_of
from gateway.api.live import Live
from gateway.core.context import Caller
from gateway.core.errors import InvalidRequestError, MethodError, NotFoundError, PosternError, internal_error
from gateway.telemetry.logs import log_failure

JSON = "application/json"
AnyRequest: TypeAlias = Request[Any, Any, Any]


class _PlainLitestar(Litestar):
    """A Litestar that looks for no other library: it would import pydantic and attrs where they lie about, 7 MB."""

    @staticmethod
    def _get_default_plugins(plugins: list[PluginProtocol]) -> list[PluginProtocol]:
        return plugins


def make_app(handlers: Sequence[HTTPRouteHandler]) -> Litestar:
    """Return an application in which every error has OpenAI's shape, whatever raised it."""
    return _PlainLitestar(
        route_handlers=list(handlers),
        openapi_config=None,
        logging_config=None,
        exception_handlers={PosternError: _tell, HTTPException: _tell_http, Exception: _tell_internal},
    )


def json_response(body: bytes, status: int = 200, headers: dict[str, str] | None = None) -> Response[bytes]:
    """Return bytes that are JSON already."""
    return Response(body, status_code=status, media_type=JSON, headers=headers)


def identify(live: Live, request: AnyRequest) -> Caller:
    """Find out who is calling. Raises AuthenticationError where a key is required, and InvalidValueError."""
    return live.pipeline.parts.keys.identify(wishes_of(read_headers(request.scope["headers"])))


def request_id(request: AnyRequest) -> str | None:
    """Return the id that the answer will bear; the admin port's bear none."""
    found: str | None = request.scope.get("state", {}).get(REQUEST_ID)
    return found


def _tell(_: AnyRequest, error: PosternError) -> Response[bytes]:
    headers = {name.decode(): value.decode() for name, value in error_headers(error)}
    return json_response(error_bytes(error), error.status, headers)


def _tell_http(request: AnyRequest, exc: HTTPException) -> Response[bytes]:
    if isinstance(exc, LitestarNotFoundException):
        return _tell(request, NotFoundError("There is nothing at this path."))
    if isinstance(exc, MethodNotAllowedException):
        response = _tell(request, MethodError("This path has other methods."))
        response.headers.update(exc.headers or {})  # `allow`
        return response
    if exc.status_code >= 500:
        return _tell_internal(request, exc)
    error = InvalidRequestError("The request can't be read.")
    error.status = exc.status_code
    return _tell(request, error)


def _tell_internal(request: AnyRequest, exc: Exception) -> Response[bytes]:
    error = internal_error(exc)
    log_failure(error, request_id=request_id(request))
    return _tell(request, error)
