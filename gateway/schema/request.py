"""OpenAI request bodies: decode the fields the walk reads, leave all others as the bytes they came in.

Two decodes of one body: typed structs for what is read, raw fields for what travels on. Depth is bounded by the
decoder's own recursion guard, size by whoever read the body, numbers by the types below.
Source: https://platform.openai.com/docs/api-reference.
"""

from collections.abc import Iterable, Iterator
from enum import StrEnum
from typing import Annotated, Final

import msgspec

from gateway.schema.conversation import Conversation, Turn


class Operation(StrEnum):
    """What a request asks for, by OpenTelemetry's GenAI operation names."""

    CHAT = "chat"
    COMPLETION = "text_completion"
    EMBEDDING = "embeddings"


class Need(msgspec.Struct, frozen=True, gc=False):
    """A capability the request asks for, and the field (`param`) that asks for it."""

    capability: str
    param: str


class Request(msgspec.Struct, frozen=True):
    """One request body, read once. `fields` holds every top-level field as raw JSON."""

    operation: Operation
    model: str
    is_streaming: bool
    wants_usage: bool
    conversation: Conversation
    needs: tuple[Need, ...]
    max_tokens: int
    fields: dict[str, msgspec.Raw]


TokenBound = Annotated[int, msgspec.Meta(ge=0, le=2**31)]
ChoiceCount = Annotated[int, msgspec.Meta(ge=1, le=128)]
# Bounds far above what anyone sends: decoding is one call that nothing else can interrupt, nor a thread take off the
# event loop, as it holds the interpreter's lock. Without them 10 MiB of tiny elements took up to 2.3 s.
PromptList = Annotated[list[msgspec.Raw], msgspec.Meta(max_length=100_000)]
"""Prompts, or the token ids of one."""
ToolList = Annotated[list[msgspec.Raw], msgspec.Meta(max_length=2_000)]
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=512)]


NULL = msgspec.Raw(b"null")
"""What a raw field holds when it is missing."""


class _StreamOptions(msgspec.Struct):
    include_usage: bool | None = None


class _Part(msgspec.Struct):
    type: str
    text: str | None = None
    refusal: str | None = None


class _Message(msgspec.Struct):
    role: str
    content: str | Annotated[list[_Part], msgspec.Meta(max_length=2_000)] | None = None
    tool_calls: msgspec.Raw = NULL
    function_call: msgspec.Raw = NULL


class _ResponseFormat(msgspec.Struct):
    type: str


class _ChatBody(msgspec.Struct):
    model: Name
    messages: Annotated[list[_Message], msgspec.Meta(min_length=1, max_length=20_000)]
    stream: bool | None = None
    stream_options: _StreamOptions | None = None
    tools: ToolList | None = None
    functions: ToolList | None = None
    response_format: _ResponseFormat | None = None
    n: ChoiceCount | None = None
    logprobs: bool | None = None
    modalities: Annotated[list[str], msgspec.Meta(max_length=100)] | None = None
    max_tokens: TokenBound | None = None
    max_completion_tokens: TokenBound | None = None


class _CompletionBody(msgspec.Struct):
    model: Name
    prompt: str | PromptList | None = None
    stream: bool | None = None
    stream_options: _StreamOptions | None = None
    n: ChoiceCount | None = None
    logprobs: Annotated[int, msgspec.Meta(ge=0, le=100)] | None = None
    max_tokens: TokenBound | None = None


class _EmbeddingBody(msgspec.Struct):
    model: Name
    input: str | Annotated[PromptList, msgspec.Meta(min_length=1)]


_CHAT: Final = Operation.CHAT
_chat = msgspec.json.Decoder(_ChatBody)
_completion = msgspec.json.Decoder(_CompletionBody)
_embedding = msgspec.json.Decoder(_EmbeddingBody)
_fields = msgspec.json.Decoder(Annotated[dict[str, msgspec.Raw], msgspec.Meta(max_length=1_000)])
_text = msgspec.json.Decoder(str)

_FIELDS_OF_PROMPT = ("tools", "functions", "response_format")
TEXT_PARTS = frozenset({"text", "input_text", "output_text", "refusal"})
"""The parts of a message that hold text; any other is an attachment."""
_NEED_OF_PART = {"image_url": "vision", "input_image": "vision", "input_audio": "audio"}


def decode_request(operation: Operation, body: bytes) -> Request:
    """Decode a body.

    Raises:
        msgspec.DecodeError: not JSON, or (`msgspec.ValidationError`) a field of the wrong type or out of bounds.
        UnicodeDecodeError: not UTF-8.
        RecursionError: nested too deep.
    """
    if not body.isascii():
        body.decode()
    return _READERS[operation](body)


def _read_chat(body: bytes) -> Request:
    chat, fields = _chat.decode(body), _fields.decode(body)
    return Request(
        operation=_CHAT,
        model=chat.model,
        is_streaming=bool(chat.stream),
        wants_usage=_wants_usage(chat.stream_options),
        conversation=_conversation_of(chat, fields),
        needs=_needs_of_chat(chat),
        max_tokens=chat.max_completion_tokens or chat.max_tokens or 0,
        fields=fields,
    )


def _read_completion(body: bytes) -> Request:
    completion = _completion.decode(body)
    needs = [Need("n", "n")] if (completion.n or 1) > 1 else []
    if completion.logprobs is not None:
        needs.append(Need("logprobs", "logprobs"))
    return Request(
        operation=Operation.COMPLETION,
        model=completion.model,
        is_streaming=bool(completion.stream),
        wants_usage=_wants_usage(completion.stream_options),
        conversation=_as_user_turns(completion.prompt),
        needs=tuple(needs),
        max_tokens=completion.max_tokens or 0,
        fields=_fields.decode(body),
    )


def _read_embedding(body: bytes) -> Request:
    embedding = _embedding.decode(body)
    return Request(
        operation=Operation.EMBEDDING,
        model=embedding.model,
        is_streaming=False,
        wants_usage=False,
        conversation=_as_user_turns(embedding.input),
        needs=(Need("embeddings", "model"),),
        max_tokens=0,
        fields=_fields.decode(body),
    )


_READERS = {
    Operation.CHAT: _read_chat,
    Operation.COMPLETION: _read_completion,
    Operation.EMBEDDING: _read_embedding,
}


def _wants_usage(options: _StreamOptions | None) -> bool:
    return options is not None and bool(options.include_usage)


def _conversation_of(chat: _ChatBody, fields: dict[str, msgspec.Raw]) -> Conversation:
    # A loop, as two generators a message took 2 µs of a short chat.
    turns, attachment_count, json_bytes = [], 0, 0
    for message in chat.messages:
        content = message.content
        if isinstance(content, str):
            turns.append(Turn(message.role, content))
        else:
            turns.append(Turn(message.role, _text_of(content or ())))
            attachment_count += sum(part.type not in TEXT_PARTS for part in content or ())
        if message.tool_calls is not NULL or message.function_call is not NULL:
            json_bytes += _count_json(message.tool_calls) + _count_json(message.function_call)
    for name in _FIELDS_OF_PROMPT:
        if name in fields:
            json_bytes += _count_json(fields[name])
    tool_count = len(chat.tools or ()) + len(chat.functions or ())
    return Conversation(tuple(turns), tool_count, attachment_count, json_bytes=json_bytes)


def _count_json(raw: msgspec.Raw) -> int:
    written = bytes(raw)
    return 0 if written == b"null" else len(written)


def _text_of(parts: Iterable[_Part]) -> str:
    return "\n".join(text for part in parts if (text := part.text or part.refusal))


def _needs_of_chat(chat: _ChatBody) -> tuple[Need, ...]:
    needs = []
    if chat.tools:
        needs.append(Need("tools", "tools"))
    if chat.functions:
        needs.append(Need("tools", "functions"))
    if chat.response_format is not None and chat.response_format.type == "json_schema":
        needs.append(Need("json_schema", "response_format"))
    if chat.n is not None and chat.n > 1:
        needs.append(Need("n", "n"))
    if chat.logprobs:
        needs.append(Need("logprobs", "logprobs"))
    if chat.modalities is not None and "audio" in chat.modalities:
        needs.append(Need("audio", "modalities"))
    for message in chat.messages:
        if isinstance(message.content, list):
            return (*needs, *_needs_of_parts(chat))
    return tuple(needs)


def _needs_of_parts(chat: _ChatBody) -> Iterator[Need]:
    contents = [message.content for message in chat.messages if isinstance(message.content, list)]
    asked = {_NEED_OF_PART.get(part.type) for content in contents for part in content}
    return (Need(capability, "messages") for capability in ("vision", "audio") if capability in asked)


def _as_user_turns(prompts: str | list[msgspec.Raw] | None) -> Conversation:
    """Read prompts given as text; of those given as token ids, one list or several, only their lengths can be told."""
    if prompts is None or isinstance(prompts, str):
        return Conversation((Turn("user", prompts or ""),))
    texts = [raw for raw in prompts if bytes(raw).startswith(b'"')]
    lists = [raw for raw in prompts if bytes(raw).startswith(b"[")]
    bare_ids = len(prompts) - len(texts) - len(lists)
    lengths = (*(_count_ids(bytes(raw)) for raw in lists), *([bare_ids] if bare_ids else []))
    return Conversation(tuple(Turn("user", _text.decode(raw)) for raw in texts), token_counts=lengths)


def _count_ids(ids: bytes) -> int:
    # By their commas: decoding millions of them takes twenty times as long, and nobody reads them here.
    return ids.count(b",") + 1 if ids[1:-1].strip() else 0
