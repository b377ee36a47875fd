"""A request's fields by their types; a wrong one is told to the client with its name, as OpenAI does.

`schema/request.py` leaves as raw JSON what the gateway itself does not read: other backends pass it on.
"""

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from gateway.core.errors import InvalidValueError
from gateway.schema.request import Request

MAX_STOPS = 64
"""OpenAI takes 4, vLLM any number; each costs time with every piece of text."""

Unit = Annotated[float, Meta(ge=0, le=1)]
Penalty = Annotated[float, Meta(ge=-2, le=2)]
Count = Annotated[int, Meta(ge=1, le=2**31 - 1)]
Stop = Annotated[str, Meta(max_length=1_000)]
Bias = Annotated[float, Meta(ge=-100, le=100)]

# Bounds are OpenAI's where it has the field, else vLLM's (`vllm/sampling_params.py`).
_TYPES: dict[str, Any] = {
    "temperature": Annotated[float, Meta(ge=0, le=2)],
    "top_p": Unit,
    "top_k": Annotated[int, Meta(ge=-1, le=2**31 - 1)],
    "min_p": Unit,
    "min_tokens": Annotated[int, Meta(ge=0, le=2**31 - 1)],
    "presence_penalty": Penalty,
    "frequency_penalty": Penalty,
    "repetition_penalty": Annotated[float, Meta(gt=0, le=100)],
    "seed": Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)],
    "stop": str | Annotated[list[Stop], Meta(max_length=MAX_STOPS)],
    "logit_bias": Annotated[dict[str, Bias], Meta(max_length=1_024)],
    "top_logprobs": Annotated[int, Meta(ge=0, le=20)],
    "max_tokens": Count,
    "max_completion_tokens": Count,
    "parallel_tool_calls": bool,
    "chat_template_kwargs": Annotated[dict[str, Any], Meta(max_length=100)],
    "reasoning_effort": str,
    "prompt": str | Annotated[list[str], Meta(min_length=1, max_length=1)],
}


class Fields:
    """Reads fields of requests. Each type has its decoder, made once."""

    def __init__(self) -> None:
        self._decoders = {name: msgspec.json.Decoder(found | None) for name, found in _TYPES.items()}

    def read(self, request: Request, name: str) -> Any:
        """Return a field's value, None where it is unset. Raises InvalidValueError."""
        raw = request.fields.get(name)
        if raw is None:
            return None
        return decode_field(raw, self._decoders[name], name)


def decode_field(raw: bytes | msgspec.Raw, decoder: "msgspec.json.Decoder[Any]", name: str) -> Any:
    """Decode one field. Raises InvalidValueError, which names the field and never repeats its value."""
    try:
        return decoder.decode(raw)
    except msgspec.ValidationError as exc:
        raise InvalidValueError(f"{name}: {exc}.", param=name) from exc
    except RecursionError as exc:
        raise InvalidValueError(f"{name}: nested too deep.", param=name) from exc
