"""The JSON schema of the configuration, for editors and `postern schema`, derived from the structs."""

from typing import Any

import msgspec

from gateway.core.secret import Secret
from gateway.settings.root import Settings


def json_schema() -> dict[str, Any]:
    """Return the schema of the whole configuration, draft 2020-12. References such as `${NAME}` count as texts."""
    (root,), definitions = msgspec.json.schema_components(
        [Settings], schema_hook=_describe_secret, ref_template="#/$defs/{name}"
    )
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Postern configuration",
        **root,
        "$defs": definitions,
    }
    # Some defaults are still tuples and the like: once through JSON, everything is what a reader of the file gets.
    decoded: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(schema))
    return decoded


def _describe_secret(kind: type) -> dict[str, Any]:
    if kind is Secret:
        return {"type": "string", "format": "password"}
    raise NotImplementedError
