"""Messages as chat templates expect them: OpenAI's shapes made plain.

As vLLM does (`vllm/entrypoints/chat_utils.py`): content becomes text, or stays a list of parts where the template reads
lists, the arguments of earlier tool calls become objects. Whatever else a message holds is left out: templates read
fields that no one has checked.
"""

import re
from collections.abc import Sequence
from typing import Annotated, Any

import msgspec

from gateway.core.errors import InvalidValueError
from gateway.schema.request import TEXT_PARTS

Role = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z_]{1,32}$")]
SHORT_ID_CHARACTERS = 9


_NO_ID_LETTER = re.compile(r"[^A-Za-z0-9]")


class _Part(msgspec.Struct):
    type: str
    text: str | None = None
    refusal: str | None = None


class _Function(msgspec.Struct):
    name: str
    arguments: str | dict[str, Any] | None = None


class _ToolCall(msgspec.Struct):
    function: _Function
    id: str | None = None


class _Message(msgspec.Struct):
    role: Role
    content: str | list[_Part] | None = None
    name: str | None = None
    tool_calls: list[_ToolCall] | None = None
    tool_call_id: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None


class Manner(msgspec.Struct, frozen=True):
    """What a template reads.

    `reads_lists`: content as lists of parts. `knows_developer`: the role of that name; others take it as `system`.
    `wants_short_ids`: Mistral's takes call ids of 9 letters and digits only; a conversation may come from any model.
    """

    reads_lists: bool = False
    knows_developer: bool = False
    wants_short_ids: bool = False


_messages = msgspec.json.Decoder(list[_Message])


def read_messages(raw: bytes, manner: Manner) -> list[dict[str, Any]]:
    """Return a request's messages as a template expects them.

    Raises:
        InvalidValueError: a message is not OpenAI's, or holds what is no text.
    """
    try:
        found = _messages.decode(raw)
    except msgspec.ValidationError as exc:
        raise InvalidValueError(f"messages: {exc}.", param="messages") from exc
    return [_plain(message, place, manner) for place, message in enumerate(found)]


def _plain(message: _Message, place: int, manner: Manner) -> dict[str, Any]:
    plain: dict[str, Any] = {"role": _role(message.role, manner), "content": _content(message, place, manner)}
    optional = {
        "name": message.name,
        "tool_call_id": _call_id(message.tool_call_id, manner),
        # Qwen3's template reads the first name, others the second; both are vLLM's.
        "reasoning_content": message.reasoning_content or message.reasoning,
        "reasoning": message.reasoning or message.reasoning_content,
        # An empty list must look like none: templates ask whether it is there.
        "tool_calls": [_call(call, manner) for call in message.tool_calls or ()] or None,
    }
    return plain | {name: value for name, value in optional.items() if value is not None}


def _role(role: str, manner: Manner) -> str:
    if role == "function":
        return "tool"
    return "system" if role == "developer" and not manner.knows_developer else role


def _content(message: _Message, place: int, manner: Manner) -> str | list[dict[str, str]]:
    if isinstance(message.content, str):
        text = message.content
    else:
        texts = _texts(message.content or (), place)
        # Templates that read lists write the parts without anything between; elsewhere a line each, as vLLM.
        text = ("" if manner.reads_lists else "\n").join(texts)
    # One part: a control token cut in two by a border of parts would be whole again in the prompt.
    return [{"type": "text", "text": text}] if manner.reads_lists else text


def _texts(parts: Sequence[_Part], place: int) -> list[str]:
    for part in parts:
        if part.type not in TEXT_PARTS:
            where = f"messages[{place}].content"
            raise InvalidValueError(f"{where}: this model reads text only, not '{part.type}'.", param=where)
    return [part.text or part.refusal or "" for part in parts]


def _call(call: _ToolCall, manner: Manner) -> dict[str, Any]:
    function = {"name": call.function.name, "arguments": _arguments(call.function.arguments)}
    call_id = _call_id(call.id, manner)
    return {"type": "function", "function": function} | ({} if call_id is None else {"id": call_id})


def _call_id(found: str | None, manner: Manner) -> str | None:
    """Return a call's id as the template takes it: of a long one the end, which is its most random part."""
    if found is None or not manner.wants_short_ids:
        return found
    return _NO_ID_LETTER.sub("", found)[-SHORT_ID_CHARACTERS:].rjust(SHORT_ID_CHARACTERS, "0")


def _arguments(written: str | dict[str, Any] | None) -> Any:
    """Return arguments as an object; a text that is none stays: it is what a model wrote, and must not block a chat."""
    if not isinstance(written, str):
        return written or {}
    try:
        return msgspec.json.decode(written) if written.strip() else {}
    except (msgspec.DecodeError, RecursionError):
        return written
