"""Log probabilities in chat answers: read the first choice's, and take out what a client did not ask for.

Servers differ and some lie: whatever is no log probability is passed over, never raised. Source: OpenAI's chat
reference (`choices[].logprobs.content[].logprob`; -9999.0 stands for a token outside the 20 likeliest); older vLLM
sent the legacy `token_logprobs` for chat too (vllm-project/vllm#3179).
"""

import re
from collections.abc import Iterable

import msgspec

from gateway.schema.sse import data_of, event_of

NULL = msgspec.Raw(b"null")
MAX_LOGPROB = 0.01
"""Servers round, so a certain token may come out a little above 0; what is further above is none."""

_NOTHING = frozenset({b"null", b'""', b"[]", b"{}"})
_TEXTS = ("content", "refusal", "reasoning_content", "reasoning", "tool_calls", "function_call")
# Python servers write these for numbers that JSON has none for. Strings are matched to be left alone.
_STRING_OR_NO_NUMBER = re.compile(rb'"(?:[^"\\]|\\.)*"|-?\b(?:NaN|Infinity)\b')


class Said(msgspec.Struct, frozen=True, gc=False):
    """What a body or chunk says: its tokens' log probabilities, how many had an unreadable one, and how it ends."""

    logprobs: tuple[float, ...] = ()
    unreadable_count: int = 0
    has_text: bool = False
    finish_reason: str | None = None


class _Choice(msgspec.Struct):
    delta: dict[str, msgspec.Raw] | None = None
    message: dict[str, msgspec.Raw] | None = None
    logprobs: msgspec.Raw = NULL
    finish_reason: msgspec.Raw = NULL


class _Answer(msgspec.Struct):
    choices: list[_Choice] | None = None


class _Logprobs(msgspec.Struct):
    content: msgspec.Raw = NULL
    refusal: msgspec.Raw = NULL
    token_logprobs: msgspec.Raw = NULL


class _Token(msgspec.Struct):
    logprob: float


_answer = msgspec.json.Decoder(_Answer)
_fields = msgspec.json.Decoder(dict[str, msgspec.Raw])
_choices = msgspec.json.Decoder(list[dict[str, msgspec.Raw]])
_logprobs = msgspec.json.Decoder(_Logprobs)
_list = msgspec.json.Decoder(list[msgspec.Raw])
_token = msgspec.json.Decoder(_Token)
_number = msgspec.json.Decoder(float)
_text = msgspec.json.Decoder(str)

_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def read_said(payload: bytes, limit: int) -> Said:
    """Read a whole body or the payload of a chunk; at most `limit` tokens of it. What can't be read says nothing."""
    try:
        answer = _answer.decode(_sane(payload))
    except _UNREADABLE:
        return Said()
    if not answer.choices:
        return Said()
    choice = answer.choices[0]
    entries = _entries_of(choice.logprobs)[:limit]
    found = tuple(logprob for entry in entries if (logprob := _logprob_of(entry)) is not None)
    spoken = choice.delta or choice.message or {}
    return Said(
        logprobs=found,
        unreadable_count=len(entries) - len(found),
        has_text=any(bytes(spoken.get(name, NULL)) not in _NOTHING for name in _TEXTS),
        finish_reason=_decode_text(choice.finish_reason),
    )


def _entries_of(raw: msgspec.Raw) -> list[msgspec.Raw]:
    """Return the raw tokens of a `logprobs` object; a refusal's count like any other text's."""
    try:
        told = _logprobs.decode(raw)
        for entries in (told.content, told.refusal, told.token_logprobs):
            if bytes(entries) not in _NOTHING:
                return _list.decode(entries)
    except _UNREADABLE:
        pass
    return []


def _logprob_of(entry: msgspec.Raw) -> float | None:
    try:
        found = _token.decode(entry).logprob if bytes(entry).startswith(b"{") else _number.decode(entry)
    except _UNREADABLE:
        return None
    return min(found, 0.0) if found <= MAX_LOGPROB else None


def _decode_text(raw: msgspec.Raw) -> str | None:
    try:
        return _text.decode(raw)
    except _UNREADABLE:
        return None


def _sane(payload: bytes) -> bytes:
    """Return JSON with null where a server wrote NaN or Infinity."""
    if b"NaN" not in payload and b"Infinity" not in payload:
        return payload
    return _STRING_OR_NO_NUMBER.sub(lambda found: found[0] if found[0].startswith(b'"') else b"null", payload)


def strip_body(body: bytes) -> bytes:
    """Return a whole body with `"logprobs": null`, all other bytes as they came."""
    return _strip(body, body)


def strip_event(event: bytes) -> bytes:
    """Return one event of a stream with `"logprobs": null`, all other bytes as they came."""
    if b'"logprobs"' not in event:
        return event
    return _strip(event, data_of(event))


def _strip(text: bytes, payload: bytes) -> bytes:
    """Take the log probabilities of `payload` out of `text`, which holds it."""
    try:
        fields = _fields.decode(_sane(payload))
        choices = _choices.decode(fields["choices"])
    except (*_UNREADABLE, KeyError):
        return text
    told = [bytes(choice["logprobs"]) for choice in choices if bytes(choice.get("logprobs", NULL)) != b"null"]
    cut = _cut_out(_sane(text), told) if told else text
    return _rewrite(text is payload, fields, choices) if cut is None else cut


def _cut_out(text: bytes, values: Iterable[bytes]) -> bytes | None:
    """Put null for each value under the key `logprobs`; None where one can't be found."""
    for value in values:
        at = text.find(value)
        while at >= 0 and not _is_under_key(text[:at]):
            at = text.find(value, at + 1)
        if at < 0:
            return None
        text = text[:at] + b"null" + text[at + len(value) :]
    return text


def _is_under_key(before: bytes) -> bool:
    # Inside a string this can't match: the key's closing quote would be escaped there.
    before = before.rstrip()
    return before.endswith(b":") and before[:-1].rstrip().endswith(b'"logprobs"')


def _rewrite(is_body: bool, fields: dict[str, msgspec.Raw], choices: list[dict[str, msgspec.Raw]]) -> bytes:
    """Write it anew: an upstream sent one object in several `data:` lines, or named the key by escapes."""
    bare = [{**choice, "logprobs": NULL} if "logprobs" in choice else choice for choice in choices]
    fields["choices"] = msgspec.Raw(msgspec.json.encode(bare))
    return msgspec.json.encode(fields) if is_body else event_of(fields)
