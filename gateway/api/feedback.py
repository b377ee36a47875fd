"""`POST /v1/feedback`: how good was the answer to one of the caller's own requests?"""

from typing import cast

import msgspec
from litestar import Response, post
from litestar.handlers import HTTPRouteHandler

from gateway.api.asgi import Receive
from gateway.api.body import UNDECODABLE, decode_error, read_body
from gateway.api.cold import AnyRequest, identify, json_response
from gateway.api.headers import read_headers
from gateway.api.live import Live
from gateway.core.errors import InvalidValueError, NotFoundError
from gateway.schema.feedback import FeedbackBody, FeedbackTaken, decode_feedback

MAX_BODY_BYTES = 4096
"""The longest body there is, its id escaped character by character, takes a quarter of it."""


def feedback_handlers(live: Live) -> list[HTTPRouteHandler]:
    """Return the handler of `/v1/feedback`."""

    @post("/v1/feedback", status_code=200)
    async def take_feedback(request: AnyRequest) -> Response[bytes]:
        caller = identify(live, request)
        feedback = live.pipeline.parts.feedback
        if feedback is None:
            raise NotFoundError("Feedback is turned off here.")
        body = await _read(live, request)
        mark = mark_of(body)
        taken = await feedback.take(caller.tenant, body.request_id, mark)
        told = FeedbackTaken(body.request_id, mark, replaced=taken.previous is not None)
        return json_response(msgspec.json.encode(told))

    return [take_feedback]


async def _read(live: Live, request: AnyRequest) -> FeedbackBody:
    headers = read_headers(request.scope["headers"])
    timeout_s = live.settings.server.body_timeout_s
    body = await read_body(cast("Receive", request.receive), headers, MAX_BODY_BYTES, timeout_s)
    try:
        return decode_feedback(body)
    except UNDECODABLE as exc:
        raise decode_error(exc) from exc


def mark_of(body: FeedbackBody) -> float:
    """Return the mark that a body gives. Raises InvalidValueError unless it gives exactly one."""
    mark = body.mark if body.good is None else float(body.good)
    if mark is None or (body.good is not None and body.mark is not None):
        raise InvalidValueError("Send one of `good` (true or false) and `mark` (0 to 1).", param="mark")
    return mark
