"""What requests ask that a model's backend can't carry. Tables of fields, and rules for a few values; knows no backend.

`openai` passes every field on, and its server judges; `simulated` reads few and minds none. The others speak to a bare
model: a field that is in no row would silently be dropped there, so the model is not capable of that request.
"""

from collections.abc import Callable, Mapping
from typing import Final

import msgspec

from gateway.schema.request import NULL, Request
from gateway.settings.engines import Dialect
from gateway.settings.models import BackendKind, Capability, ModelSettings

COMMON: Final = frozenset(
    {
        *("model", "messages", "prompt", "stream", "stream_options", "max_tokens", "max_completion_tokens"),
        *("temperature", "top_p", "stop", "tools", "tool_choice", "parallel_tool_calls", "response_format"),
    }
)
"""Carried by every backend that speaks to a bare model, but for the values that the rules below refuse."""

HARMLESS: Final = frozenset(
    {
        *("user", "metadata", "store", "service_tier", "safety_identifier", "prediction"),
        *("prompt_cache_key", "prompt_cache_retention"),
        *("reasoning_effort", "chat_template_kwargs"),  # variables of the chat template
    }
)
"""What changes no answer where it is left out, or only the prompt's rendering."""

DEFAULTS: Final[Mapping[str, tuple[object, ...]]] = {
    "n": (1,),
    "best_of": (1,),
    "presence_penalty": (0,),
    "frequency_penalty": (0,),
    "repetition_penalty": (1,),
    "logit_bias": ({},),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "echo": (False,),
    "suffix": ("",),
    "functions": ([],),
    "modalities": (["text"], []),
    "verbosity": ("medium",),
    "top_k": (0, -1),
    "min_p": (0,),
    "min_tokens": (0,),
    "stop_token_ids": ([],),
    "ignore_eos": (False,),
    "skip_special_tokens": (True,),
    "add_generation_prompt": (True,),
}
"""Values that say what holds anyway: any model carries them. So does null, for every field."""

LONGEST_DEFAULT_BYTES: Final = 32
"""A value longer than any default is not decoded to find that it is none."""


class Row(msgspec.Struct, frozen=True):
    """What one kind of backend carries beyond COMMON; `can_guide`: it holds an answer to a JSON schema."""

    fields: frozenset[str]
    can_guide: bool

    @property
    def carried(self) -> frozenset[str]:
        """Return every field whose value need not be a default."""
        return COMMON | HARMLESS | self.fields

    @property
    def capabilities(self) -> frozenset[Capability]:
        """Return what a model behind such a backend can have among its `capabilities`."""
        told = {Capability.TOOLS}
        if self.can_guide:
            told.add(Capability.JSON_SCHEMA)
        if "logprobs" in self.fields:
            told.add(Capability.LOGPROBS)
        return frozenset(told)


ROWS: Final[Mapping[Dialect | BackendKind, Row]] = {
    Dialect.VLLM: Row(
        frozenset(
            {
                *("seed", "top_k", "min_p", "min_tokens", "presence_penalty", "frequency_penalty"),
                *("repetition_penalty", "logprobs", "top_logprobs"),
            }
        ),
        can_guide=True,
    ),
    Dialect.TRTLLM: Row(
        frozenset({"seed", "top_k", "min_tokens", "presence_penalty", "frequency_penalty", "repetition_penalty"}),
        can_guide=True,
    ),
    Dialect.LLMAPI: Row(frozenset({"seed", "top_k", "presence_penalty", "frequency_penalty"}), can_guide=False),
    BackendKind.ONNX: Row(frozenset({"seed", "top_k", "min_tokens", "repetition_penalty"}), can_guide=True),
}

_CARRIED: Final = {kind: row.carried for kind, row in ROWS.items()}
_NULL: Final = bytes(NULL)


class _Asked(msgspec.Struct, frozen=True):
    """A field's value that is not null, whose it is, and of which model it is asked."""

    raw: bytes
    request: Request
    model: ModelSettings
    row: Row

    @property
    def can_guide(self) -> bool:
        """Tell whether an answer can be held to a schema: older servers, and engines built so, refuse to."""
        return self.row.can_guide and Capability.JSON_SCHEMA in self.model.capabilities


class _Typed(msgspec.Struct):
    type: str


class _Function(msgspec.Struct):
    name: str


class _Named(msgspec.Struct):
    type: str
    function: _Function


_typed = msgspec.json.Decoder(_Typed)
_typed_list = msgspec.json.Decoder(list[_Typed])
_choice = msgspec.json.Decoder(str | _Named)
_any = msgspec.json.Decoder()


def row_of(model: ModelSettings) -> Row | None:
    """Return the row of a model's backend; None where every field is passed on."""
    kind = _kind_of(model)
    return None if kind is None else ROWS[kind]


def find_uncarried(model: ModelSettings, request: Request) -> str | None:
    """Return the first field of a request that a model's backend can't carry; None where it carries all.

    Where a capability is asked for that the model does not list, that is told elsewhere.
    """
    kind = _kind_of(model)
    if kind is None:
        return None
    carried = _CARRIED[kind]
    for name, raw in request.fields.items():
        if name not in carried and not _is_default(name, bytes(raw)):
            return name
    for name, rule in _RULES.items():
        asked = _Asked(bytes(request.fields.get(name, NULL)), request, model, ROWS[kind])
        if asked.raw != _NULL and not rule(asked):
            return name
    return None


def _kind_of(model: ModelSettings) -> Dialect | BackendKind | None:
    # On the way of every request: two attributes are read for a model whose backend passes everything on.
    if model.triton is not None:
        return model.triton.dialect
    return None if model.onnx is None else BackendKind.ONNX


def _is_default(name: str, raw: bytes) -> bool:
    if raw == _NULL:
        return True
    if name not in DEFAULTS or len(raw) > LONGEST_DEFAULT_BYTES:
        return False
    try:
        return _any.decode(raw) in DEFAULTS[name]
    except msgspec.DecodeError:  # such as a number out of range
        return False


def _carries_messages(asked: _Asked) -> bool:
    has_template = asked.model.onnx is not None or asked.model.chat_template is not None  # onnx: its folder's own
    return has_template and not asked.request.conversation.attachment_count


def _carries_prompt(asked: _Asked) -> bool:
    return len(asked.request.conversation.turns) == 1 and not asked.request.conversation.token_counts


def _carries_tools(asked: _Asked) -> bool:
    try:
        return all(tool.type == "function" for tool in _typed_list.decode(asked.raw))
    except (msgspec.DecodeError, RecursionError):
        return False


def _carries_tool_choice(asked: _Asked) -> bool:
    """Tell whether a choice can be had: one that forces a call takes guiding."""
    try:
        choice = _choice.decode(asked.raw)
    except (msgspec.DecodeError, RecursionError):
        return False
    if choice in ("auto", "none"):
        return True
    is_call = choice == "required" or (isinstance(choice, _Named) and choice.type == "function")
    return is_call and asked.can_guide and Capability.TOOLS in asked.model.capabilities


def _carries_format(asked: _Asked) -> bool:
    try:
        wanted = _typed.decode(asked.raw).type
    except (msgspec.DecodeError, RecursionError):
        return False
    return wanted == "text" or (asked.can_guide and wanted in ("json_object", "json_schema"))


_RULES: Final[Mapping[str, Callable[[_Asked], bool]]] = {
    "messages": _carries_messages,
    "prompt": _carries_prompt,
    "tools": _carries_tools,
    "tool_choice": _carries_tool_choice,
    "response_format": _carries_format,
}
