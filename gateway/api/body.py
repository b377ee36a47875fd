"""Request bodies: read within bounds of size and time, decode, tell the client what is wrong with it."""

import asyncio
import re
from collections.abc import Mapping
from contextlib import suppress

import msgspec

from gateway.api.asgi import Receive
from gateway.core.errors import BodyTimeoutError, BodyTooLargeError, InvalidJsonError, InvalidValueError, PosternError
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
        BodyTimeoutError: it took longer than `timeout_s`, or the client went away.
    """
    check_declared(headers, max_bytes)
    try:
        async with asyncio.timeout(timeout_s):
            return await _read_at_most(receive, max_bytes)
    except TimeoutError as exc:
        raise BodyTimeoutError(f"The body did not come within {timeout_s:g} s.") from exc


def check_declared(headers: Mapping[str, str], max_bytes: int) -> None:
    """Raise BodyTooLargeError where the declared length alone says so."""
    declared = headers.get("content-length", "")
    if declared.isdigit() and (len(declared) > 18 or int(declared) > max_bytes):
        raise too_large(max_bytes)


async def _read_at_most(receive: Receive, max_bytes: int) -> bytes:
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise BodyTimeoutError("The client went away.")
        part = message.get("body", b"")
        size += len(part)
        if size > max_bytes:
            raise too_large(max_bytes)
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


def too_large(max_bytes: int) -> BodyTooLargeError:
    """Return the error that names the bound."""
    return BodyTooLargeError(f"The body is larger than {max_bytes} bytes.")


def decode_body(operation: Operation, body: bytes) -> Request:
    """Decode a body; whatever is wrong with it becomes an error for the client, which never repeats the body."""
    try:
        return decode_request(operation, body)
    except UNDECODABLE as exc:
        raise decode_error(exc) from exc


UNDECODABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What a decoder raises."""


def decode_error(exc: Exception) -> PosternError:
    """Turn what a decoder raised into an error for the client."""
    if isinstance(exc, msgspec.ValidationError):
        return _invalid_value(str(exc))
    deep = isinstance(exc, RecursionError)
    return InvalidJsonError("The body is nested too deep." if deep else "The body is not JSON in UTF-8.")


def _invalid_value(problem: str) -> InvalidValueError:
    """Turn msgspec's text, which holds types and paths but no values, into OpenAI's message and param."""
    at = _FIELD.match(problem)
    path = at["path"] if at else ""
    problem = at["problem"] if at else problem
    missing = _REQUIRED.search(problem)
    if missing:
        path = f"{path}.{missing['name']}".removeprefix(".")
    return InvalidValueError(f"{problem}." if not path else f"{path}: {problem}.", param=path or None)
