"""Request bodies: read within bounds of size and time, decode, tell the client what is wrong with it."""

import asyncio
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress

import msgspec

from gateway.api.asgi import Receive
from gateway.core.errors import BodyTimeoutError, BodyTooLargeError, InvalidJsonError, InvalidValueError
from gateway.schema.request import Operation, Request, decode_request

LINGER_S = 2.0
"""How long a client that was refused may go on sending, unheard: 10 MiB over 40 Mbit/s."""
LINGER_IDLE_S = 0.5
"""How long nothing may come of what it sends: longer than a round trip around the world."""

_FIELD = re.compile(r"^(?P<problem>.*?) - at `\$\.?(?P<path>.*)`$", re.DOTALL)
_REQUIRED = re.compile(r"missing required field `(?P<name>[^`]+)`")


async def read_body(receive: Receive, headers: Mapping[str, str], max_bytes: int, timeout_s: float) -> bytes:
    """Read a body to its end.

    Raises:
        BodyTooLargeError: it is larger than `max_bytes`; told from the declared length already where there is one.
        BodyTimeoutError: it took longer than `timeout_s`.
        asyncio.CancelledError: the client went away.
    """
    declared = headers.get("content-length", "")
    if declared.isdigit() and (len(declared) > 18 or int(declared) > max_bytes):
        raise _too_large(max_bytes)
    try:
        async with asyncio.timeout(timeout_s):
            return await _read_at_most(receive, max_bytes)
    except TimeoutError as exc:
        raise BodyTimeoutError(f"The body did not come within {timeout_s:g} s.") from exc


async def _read_at_most(receive: Receive, max_bytes: int) -> bytes:
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise asyncio.CancelledError("the client went away")
        part = message.get("body", b"")
        size += len(part)
        if size > max_bytes:
            raise _too_large(max_bytes)
        parts.append(part)
        if not message.get("more_body", False):
            return parts[0] if len(parts) == 1 else b"".join(parts)


async def drain(receive: Receive, timeout_s: float = LINGER_S) -> bool:
    """Read the rest of a body that is answered unread, and throw it away; return whether its end came in time.

    Closing a connection with bytes unread resets it, and the client loses the answer (RFC 9112, 9.6). With 0 s only
    what has come already is read.
    """
    with suppress(TimeoutError):
        async with asyncio.timeout(timeout_s):
            has_more = True
            while has_more:
                async with asyncio.timeout(LINGER_IDLE_S):
                    has_more = (await receive()).get("more_body", False)
            return True
    return False


def _too_large(max_bytes: int) -> BodyTooLargeError:
    return BodyTooLargeError(f"The body is larger than {max_bytes} bytes.")


def decode_body(operation: Operation, body: bytes) -> Request:
    """Decode a body; whatever is wrong with it becomes an error for the client, which never repeats the body."""
    with decoding():
        return decode_request(operation, body)


@contextmanager
def decoding() -> Iterator[None]:
    """Turn what a decoder raises into errors for the client."""
    try:
        yield
    except msgspec.ValidationError as exc:
        raise _invalid_value(str(exc)) from exc
    except (msgspec.DecodeError, UnicodeDecodeError) as exc:
        raise InvalidJsonError("The body is not JSON in UTF-8.") from exc
    except RecursionError as exc:
        raise InvalidJsonError("The body is nested too deep.") from exc


def _invalid_value(problem: str) -> InvalidValueError:
    """Turn msgspec's text, which holds types and paths but no values, into OpenAI's message and param."""
    at = _FIELD.match(problem)
    path = at["path"] if at else ""
    problem = at["problem"] if at else problem
    missing = _REQUIRED.search(problem)
    if missing:
        path = f"{path}.{missing['name']}".removeprefix(".")
    return InvalidValueError(f"{problem}." if not path else f"{path}: {problem}.", param=path or None)
