"""What dialects and transports speak of: named values in, named values out, and what a model says of itself.

Knows neither gRPC nor HTTP. Source: https://github.com/triton-inference-server/server/tree/main/docs/protocol.
"""

from collections.abc import AsyncGenerator, Mapping, Sequence
from enum import StrEnum
from typing import Protocol

import msgspec

Value = bytes | int | float | bool
Outputs = Mapping[str, Sequence[Value]]
"""One response: each output's elements, flat; texts are bytes as they came, which may end inside a character."""


class Datatype(StrEnum):
    """Triton's names of the types that language models use."""

    BYTES = "BYTES"
    BOOL = "BOOL"
    INT32 = "INT32"
    UINT32 = "UINT32"
    UINT64 = "UINT64"
    FP32 = "FP32"


class Input(msgspec.Struct, frozen=True):
    """One input of a request; a dimension for a batch of one is added where the model has one."""

    name: str
    datatype: Datatype
    values: tuple[str | int | float | bool, ...]


class Ask(msgspec.Struct, frozen=True):
    """One request. `is_streaming`: whether the model was told to answer in several responses.

    `model`: another one of the same server; empty, the one that the transport leads to. `headers`: over HTTP as such,
    over gRPC as metadata.
    """

    request_id: str
    inputs: tuple[Input, ...]
    is_streaming: bool
    model: str = ""
    headers: Mapping[str, str] = {}


class TensorShape(msgspec.Struct, frozen=True):
    """Type and number of dimensions of an input or output, the one of a batch included."""

    datatype: str
    rank: int


class ModelFacts(msgspec.Struct, frozen=True):
    """What a model says of itself.

    `parameters`: those of its configuration that are texts. `steps`: an ensemble's models, and which of their inputs
    each is given.
    """

    inputs: Mapping[str, TensorShape]
    outputs: Mapping[str, TensorShape]
    is_decoupled: bool = False
    parameters: Mapping[str, str] = {}
    steps: Mapping[str, frozenset[str]] = {}


class Fault(StrEnum):
    """Where an exchange failed; what the server told is a fault of the request or of the model."""

    CONNECTING = "connecting"
    BROKEN = "broken"
    DEADLINE = "deadline"
    TOLD = "told"


class WireError(Exception):
    """An exchange failed. `text`: what the server, or the library, said; `code`: gRPC's name of it, where told."""

    def __init__(self, fault: Fault, text: str, code: str = "") -> None:
        super().__init__(text)
        self.fault = fault
        self.text = text
        self.code = code


class Transport(Protocol):
    """The way to one model on one server. Every method raises WireError.

    `is_heard`: the server hears at once when a request is left; otherwise no sooner than it writes the next response.
    """

    is_heard: bool

    def ask(self, ask: Ask, facts: ModelFacts) -> AsyncGenerator[Outputs, None]:
        """Yield the responses to one request; closing the generator, or cancelling, cancels inside Triton."""
        ...

    async def is_ready(self) -> bool:
        """Tell whether the server would run the model now; false also for a model that it has not."""
        ...

    async def describe(self) -> ModelFacts:
        """Read the model's metadata and configuration."""
        ...

    async def close(self) -> None:
        """Close every connection."""
        ...
