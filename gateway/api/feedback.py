"""`POST /v1/feedback`: promised, not built yet."""

from litestar import Response, post
from litestar.handlers import HTTPRouteHandler

from gateway.api.cold import AnyRequest, identify
from gateway.api.live import Live
from gateway.core.errors import NotAvailableYetError


def feedback_handlers(live: Live) -> list[HTTPRouteHandler]:
    """Return the handler of `/v1/feedback`."""

    @post("/v1/feedback", sync_to_thread=False)
    def take_feedback(request: AnyRequest) -> Response[bytes]:
        identify(live, request)
        raise NotAvailableYetError("Feedback is not available yet.")

    return [take_feedback]
