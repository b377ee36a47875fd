"""What the gateway and its worker say to one another: MessagePack frames, each after its length in four bytes.

Both ends are of the same version and the same machine's; a frame that can't be read is a fault of ours.
"""

import struct
from enum import StrEnum
from typing import Final

import msgspec

from gateway.backends.engine import Sampling

LENGTH: Final = struct.Struct("!I")
BEAT_S: Final = 1.0
"""How often a worker says something at least, at work or not; only a step that takes longer holds it up."""


class Options(msgspec.Struct, frozen=True):
    """What a worker is started with: the model's folder, threads that compute, and how many requests side by side."""

    folder: str
    threads: int | None = None
    max_batch: int = 8


class Begin(msgspec.Struct, frozen=True, tag="begin"):
    """Generate for a prompt. Not streamed, one `Said` holds everything."""

    task: int
    prompt: str
    sampling: Sampling
    is_streaming: bool = True


class Cancel(msgspec.Struct, frozen=True, tag="cancel"):
    """Stop generating; no more is said of the task."""

    task: int


class Ready(msgspec.Struct, frozen=True, tag="ready"):
    """The model is loaded; `window_tokens` holds prompt and answer together."""

    window_tokens: int


class Unready(msgspec.Struct, frozen=True, tag="unready"):
    """The model can't be loaded; the worker ends."""

    problem: str


class Alive(msgspec.Struct, frozen=True, tag="alive"):
    """Nothing new, but the thread that works comes by."""


class Said(msgspec.Struct, frozen=True, tag="said"):
    """More of an answer; the last with a `finish_reason`, and with it all that was counted."""

    task: int
    text: str
    token_count: int
    prompt_tokens: int | None = None
    finish_reason: str | None = None


class Fault(StrEnum):
    """Whose fault it is that there is no more of an answer."""

    REQUEST = "request"
    WINDOW = "window"
    MODEL = "model"


class Failed(msgspec.Struct, frozen=True, tag="failed"):
    """The task ends here. `message` is for the client, and holds nothing of a prompt or an answer."""

    task: int
    fault: Fault
    message: str


ToWorker = Begin | Cancel
FromWorker = Ready | Unready | Alive | Said | Failed

_ENCODER: Final = msgspec.msgpack.Encoder()
_TO_WORKER: Final[msgspec.msgpack.Decoder[ToWorker]] = msgspec.msgpack.Decoder(ToWorker)
_FROM_WORKER: Final[msgspec.msgpack.Decoder[FromWorker]] = msgspec.msgpack.Decoder(FromWorker)


def frame_of(message: ToWorker | FromWorker) -> bytes:
    """Return a message as it is sent."""
    payload = _ENCODER.encode(message)
    return LENGTH.pack(len(payload)) + payload


def length_of(head: bytes) -> int:
    """Return how many bytes follow a frame's head."""
    (length,) = LENGTH.unpack(head)
    return int(length)


def read_order(payload: bytes) -> ToWorker:
    """Read what the gateway sent. Raises msgspec.MsgspecError."""
    return _TO_WORKER.decode(payload)


def read_report(payload: bytes) -> FromWorker:
    """Read what the worker sent. Raises msgspec.MsgspecError."""
    return _FROM_WORKER.decode(payload)
