"""OpenAI response bodies and chunks: the fields that accounting and caching read."""

import msgspec

ABSENT = msgspec.Raw(b"null")
"""What a raw field holds when it is missing; msgspec takes `Raw | None` to mean null alone."""


class _PromptDetails(msgspec.Struct):
    cached_tokens: int | None = None


class WireUsage(msgspec.Struct):
    """Token counts as an upstream tells them; every field may be missing. `is_estimated` is told by engines of ours."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: _PromptDetails | None = None
    is_estimated: bool | None = None


class _Choice(msgspec.Struct):
    index: msgspec.Raw = msgspec.Raw(b"0")
    finish_reason: str | None = None


class WireError(msgspec.Struct):
    """An error as OpenAI-compatible servers tell it."""

    message: str | None = None
    type: str | None = None
    param: str | None = None
    code: str | int | None = None


class Answer(msgspec.Struct):
    """A whole response body, or one chunk of a stream.

    `error` is raw: servers put texts and objects there. So is `usage`: an answer stands even if its counts are lies.
    """

    usage: msgspec.Raw = ABSENT
    choices: list[_Choice] | None = None
    data: msgspec.Raw = ABSENT
    error: msgspec.Raw = ABSENT
    object: str | None = None

    @property
    def is_error(self) -> bool:
        """Tell whether this is an error in the clothes of an answer."""
        return self.object == "error" or bytes(self.error) != b"null"

    def finish_reasons(self) -> list[str]:
        """Return why the choices that have ended did so."""
        return [choice.finish_reason for choice in self.choices or () if choice.finish_reason]


class _ErrorBody(msgspec.Struct):
    error: WireError


_answer = msgspec.json.Decoder(Answer)
_answers = msgspec.json.Decoder(list[Answer])
_usage: msgspec.json.Decoder[WireUsage | None] = msgspec.json.Decoder(WireUsage | None)
_error = msgspec.json.Decoder(_ErrorBody)
_flat_error = msgspec.json.Decoder(WireError)


def decode_answer(payload: bytes) -> Answer:
    """Decode a body or a chunk's payload. Raises msgspec.DecodeError, UnicodeDecodeError or RecursionError."""
    return _answer.decode(payload)


def decode_answers(payloads: bytes) -> list[Answer]:
    """Decode a JSON array of them. Raises as `decode_answer`."""
    return _answers.decode(payloads)


def decode_usage(raw: msgspec.Raw) -> WireUsage | None:
    """Read token counts; what is none gives None."""
    try:
        return _usage.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def decode_error(payload: bytes) -> WireError:
    """Read an error body; anything that isn't one gives an empty error."""
    for decoder in (_error, _flat_error):
        try:
            found = decoder.decode(payload)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            continue
        return found.error if isinstance(found, _ErrorBody) else found
    return WireError()
