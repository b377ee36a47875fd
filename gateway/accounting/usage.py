"""Token counts: read from what upstreams send, or estimated where they send none."""

from collections.abc import Callable

import msgspec

from gateway.core.context import Usage
from gateway.core.reply import Spent
from gateway.core.tokens import CHARACTERS_PER_TOKEN, estimate_tokens
from gateway.schema.response import ABSENT, Answer, decode_answer, decode_usage
from gateway.schema.sse import DONE, data_of, event_of, events_in

CostOf = Callable[[Usage], float]
"""USD that a usage costs this client."""

MAX_TOKENS = 2**40
"""A count above this is a lie; counters must not be poisoned by one answer."""


def usage_of(answer: Answer) -> Usage | None:
    """Return the usage that an answer tells, if every count in it is sane; None where there is none to trust."""
    wire = decode_usage(answer.usage)
    if wire is None or wire.prompt_tokens is None:
        return None
    prompt, completion = wire.prompt_tokens, wire.completion_tokens or 0
    details = wire.prompt_tokens_details
    cached = (details.cached_tokens or 0) if details else 0
    if not (0 <= prompt <= MAX_TOKENS and 0 <= completion <= MAX_TOKENS):
        return None
    return Usage(prompt, completion, min(max(cached, 0), prompt), is_estimated=bool(wire.is_estimated))


class _Choice(msgspec.Struct):
    message: dict[str, msgspec.Raw] | None = None
    text: msgspec.Raw = ABSENT


class _Choices(msgspec.Struct):
    choices: list[_Choice] | None = None


_choices = msgspec.json.Decoder(_Choices)
_text = msgspec.json.Decoder(str)

_GENERATED = ("content", "reasoning_content", "reasoning", "refusal", "tool_calls", "function_call")
"""The fields of a message that a model writes; vLLM and others tell its thoughts under the second or third name."""


def usage_of_body(body: bytes, prompt_tokens: int, answer: Answer | None = None) -> Usage:
    """Return the usage that a whole body tells; else an estimate from the prompt's estimate and the choices' texts.

    `answer`: the body, where it has been decoded already.
    """
    return usage_of(answer or decode_answer(body)) or Usage(
        prompt_tokens, _estimate_completion_tokens(body), is_estimated=True
    )


def _estimate_completion_tokens(body: bytes) -> int:
    try:
        choices = _choices.decode(body).choices or []
    except msgspec.ValidationError:
        return len(body) // CHARACTERS_PER_TOKEN
    return sum(_estimate_raw_tokens(raw) for choice in choices for raw in _generated(choice))


def _generated(choice: _Choice) -> list[msgspec.Raw]:
    message = choice.message or {}
    return [choice.text, *(message.get(name, ABSENT) for name in _GENERATED)]


def _estimate_raw_tokens(raw: msgspec.Raw) -> int:
    written = bytes(raw)
    if written == b"null":
        return 0
    try:
        return estimate_tokens(_text.decode(written))
    except (msgspec.DecodeError, UnicodeDecodeError):
        return -(-len(written) // CHARACTERS_PER_TOKEN)


class UsageTap:
    """Read the usage out of a passing stream, and shape it as the client asked for it.

    Every stream is asked to tell its usage. A client that did not ask must not see it; one that did finds
    `cost_usd` in it. Other bytes pass as they came.
    """

    __slots__ = ("_cost_of", "_event_count", "_is_wanted", "_last", "usage")

    def __init__(self, *, is_wanted: bool, cost_of: CostOf) -> None:
        self._is_wanted = is_wanted
        self._cost_of = cost_of
        self.usage: Usage | None = None
        self._event_count = 0
        self._last = b""

    @property
    def chunk_count(self) -> int:
        """Return how many chunks have passed that hold something: neither `[DONE]` nor a usage alone."""
        return self._event_count - self._last.endswith(DONE)

    def pass_on(self, block: bytes) -> bytes:
        """Return what the client may see of a block of whole events."""
        self._event_count += block.startswith(b"data:") + block.count(b"\ndata:")
        self._last = block
        at = block.find(b'"usage"')
        if at < 0:
            return block
        # A stored stream is one block, and tells its usage at the end: the events before that one need no look.
        border = block.rfind(b"\n\n", 0, at)
        start = 0 if border < 0 else border + 2
        return block[:start] + b"".join(self._pass_event(event) for event in events_in(block[start:]))

    def usage_or_estimate(self, prompt_tokens: int) -> Usage:
        """Return the usage told, else an estimate: servers send about one event a token."""
        return self.usage or Usage(prompt_tokens, self.chunk_count, is_estimated=True)

    def _pass_event(self, event: bytes) -> bytes:
        if b'"usage"' not in event:
            return event
        payload = data_of(event)
        try:
            answer = decode_answer(payload)
            fields = msgspec.json.decode(payload, type=dict[str, msgspec.Raw])
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return event
        if "usage" not in fields:
            return event
        self._event_count -= not answer.choices
        found = usage_of(answer)
        self.usage = found or self.usage
        return self._reshape(event, answer, fields, found)

    def _reshape(self, event: bytes, answer: Answer, fields: dict[str, msgspec.Raw], found: Usage | None) -> bytes:
        if self._is_wanted:
            if found is None:
                return event
            told = msgspec.json.decode(fields["usage"], type=dict[str, msgspec.Raw])
            told["cost_usd"] = msgspec.Raw(msgspec.json.encode(self._cost_of(found)))
            fields["usage"] = msgspec.Raw(msgspec.json.encode(told))
        elif not answer.choices and found is not None:
            return b""
        else:
            del fields["usage"]
        return event_of(fields)


def usage_of_spent(spent: Spent, prompt_tokens: int) -> Usage:
    """Return the usage of an answer that was given up: told where all of it had come, else an estimate.

    Servers bill what they made before they noticed; that is at least what was read.
    """
    if not spent.is_streaming:
        return usage_of_body(spent.body, prompt_tokens)
    tap = UsageTap(is_wanted=False, cost_of=lambda _: 0.0)
    tap.pass_on(spent.body)
    return tap.usage or Usage(prompt_tokens, spent.token_count or tap.chunk_count, is_estimated=True)
