"""The seam under the backends that speak to a bare model: a prompt in, pieces of text out.

An engine knows nothing of chats, tools, choices or events; `EngineBackend` makes OpenAI's answers of its pieces.
"""

from collections.abc import AsyncGenerator, Mapping
from typing import Protocol

import msgspec

from gateway.backends.backend import Health


class Sampling(msgspec.Struct, frozen=True):
    """How to generate, in the field's terms; None leaves it to the model's server.

    `logprobs`: how many alternatives to tell beside the chosen token, 0 for none but the chosen; None tells nothing.
    `schema`: a JSON schema, as JSON, that the text must follow.
    """

    max_tokens: int
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    min_tokens: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    repetition_penalty: float | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()
    logit_bias: Mapping[str, float] | None = None
    logprobs: int | None = None
    schema: bytes | None = None


class Task(msgspec.Struct, frozen=True):
    """One text to generate. `deadline_s`, on the event loop's clock, bounds it as a whole.

    `trace_headers`: the trace it belongs to, for engines that are servers.
    """

    task_id: str
    prompt: str
    sampling: Sampling
    is_streaming: bool
    deadline_s: float
    trace_headers: Mapping[str, str] = {}


class TokenLogprob(msgspec.Struct, frozen=True):
    """A token's text and log probability; `top` holds the alternatives, likeliest first."""

    text: str
    logprob: float
    top: tuple[tuple[str, float], ...] = ()


class Piece(msgspec.Struct, frozen=True):
    """What an engine gives at a time; `text` may be empty, and never ends inside a character.

    `token_count`: the tokens of this piece, None where nobody counted. `prompt_tokens`: told once, with any piece.
    `finish_reason`: `stop` or `length`, with the last piece only; an engine that can't tell leaves it to whoever
    counts.
    """

    text: str = ""
    token_count: int | None = None
    prompt_tokens: int | None = None
    finish_reason: str | None = None
    logprobs: tuple[TokenLogprob, ...] = ()


class Engine(Protocol):
    """One replica of a bare model."""

    url: str

    def generate(self, task: Task) -> AsyncGenerator[Piece, None]:
        """Yield pieces as they come; the generator's end is the answer's.

        Not streamed, one piece may hold everything. Closing the generator, or cancelling, stops the work in the model.
        Raises `UpstreamError` (of a kind of its own for each fault) or `UpstreamRejectionError`. Bounds no wait:
        whoever calls does.
        """
        ...

    async def look(self) -> Health | None:
        """Ask the replica how it is. Never raises but for a cancellation."""
        ...

    async def close(self) -> None:
        """Let go of connections and processes."""
        ...
