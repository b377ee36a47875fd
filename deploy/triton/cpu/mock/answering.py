"""One request's way through a mocked model: read, generated for, answered or failed in band."""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import triton_python_backend_utils as pb_utils

from mock.engine import Engine, GoneError, Step
from mock.inputs import error
from mock.script import Order


class Asked(Protocol):
    """A request as a model reads it."""

    order: Order

    def response(self, step: Step) -> Any:
        """Return what a step tells: what is new, or, not streamed, everything."""
        ...


class Sayings(NamedTuple):
    """What a model says of a client that left, and before what went wrong."""

    cancelled: str
    failed: str


class RefusedError(Exception):
    """What the real model refuses in words of its own."""


async def answer(
    engine: Engine,
    request: Any,
    read: Callable[[Any], Asked],
    sayings: Sayings,
    is_cancelled: Callable[[], bool] | None = None,
) -> None:
    """Send a request's responses. `is_cancelled`: what the real model asks; without it, its response sender."""
    sender = request.get_response_sender()
    final = pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL
    try:
        asked = read(request)
        last = None
        async for step in engine.generate(asked.order, is_cancelled or sender.is_cancelled):
            last = step
            if asked.order.is_streaming:
                sender.send(asked.response(step), flags=final if step.finish_reason else 0)
        if not asked.order.is_streaming:
            sender.send(asked.response(last), flags=final)
    except GoneError:
        sender.send(error(sayings.cancelled, pb_utils.TritonError.CANCELLED), flags=final)
    except RefusedError as exc:
        sender.send(error(str(exc)), flags=final)
    except Exception as exc:  # noqa: BLE001 - the real ones tell any failure in band
        sender.send(error(f"{sayings.failed}{exc}"), flags=final)
