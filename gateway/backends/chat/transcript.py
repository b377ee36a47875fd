"""One answer as it is written: pieces in, what a client may see of them out. Streamed or not, the same way."""

from collections import deque
from collections.abc import Iterable
from typing import Any

import msgspec

from gateway.backends.chat.stops import StopTrimmer
from gateway.backends.chat.tool_calls import CallDelta, ToolCalls
from gateway.backends.engine import Piece, Sampling, TokenLogprob


class Delta(msgspec.Struct, frozen=True):
    """A bit of an answer: text, or a bit of a tool call; `tokens` have come since the delta before."""

    text: str = ""
    call: CallDelta | None = None
    tokens: tuple[TokenLogprob, ...] = ()


class Transcript:
    """Trims stop strings, finds tool calls, counts tokens, and keeps each token's log probability with its text."""

    def __init__(self, sampling: Sampling, calls: ToolCalls | None) -> None:
        self._max_tokens = sampling.max_tokens
        self._trimmer = StopTrimmer(sampling.stop)
        self._calls = calls
        self._texts: list[str] = []
        self._written = 0
        self._shown = 0
        self._tokens: deque[tuple[int, TokenLogprob]] = deque()
        self._has_calls = False
        self._finish_reason: str | None = None
        self.prompt_tokens: int | None = None
        self.completion_tokens: int | None = 0

    @property
    def is_over(self) -> bool:
        """Tell whether nothing more can come, whatever the engine goes on to write."""
        return self._trimmer.has_stopped or (self._calls is not None and self._calls.is_full)

    @property
    def text(self) -> str:
        """Return all that the engine wrote, what was trimmed included."""
        return "".join(self._texts)

    def add(self, piece: Piece) -> list[Delta]:
        """Take the next piece; return what can be shown now."""
        self._count(piece)
        at = self._written
        for token in piece.logprobs:
            self._tokens.append((at, token))
            at += len(token.text)
        self._written += len(piece.text)
        self._texts.append(piece.text)
        return self._show(self._trimmer.feed(piece.text), is_end=False)

    def end(self) -> list[Delta]:
        """Return what was held back: nothing comes any more."""
        return self._show(self._trimmer.end(), is_end=True)

    def finish_reason(self, completion_tokens: int | None) -> str:
        """Return OpenAI's reason. An engine that tells none has stopped of itself, unless it came to the bound."""
        reason = "stop" if self.is_over else self._finish_reason
        if reason is None:
            is_cut = completion_tokens is not None and completion_tokens >= self._max_tokens
            reason = "length" if is_cut else "stop"
        return "tool_calls" if self._has_calls and reason == "stop" else reason

    def _count(self, piece: Piece) -> None:
        self._finish_reason = piece.finish_reason or self._finish_reason
        if piece.prompt_tokens is not None:
            self.prompt_tokens = piece.prompt_tokens
        if self.completion_tokens is not None:
            is_counted = piece.token_count is not None or not piece.text
            self.completion_tokens = self.completion_tokens + (piece.token_count or 0) if is_counted else None

    def _show(self, text: str, *, is_end: bool) -> list[Delta]:
        self._shown += len(text)
        found: list[Delta] = []
        for one in self._split(text, is_end=is_end):
            is_call = isinstance(one, CallDelta)
            self._has_calls = self._has_calls or is_call
            tokens = self._take_tokens(is_end=is_end)
            found.append(Delta(call=one, tokens=tokens) if isinstance(one, CallDelta) else Delta(one, tokens=tokens))
        if is_end and (left := self._take_tokens(is_end=True)):
            found.append(Delta(tokens=left))
        return found

    def _split(self, text: str, *, is_end: bool) -> Iterable[str | CallDelta]:
        if self._calls is None:
            return (text,) if text else ()
        found = self._calls.feed(text)
        return [*found, *self._calls.end()] if is_end else found

    def _take_tokens(self, *, is_end: bool) -> tuple[TokenLogprob, ...]:
        """Return the tokens of what is shown by now. Those behind a stop string are nobody's."""
        taken: list[Any] = []
        takes_all = is_end and not self._trimmer.has_stopped
        while self._tokens and (takes_all or self._tokens[0][0] < self._shown):
            taken.append(self._tokens.popleft()[1])
        return tuple(taken)
