"""From a request's fields to `Sampling`."""

from typing import Any

import msgspec

from gateway.backends.chat.fields import Fields
from gateway.backends.engine import Sampling
from gateway.core.errors import InvalidValueError
from gateway.schema.request import Operation, Request

MIN_TOP_P = 1e-5
"""OpenAI takes `top_p: 0`, servers want more than 0: so little leaves the likeliest token alone, too."""
PLAIN = (
    "temperature",
    "top_k",
    "min_p",
    "min_tokens",
    "presence_penalty",
    "frequency_penalty",
    "repetition_penalty",
    "seed",
    "logit_bias",
)
"""The fields that are the same for OpenAI, its imitators and engines."""

_logprobs: dict[Operation, msgspec.json.Decoder[Any]] = {
    Operation.CHAT: msgspec.json.Decoder(bool | None),
    Operation.COMPLETION: msgspec.json.Decoder(int | None),
}


def read_max_tokens(request: Request, fields: Fields) -> int | None:
    """Return the most tokens that the client wants, None where it does not say. The newer name wins, as at OpenAI."""
    newer: int | None = fields.read(request, "max_completion_tokens") if request.operation is Operation.CHAT else None
    older: int | None = fields.read(request, "max_tokens")
    return newer or older


def read_sampling(request: Request, fields: Fields, schema: bytes | None) -> Sampling:
    """Return how to generate; `max_tokens` is 0 until the prompt's length is known. Raises InvalidValueError."""
    found: dict[str, Any] = {name: fields.read(request, name) for name in PLAIN}
    top_p = fields.read(request, "top_p")
    return Sampling(
        max_tokens=0,
        top_p=None if top_p is None else max(top_p, MIN_TOP_P),
        stop=_stops(fields.read(request, "stop")),
        logprobs=_read_logprobs(request, fields),
        schema=schema,
        # An empty one says nothing; a dialect that can't carry it must not be asked to.
        **found | {"logit_bias": found["logit_bias"] or None},
    )


def _stops(found: str | list[str] | None) -> tuple[str, ...]:
    stops = [found] if isinstance(found, str) else found or []
    return tuple(dict.fromkeys(stop for stop in stops if stop))


def _read_logprobs(request: Request, fields: Fields) -> int | None:
    """Return how many alternatives are wanted beside each token; a chat asks by two fields, a completion by one."""
    wish: int | bool | None = _logprobs[request.operation].decode(request.fields.get("logprobs", b"null"))
    if request.operation is Operation.COMPLETION:
        return wish
    count: int | None = fields.read(request, "top_logprobs")
    if count and not wish:
        raise InvalidValueError("top_logprobs: it needs `logprobs` to be true.", param="top_logprobs")
    return (count or 0) if wish else None
