"""What a request says about tools and the form of its answer: who may be called, must be, and how it is written."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec

from gateway.backends.chat.fields import Fields, decode_field
from gateway.core.errors import InvalidValueError
from gateway.schema.request import Request

ANY_OBJECT = b'{"type":"object"}'

Name = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_.-]{1,128}$")]


class _Function(msgspec.Struct):
    name: Name
    parameters: dict[str, Any] | None = None


class _Tool(msgspec.Struct):
    type: Literal["function"]
    function: _Function


class _Named(msgspec.Struct):
    name: str


class _Choice(msgspec.Struct):
    type: Literal["function"]
    function: _Named


class _JsonSchema(msgspec.Struct):
    schema: msgspec.Raw = msgspec.Raw(ANY_OBJECT)


class _Format(msgspec.Struct):
    type: Literal["text", "json_object", "json_schema"]
    json_schema: _JsonSchema | None = None


class ToolWish(msgspec.Struct, frozen=True):
    """What the client wants of tools: `told` goes to the template as it came.

    `schema`: what the whole answer must follow, as JSON, where it must be one call.
    """

    told: tuple[Any, ...] = ()
    names: frozenset[str] = frozenset()
    is_parallel: bool = True
    schema: bytes | None = None


_tools = msgspec.json.Decoder(Annotated[list[_Tool], msgspec.Meta(max_length=2_000)] | None)
_told = msgspec.json.Decoder(list[Any])
_choice = msgspec.json.Decoder(Literal["none", "auto", "required"] | _Choice | None)
_format = msgspec.json.Decoder(_Format | None)
_schema = msgspec.json.Decoder(dict[str, Any])


def read_tools(request: Request, fields: Fields) -> ToolWish:
    """Read `tools`, `tool_choice` and `parallel_tool_calls`. Raises InvalidValueError."""
    raw = request.fields.get("tools", b"null")
    tools = decode_field(raw, _tools, "tools") or []
    choice = decode_field(request.fields.get("tool_choice", b"null"), _choice, "tool_choice")
    if not tools or choice == "none":
        # Tools that must not be called aren't shown: a model that sees them calls them.
        return ToolWish()
    by_name: dict[str, _Function] = {tool.function.name: tool.function for tool in tools}
    return ToolWish(
        tuple(_told.decode(raw)),
        frozenset(by_name),
        is_parallel=fields.read(request, "parallel_tool_calls") is not False,
        schema=_forced(choice, by_name),
    )


def _forced(choice: Any, by_name: Mapping[str, _Function]) -> bytes | None:
    if choice is None or choice == "auto":
        return None
    if choice == "required":
        return call_schema(by_name)
    name = choice.function.name
    if name not in by_name:
        raise InvalidValueError(f"tool_choice: '{name}' is not among the tools.", param="tool_choice")
    return call_schema({name: by_name[name]})


def call_schema(functions: Mapping[str, _Function]) -> bytes:
    """Return the JSON schema of a call of one of the functions: an object with `name` and `arguments`."""
    calls, definitions = [], {}
    for place, (name, function) in enumerate(functions.items()):
        key = f"arguments_{place}"
        definitions[key] = _moved(function.parameters or {"type": "object"}, f"#/$defs/{key}")
        calls.append(
            {
                "type": "object",
                "properties": {"name": {"enum": [name]}, "arguments": {"$ref": f"#/$defs/{key}"}},
                "required": ["name", "arguments"],
                "additionalProperties": False,
            }
        )
    whole = calls[0] if len(calls) == 1 else {"anyOf": calls}
    return msgspec.json.encode({**whole, "$defs": definitions})


def _moved(schema: Any, root: str) -> Any:
    """Return a schema whose references, all from its own root, hold below another one."""
    if isinstance(schema, list):
        return [_moved(inner, root) for inner in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: root + inner[1:]
        if key == "$ref" and isinstance(inner, str) and inner.startswith("#")
        else _moved(inner, root)
        for key, inner in schema.items()
    }


def read_schema(request: Request) -> bytes | None:
    """Return the JSON schema that `response_format` asks for. Raises InvalidValueError."""
    wish = decode_field(request.fields.get("response_format", b"null"), _format, "response_format")
    if wish is None or wish.type == "text":
        return None
    if wish.type == "json_object":
        return ANY_OBJECT
    if wish.json_schema is None:
        raise InvalidValueError("response_format: `json_schema` is missing.", param="response_format.json_schema")
    decode_field(wish.json_schema.schema, _schema, "response_format.json_schema.schema")
    return bytes(wish.json_schema.schema)
