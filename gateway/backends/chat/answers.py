"""OpenAI's answers: whole bodies and chunks, for chats and completions. Pure.

Source: OpenAI's API reference, chat and completions. `system_fingerprint` is left out: nobody here knows one.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from gateway.backends.engine import TokenLogprob
from gateway.schema.request import Operation
from gateway.schema.sse import DONE, event_of

LEAST_LOGPROB = -9999.0
"""What OpenAI writes for a token that is hardly possible; JSON has no infinity."""

Choice = dict[str, Any]


class Head(msgspec.Struct, frozen=True):
    """What all of one answer's bodies and chunks begin with."""

    operation: Operation
    answer_id: str
    created: int
    model: str

    def _fields(self, *, is_chunk: bool) -> dict[str, Any]:
        is_chat = self.operation is Operation.CHAT
        kind = "text_completion" if not is_chat else "chat.completion.chunk" if is_chunk else "chat.completion"
        prefix = "chatcmpl" if is_chat else "cmpl"
        return {"id": f"{prefix}-{self.answer_id}", "object": kind, "created": self.created, "model": self.model}

    def body(self, choice: Choice, usage: Mapping[str, int | bool]) -> bytes:
        """Return a whole body."""
        return msgspec.json.encode({**self._fields(is_chunk=False), "choices": [choice], "usage": usage})

    def chunk(self, choice: Choice) -> bytes:
        """Return one event of a stream."""
        return event_of({**self._fields(is_chunk=True), "choices": [choice]})

    def end(self, usage: Mapping[str, int | bool]) -> bytes:
        """Return the end of a stream: its usage, and `[DONE]`."""
        told = event_of({**self._fields(is_chunk=True), "choices": [], "usage": usage})
        return told + DONE


def usage_of(prompt_tokens: int, completion_tokens: int, *, is_estimated: bool = False) -> dict[str, int | bool]:
    """Return OpenAI's usage; `is_estimated` is ours, and there only where a count is an estimate."""
    usage: dict[str, int | bool] = {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
    }
    return {**usage, "is_estimated": True} if is_estimated else usage


def chat_logprobs(tokens: Sequence[TokenLogprob]) -> dict[str, Any]:
    """Return log probabilities in a chat's shape."""
    return {"content": [_chat_token(token) for token in tokens], "refusal": None}


def _chat_token(token: TokenLogprob) -> dict[str, Any]:
    top = [_alternative(text, logprob) for text, logprob in token.top]
    return {**_alternative(token.text, token.logprob), "top_logprobs": top}


def _alternative(text: str, logprob: float) -> dict[str, Any]:
    return {"token": text, "logprob": _finite(logprob), "bytes": list(text.encode("utf-8", "replace"))}


def completion_logprobs(tokens: Sequence[TokenLogprob], offset: int) -> dict[str, Any]:
    """Return log probabilities in a completion's shape; `offset` is where the first token begins in the text."""
    offsets, at = [], offset
    for token in tokens:
        offsets.append(at)
        at += len(token.text)
    return {
        "tokens": [token.text for token in tokens],
        "token_logprobs": [_finite(token.logprob) for token in tokens],
        "top_logprobs": [{text: _finite(logprob) for text, logprob in token.top} for token in tokens],
        "text_offset": offsets,
    }


def _finite(logprob: float) -> float:
    # In this order NaN, which is greater than nothing, becomes the least, too.
    return max(LEAST_LOGPROB, logprob)
