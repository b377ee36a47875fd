"""From errors to OpenAI's error body and HTTP headers."""

import msgspec

from gateway.core.errors import PosternError


def error_body(error: PosternError) -> dict[str, object]:
    """Return OpenAI's shape, for a body and for an event in a stream."""
    return {
        "error": {"message": error.message, "type": error.type, "param": error.param, "code": error.code},
    }


def error_bytes(error: PosternError) -> bytes:
    """Return the body as JSON."""
    return msgspec.json.encode(error_body(error))


def error_headers(error: PosternError) -> list[tuple[bytes, bytes]]:
    """Return the headers that go with an error: 429 and 503 always say when to come back."""
    retry_after_s = error.retry_after_s
    if retry_after_s is None and error.status in {429, 503}:
        retry_after_s = 1
    return [] if retry_after_s is None else [(b"retry-after", b"%d" % retry_after_s)]


def error_lines(error: PosternError) -> bytes:
    """Return these headers as they are sent."""
    return b"".join([b"%b: %b\r\n" % header for header in error_headers(error)])
