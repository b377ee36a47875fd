"""JSON schemas as the runtime's grammar takes them: how the JSON is written, and what would cost too much to follow.

A grammar is made in the worker, of what a client sent, while everybody else's answers wait.
"""

import json
from collections.abc import Iterator
from typing import Any, Final

STYLE: Final = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
"""Left free, a small model may go on with blanks until it is cut. See llguidance, docs/json_schema.md."""
MAX_COUNTED_ITEMS: Final = 10_000
"""llguidance writes out each item that `minItems` and `maxItems` count: these in 0.4 s and 30 MB, ten million in more
memory than a machine has."""
COUNTS: Final = ("minItems", "maxItems")


def guide(schema: bytes) -> str:
    """Return a schema with how to write its JSON. Raises ValueError with a message for the client."""
    try:
        found = json.loads(schema)
    except ValueError as exc:
        raise ValueError("The JSON schema is not JSON.") from exc
    if sum(_counts(found)) > MAX_COUNTED_ITEMS:
        raise ValueError(f"minItems and maxItems of the JSON schema must be at most {MAX_COUNTED_ITEMS} together.")
    return json.dumps({"x-guidance": STYLE, **found} if isinstance(found, dict) else found)


def _counts(found: Any) -> Iterator[int]:
    """Yield every count of items, wherever it stands: data in an `enum` that looks like one is rare."""
    # A list, not recursion: clients choose how deep a schema is.
    waiting = [found]
    while waiting:
        node = waiting.pop()
        if isinstance(node, dict):
            # Others than whole numbers are refused by the grammar; one below zero must not make room for others.
            yield from (max(0, node[key]) for key in COUNTS if isinstance(node.get(key), int))
            waiting += node.values()
        elif isinstance(node, list):
            waiting += node
