"""From responses to pieces: text, finish reason and token counts, which all dialects call the same."""

from typing import Protocol

from gateway.backends.engine import Piece, TokenLogprob
from gateway.backends.triton.text import TextReader
from gateway.backends.triton.wire import Outputs, Value

FINISHED = {"stop": "stop", "length": "length", "repetition": "stop"}
"""OpenAI's finish reasons by the servers'; `repetition`: vLLM stopped a model that went in circles."""
UNFINISHED = frozenset({"", "None"})
"""Both servers write Python's None until the last response."""
MOST_TOKENS = 10**9
"""No answer has so many: a count above, or below 0, is nonsense that would be billed."""


class GivenUpError(Exception):
    """The server ended an answer before its end: it aborted the request, or its own time limit ran out."""


class AnswerReader(Protocol):
    """Reads the responses to one request."""

    def read(self, outputs: Outputs) -> Piece:
        """Return what a response holds. Raises GivenUpError where it ends an answer that is not whole."""
        ...

    def rest(self) -> Piece | None:
        """Return what was held back, once all was read. Raises GivenUpError where the end should have been told."""
        ...


class Responses:
    """The reader of every dialect.

    `tells_end`: the model says when an answer is whole, so that one without an end has broken off.
    """

    def __init__(self, text: TextReader, *, tells_end: bool) -> None:
        self._text = text
        self._tells_end = tells_end
        self._has_prompt_tokens = False
        self._is_whole = False

    def read(self, outputs: Outputs) -> Piece:
        """Return what a response holds."""
        reason = self._finish_reason(outputs)
        return Piece(
            text=self._text.feed(bytes_of(outputs, "text_output"), is_last=reason is not None),
            token_count=_count_of(outputs, "num_output_tokens"),
            prompt_tokens=self._prompt_tokens(outputs),
            finish_reason=reason,
            logprobs=self._logprobs(outputs),
        )

    def rest(self) -> Piece | None:
        """Return what was held back."""
        if self._is_whole:
            return None
        if self._tells_end:
            raise GivenUpError("the responses ended before the answer")
        text = self._text.feed(b"", is_last=True)
        return Piece(text) if text else None

    def _finish_reason(self, outputs: Outputs) -> str | None:
        told = bytes_of(outputs, "finish_reason").decode("utf-8", "replace")
        if told in UNFINISHED:
            return None
        if told not in FINISHED:
            raise GivenUpError(f"it ended with finish reason {told[:40]}")
        self._is_whole = True
        return FINISHED[told]

    def _prompt_tokens(self, outputs: Outputs) -> int | None:
        """Return the prompt's count, once: the servers repeat it in every response."""
        count = None if self._has_prompt_tokens else _count_of(outputs, "num_input_tokens")
        self._has_prompt_tokens = self._has_prompt_tokens or count is not None
        return count

    def _logprobs(self, _: Outputs) -> tuple[TokenLogprob, ...]:
        """Return the tokens' log probabilities; most dialects tell none."""
        return ()


def bytes_of(outputs: Outputs, name: str) -> bytes:
    """Return the first element of an output, empty where there is none. One answer is asked for, so one is there."""
    first = _first(outputs, name)
    return first if isinstance(first, bytes) else b""


def _count_of(outputs: Outputs, name: str) -> int | None:
    first = _first(outputs, name)
    # Not a number is in no range.
    return int(first) if isinstance(first, int | float) and 0 <= first <= MOST_TOKENS else None


def _first(outputs: Outputs, name: str) -> Value | None:
    values = outputs.get(name)
    return values[0] if values else None
