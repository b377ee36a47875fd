"""The admin port: metrics for Prometheus and the configuration in force, its secrets hidden."""

from collections.abc import Awaitable, Callable

import msgspec
from litestar import Litestar, Response, get, route

from gateway.api.cold import json_response, make_app
from gateway.api.health import ASKED_BY
from gateway.core.secret import Secret
from gateway.settings.root import Settings


def make_admin_app(scrape: Callable[[], Awaitable[tuple[bytes, str]]], settings: Callable[[], Settings]) -> Litestar:
    """Return the admin port's application."""

    @get("/metrics")
    async def show_metrics() -> Response[bytes]:
        text, content_type = await scrape()
        return Response(text, headers={"content-type": content_type})

    @get("/admin/config", sync_to_thread=False)
    def show_config() -> Response[bytes]:
        return json_response(msgspec.json.encode(settings(), enc_hook=_hide))

    @route("/health/live", http_method=ASKED_BY, sync_to_thread=False)
    def report_live() -> Response[bytes]:
        return json_response(b'{"status":"live"}')

    return make_app([show_metrics, show_config, report_live])


def _hide(value: object) -> str:
    return "***" if isinstance(value, Secret) else str(value)
