"""Guided decoding in miniature: the least JSON that follows a schema."""

from typing import Any

LEAST = {"string": "a", "integer": 0, "number": 0.5, "boolean": True, "null": None}


def instance_of(schema: Any, root: Any = None, depth: int = 0) -> Any:
    """Return an instance. Raises ValueError where this is no schema."""
    root = schema if root is None else root
    if depth > 32:
        raise ValueError("the schema has no end")
    if schema is True or schema == {}:
        return {}
    if not isinstance(schema, dict):
        raise ValueError(f"not a schema: {schema!r}")  # noqa: TRY004 - a schema's fault, whatever its type
    for chosen in ("const", "default"):
        if chosen in schema:
            return schema[chosen]
    if schema.get("enum"):
        return schema["enum"][0]
    for choice in ("anyOf", "oneOf", "allOf"):
        if schema.get(choice):
            return instance_of(schema[choice][0], root, depth + 1)
    if "$ref" in schema:
        return instance_of(find(schema["$ref"], root), root, depth + 1)
    return of_type(schema, root, depth)


def of_type(schema: dict[str, Any], root: Any, depth: int) -> Any:
    """Return an instance of what `type` says; an object by default."""
    kind = schema.get("type", "object")
    kind = kind[0] if isinstance(kind, list) and kind else kind
    if kind == "array":
        return [instance_of(schema.get("items", {}), root, depth + 1) for _ in range(schema.get("minItems", 0))]
    if kind == "object":
        parts = schema.get("properties", {})
        wanted = schema.get("required", list(parts))
        return {name: instance_of(parts.get(name, {}), root, depth + 1) for name in wanted}
    if kind == "string":
        return "a" * max(1, schema.get("minLength", 1))
    if kind in ("integer", "number") and "minimum" in schema:
        return schema["minimum"]
    if not isinstance(kind, str) or kind not in LEAST:
        raise ValueError(f"unsupported type {kind!r}")
    return LEAST[kind]


def find(reference: str, root: Any) -> Any:
    """Follow `#/a/b` from the root."""
    found = root
    for part in reference.removeprefix("#/").split("/"):
        if not isinstance(found, dict) or part not in found:
            raise ValueError(f"unknown reference {reference}")
        found = found[part]
    return found
