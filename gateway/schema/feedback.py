"""The body of `POST /v1/feedback`. Ours: OpenAI has no such endpoint."""

from typing import Annotated

import msgspec
from msgspec import Meta


class FeedbackBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How good the answer to a request was: `good`, or a `mark` from 0 (useless) to 1 (perfect); one of the two."""

    request_id: Annotated[str, Meta(min_length=1, max_length=128)]
    good: bool | None = None
    mark: Annotated[float, Meta(ge=0, le=1)] | None = None


class FeedbackTaken(msgspec.Struct, frozen=True):
    """What was taken: the mark that stands now, and whether it took the place of another."""

    request_id: str
    mark: float
    replaced: bool


_decoder = msgspec.json.Decoder(FeedbackBody)


def decode_feedback(body: bytes) -> FeedbackBody:
    """Decode a body. Raises msgspec.DecodeError, UnicodeDecodeError and RecursionError."""
    return _decoder.decode(body)
