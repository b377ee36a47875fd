"""From deltas to OpenAI's events, or to one body. Pure."""

from collections.abc import Iterable, Mapping
from typing import Any

from gateway.backends.chat.answers import Choice, Head, chat_logprobs, completion_logprobs
from gateway.backends.chat.tool_calls import CallDelta
from gateway.backends.chat.transcript import Delta
from gateway.backends.engine import TokenLogprob
from gateway.schema.request import Operation


class Writer:
    """Writes one answer."""

    def __init__(self, head: Head, *, tells_logprobs: bool) -> None:
        self._head = head
        self._is_chat = head.operation is Operation.CHAT
        self._tells_logprobs = tells_logprobs
        self._offset = 0

    def begin(self) -> bytes:
        """Return the event that begins a stream: a chat's role."""
        if not self._is_chat:
            return b""
        return self._event({"role": "assistant", "content": ""}, ())

    def events(self, deltas: Iterable[Delta]) -> bytes:
        """Return an event for each delta."""
        return b"".join(self._delta_event(delta) for delta in deltas)

    def end(self, finish_reason: str, usage: Mapping[str, int | bool]) -> bytes:
        """Return the end of a stream: its finish reason, its usage, and `[DONE]`."""
        end: Choice = {"delta": {}} if self._is_chat else {"text": ""}
        choice = {"index": 0, **end, "logprobs": None, "finish_reason": finish_reason}
        return self._head.chunk(choice) + self._head.end(usage)

    def body(self, deltas: Iterable[Delta], finish_reason: str, usage: Mapping[str, int | bool]) -> bytes:
        """Return a whole body."""
        told = list(deltas)
        text = "".join(delta.text for delta in told)
        said: Choice = {"message": _message(text, told)} if self._is_chat else {"text": text}
        tokens = tuple(token for delta in told for token in delta.tokens)
        logprobs = self._logprobs(tokens) if self._tells_logprobs else None
        return self._head.body({"index": 0, **said, "logprobs": logprobs, "finish_reason": finish_reason}, usage)

    def _delta_event(self, delta: Delta) -> bytes:
        if not self._is_chat:
            return self._event(delta.text, delta.tokens)
        if delta.call is not None:
            return self._event({"tool_calls": [_call_delta(delta.call)]}, delta.tokens)
        return self._event({"content": delta.text}, delta.tokens)

    def _event(self, said: dict[str, Any] | str, tokens: tuple[TokenLogprob, ...]) -> bytes:
        choice: Choice = {"index": 0, "text" if isinstance(said, str) else "delta": said}
        choice["logprobs"] = self._logprobs(tokens) if tokens and self._tells_logprobs else None
        choice["finish_reason"] = None
        return self._head.chunk(choice)

    def _logprobs(self, tokens: tuple[TokenLogprob, ...]) -> dict[str, Any]:
        if self._is_chat:
            return chat_logprobs(tokens)
        offset, self._offset = self._offset, self._offset + sum(len(token.text) for token in tokens)
        return completion_logprobs(tokens, offset)


def _call_delta(call: CallDelta) -> dict[str, Any]:
    if call.name is None:
        return {"index": call.index, "function": {"arguments": call.arguments}}
    function = {"name": call.name, "arguments": call.arguments}
    return {"index": call.index, "id": call.call_id, "type": "function", "function": function}


def _message(text: str, deltas: Iterable[Delta]) -> dict[str, Any]:
    calls: dict[int, dict[str, Any]] = {}
    for delta in deltas:
        if (call := delta.call) is None:
            continue
        if call.name is not None:
            function = {"name": call.name, "arguments": ""}
            calls[call.index] = {"id": call.call_id, "type": "function", "function": function}
        calls[call.index]["function"]["arguments"] += call.arguments
    # OpenAI's own null beside calls: clients tell by it that there is nothing to show.
    message = {"role": "assistant", "content": text if text or not calls else None, "refusal": None}
    return message | ({"tool_calls": list(calls.values())} if calls else {})
