"""`POST /v1/feedback`: promised, not built yet."""

from litestar import Response, post
from litestar.handlers import HTTPRouteHandler

from gateway.core.errors import NotAvailableYetError


def feedback_handlers() -> list[HTTPRouteHandler]:
    """Return the handler of `/v1/feedback`."""

    @post("/v1/feedback", sync_to_thread=False)
    def take_feedback() -> Response[bytes]:
        raise NotAvailableYetError("Feedback is not available yet.")

    return [take_feedback]
