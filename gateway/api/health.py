"""Health: `live` says that the process turns, `ready` that it takes requests. Neither asks Redis nor an upstream.

A store that hangs must not take the gateway down with it (litellm#35273), and a gateway that can serve from one
model is ready though another is away.
"""

from litestar import HttpMethod, Response, route
from litestar.handlers import HTTPRouteHandler

from gateway.api.cold import json_response
from gateway.api.live import Live

ASKED_BY = [HttpMethod.GET, HttpMethod.HEAD]
"""Some load balancers ask by HEAD; the server leaves the body of its answer out."""


def health_handlers(live: Live) -> list[HTTPRouteHandler]:
    """Return the handlers of `/health/live` and `/health/ready`."""

    @route("/health/live", http_method=ASKED_BY, sync_to_thread=False)
    def report_live() -> Response[bytes]:
        return json_response(b'{"status":"live"}')

    @route("/health/ready", http_method=ASKED_BY, sync_to_thread=False)
    def report_ready() -> Response[bytes]:
        if live.is_draining:
            return json_response(b'{"status":"draining"}', 503, {"retry-after": "1", "connection": "close"})
        return json_response(b'{"status":"ready"}')

    return [report_live, report_ready]
