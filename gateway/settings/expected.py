"""A type in an operator's words: what would be right. Knows nothing of any value."""

from typing import Any

import msgspec
from msgspec import inspect

_KINDS: tuple[tuple[type | tuple[type, ...], str], ...] = (
    (type(None), "null"),
    (bool, "true or false"),
    ((int, float), "this number"),
    (str, "this text"),
    (dict, "a mapping"),
    (list, "a list"),
)


_PLAIN: dict[type[inspect.Type], str] = {
    inspect.BoolType: "true or false",
    inspect.StrType: "a text (in quotes if it looks like a number)",
    inspect.DictType: "a mapping of names",
    inspect.VarTupleType: "a list: [a, b]",
}


def name_kind(raw: object) -> str:
    """Return the sort of a plain value, never the value."""
    return next((name for kind, name in _KINDS if isinstance(raw, kind)), "this value")


def describe_field(field: msgspec.structs.FieldInfo) -> str:
    """Return what a field wants: its own description, and its choices where it has some."""
    info = inspect.type_info(field.type)
    told = describe(field.type)
    documented = info.extra_json_schema if isinstance(info, inspect.Metadata) else None
    return f"{told}. {documented['description']}" if documented else told


def describe(kind: Any) -> str:
    """Return what values of a type look like, bounds and choices included."""
    return _describe(inspect.type_info(kind))


def _describe(info: inspect.Type) -> str:
    told = _PLAIN.get(type(info), "a text, best as ${NAME} or ${file:PATH}")
    match info:
        case inspect.Metadata():
            told = _describe(info.type)
        case inspect.EnumType():
            told = f"one of: {', '.join(str(member.value) for member in info.cls)}"
        case inspect.StrType() if info.pattern:
            told = f"a text that matches {info.pattern}"
        case inspect.StrType() if info.min_length:
            told = "a text that is not empty"
        case inspect.StructType():
            told = f"a mapping of: {', '.join(field.name for field in info.fields)}"
        case inspect.UnionType():
            told = _describe(info.types[0])
        case inspect.IntType() | inspect.FloatType():
            told = _describe_number(info)
    return told


def _describe_number(info: inspect.IntType | inspect.FloatType) -> str:
    noun = "a whole number" if isinstance(info, inspect.IntType) else "a number"
    bounds = ((info.gt, "more than"), (info.ge, "at least"), (info.lt, "less than"), (info.le, "at most"))
    told = " and ".join(
        f"{word} {bound:g}" if bound < 1e6 else f"{word} {bound}" for bound, word in bounds if bound is not None
    )
    return f"{noun}, {told}" if told else noun
