import json

import pytest

from gateway.backends.onnx.guidance import MAX_COUNTED_ITEMS, guide


def items(**counts):
    return {"type": "array", "items": {"type": "integer"}, **counts}


@pytest.mark.parametrize(
    "schema",
    [
        items(maxItems=MAX_COUNTED_ITEMS + 1),
        items(minItems=10**9),
        {"type": "object", "properties": {f"p{place}": items(maxItems=3_000) for place in range(4)}},
        {"anyOf": [{"$ref": "#/$defs/many"}, {"type": "null"}], "$defs": {"many": items(minItems=10**7)}},
        {"$defs": {"unused": items(minItems=-(10**9))}, **items(maxItems=10**9)},
        {"type": "object", "properties": {"enum": items(maxItems=10**9)}},
    ],
)
def test_more_items_than_a_grammar_can_be_written_for_are_refused(schema):
    with pytest.raises(ValueError, match="minItems and maxItems"):
        guide(json.dumps(schema).encode())


@pytest.mark.parametrize(
    "schema",
    [
        items(minItems=1, maxItems=MAX_COUNTED_ITEMS - 1),
        {"type": "object", "properties": {"maxItems": {"type": "integer", "maximum": 10**9}}},
        {"type": "string", "maxLength": 10**9},
    ],
)
def test_other_schemas_pass_unchanged_but_for_how_they_are_written(schema):
    found = json.loads(guide(json.dumps(schema).encode()))
    assert found.pop("x-guidance")["whitespace_flexible"] is False
    assert found == schema


def test_what_is_no_json_is_told():
    with pytest.raises(ValueError, match="not JSON"):
        guide(b"{")
