"""What a request says about tools and the form of its answer."""

import json

import pytest
from jsonschema import Draft202012Validator

from gateway.backends.chat.fields import Fields
from gateway.backends.chat.tools import ToolWish, read_schema, read_tools
from gateway.core.errors import InvalidValueError
from tests.builders import request

FIELDS = Fields()
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER = {"type": "function", "function": {"name": "get_weather", "parameters": SCHEMA, "strict": True}}
NOW = {"type": "function", "function": {"name": "now"}}
NESTED = {
    "type": "function",
    "function": {
        "name": "plan",
        "parameters": {
            "type": "object",
            "properties": {"first": {"$ref": "#/$defs/step"}, "all": {"$ref": "#"}},
            "$defs": {"step": {"type": "object", "properties": {"do": {"type": "string"}}, "required": ["do"]}},
        },
    },
}


def wish(**body):
    asked = request()
    asked.fields.update({name: json.dumps(value).encode() for name, value in body.items()})
    return read_tools(asked, FIELDS)


def named(name):
    return {"type": "function", "function": {"name": name}}


def allows(found, call):
    return Draft202012Validator(json.loads(found.schema)).is_valid(call)


def test_tools_go_to_the_template_as_they_came():
    found = wish(tools=[WEATHER, NOW])
    assert list(found.told) == [WEATHER, NOW]
    assert found.names == {"get_weather", "now"}
    assert (found.is_parallel, found.schema) == (True, None)
    assert wish(tools=[NOW], tool_choice="auto", parallel_tool_calls=True).schema is None
    assert not wish(tools=[NOW], parallel_tool_calls=False).is_parallel


@pytest.mark.parametrize("body", [{}, {"tools": None}, {"tools": []}, {"tools": [NOW], "tool_choice": "none"}])
def test_tools_that_must_not_be_called_are_not_shown(body):
    assert wish(**body) == ToolWish()


def test_a_required_call_is_one_of_any_tool():
    found = wish(tools=[WEATHER, NOW], tool_choice="required")
    assert allows(found, {"name": "get_weather", "arguments": {"city": "Paris"}})
    assert allows(found, {"name": "now", "arguments": {}})
    assert not allows(found, {"name": "get_weather", "arguments": {}})
    assert not allows(found, {"name": "now", "arguments": 5})
    assert not allows(found, {"name": "other", "arguments": {}})
    assert not allows(found, {"name": "now"})


def test_a_named_call_is_one_of_that_tool():
    found = wish(tools=[WEATHER, NOW], tool_choice=named("now"))
    assert allows(found, {"name": "now", "arguments": {}})
    assert not allows(found, {"name": "get_weather", "arguments": {"city": "Paris"}})


def test_references_within_a_tools_schema_hold_within_the_calls():
    found = wish(tools=[NESTED, NOW], tool_choice="required")
    assert allows(found, {"name": "plan", "arguments": {"first": {"do": "x"}, "all": {"first": {"do": "y"}}}})
    assert not allows(found, {"name": "plan", "arguments": {"first": {}}})
    assert not allows(found, {"name": "plan", "arguments": {"all": {"first": {}}}})


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"tools": 5}, "tools"),
        ({"tools": [5]}, "tools"),
        ({"tools": [{"type": "function"}]}, "tools"),
        ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools"),
        ({"tools": [{"type": "function", "function": {"name": "f", "parameters": 5}}]}, "tools"),
        ({"tools": [{"type": "custom", "custom": {"name": "f"}}]}, "tools"),
        ({"tools": [NOW], "tool_choice": "any"}, "tool_choice"),
        ({"tools": [NOW], "tool_choice": named("other")}, "tool_choice"),
        ({"tools": [NOW], "tool_choice": {"type": "function"}}, "tool_choice"),
        ({"tools": [NOW], "parallel_tool_calls": "no"}, "parallel_tool_calls"),
    ],
)
def test_a_wrong_value_is_told_with_its_name(body, param):
    with pytest.raises(InvalidValueError) as caught:
        wish(**body)
    assert caught.value.param == param


@pytest.mark.parametrize(
    ("wanted", "schema"),
    [
        (None, None),
        ({"type": "text"}, None),
        ({"type": "json_object"}, {"type": "object"}),
        ({"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA, "strict": True}}, SCHEMA),
        ({"type": "json_schema", "json_schema": {"name": "x"}}, {"type": "object"}),
    ],
)
def test_an_answers_form_is_a_schema(wanted, schema):
    asked = request()
    asked.fields["response_format"] = json.dumps(wanted).encode()
    found = read_schema(asked)
    assert (found if found is None else json.loads(found)) == schema


@pytest.mark.parametrize(
    ("wanted", "param"),
    [
        ({"type": "xml"}, "response_format"),
        ({"type": "json_schema"}, "response_format.json_schema"),
        ({"type": "json_schema", "json_schema": {"schema": 5}}, "response_format.json_schema.schema"),
    ],
)
def test_a_form_that_is_none_is_told(wanted, param):
    asked = request()
    asked.fields["response_format"] = json.dumps(wanted).encode()
    with pytest.raises(InvalidValueError) as caught:
        read_schema(asked)
    assert caught.value.param == param
