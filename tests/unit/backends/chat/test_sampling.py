"""From fields to sampling: by their types and bounds, each fault told with its field's name."""

import json

import pytest

from gateway.backends.chat.fields import Fields
from gateway.backends.chat.sampling import MIN_TOP_P, read_max_tokens, read_sampling
from gateway.backends.engine import Sampling
from gateway.core.errors import InvalidValueError
from gateway.schema.request import Operation
from tests.builders import request

FIELDS = Fields()


def sampling(operation=Operation.CHAT, **body):
    asked = request(operation)
    asked.fields.update({name: json.dumps(value).encode() for name, value in body.items()})
    return read_sampling(asked, FIELDS, None)


def test_what_is_unset_is_left_to_the_server():
    assert sampling() == Sampling(max_tokens=0)
    assert sampling(temperature=None, stop=None, logit_bias=None, logprobs=None, seed=None) == Sampling(max_tokens=0)


def test_every_field_finds_its_place():
    asked = {
        "temperature": 0.5,
        "top_p": 0.9,
        "top_k": 40,
        "min_p": 0.1,
        "min_tokens": 2,
        "presence_penalty": -1,
        "frequency_penalty": 1.5,
        "repetition_penalty": 1.1,
        "seed": -5,
        "logit_bias": {"50256": -100},
    }
    found = sampling(**asked)
    assert {name: getattr(found, name) for name in asked} == asked


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("temperature", "hot"),
        ("temperature", 2.1),
        ("temperature", -0.1),
        ("temperature", True),
        ("temperature", [1]),
        ("top_p", 1.1),
        ("top_k", 1.5),
        ("top_k", -2),
        ("min_p", 2),
        ("min_tokens", -1),
        ("presence_penalty", 3),
        ("frequency_penalty", "x"),
        ("repetition_penalty", 0),
        ("seed", "x"),
        ("seed", 2**63),
        ("stop", 5),
        ("stop", [5]),
        ("stop", ["x"] * 65),
        ("stop", ["x" * 1001]),
        ("logit_bias", [1]),
        ("logit_bias", {"1": 101}),
        ("top_logprobs", 21),
        ("top_logprobs", "5"),
    ],
)
def test_a_wrong_value_is_told_with_its_name_and_not_repeated(name, value):
    with pytest.raises(InvalidValueError) as caught:
        sampling(logprobs=True, **{name: value})
    assert caught.value.param == name
    assert caught.value.message.startswith(f"{name}: ")
    assert "x" * 10 not in caught.value.message


def test_no_top_p_is_the_least_there_is():
    assert sampling(top_p=0).top_p == MIN_TOP_P


def test_stops_are_one_text_or_several_each_once_and_none_empty():
    assert sampling(stop="x").stop == ("x",)
    assert sampling(stop=["x", "", "y", "x"]).stop == ("x", "y")
    assert sampling(stop="").stop == ()


def test_a_bias_for_nothing_is_none():
    assert sampling(logit_bias={}).logit_bias is None


def test_a_chat_asks_for_log_probabilities_by_two_fields_and_a_completion_by_one():
    assert sampling(logprobs=True).logprobs == 0
    assert sampling(logprobs=True, top_logprobs=3).logprobs == 3
    assert sampling(logprobs=False).logprobs is None
    assert sampling(logprobs=False, top_logprobs=0).logprobs is None
    assert sampling(Operation.COMPLETION, logprobs=0).logprobs == 0
    assert sampling(Operation.COMPLETION, logprobs=3).logprobs == 3
    with pytest.raises(InvalidValueError) as caught:
        sampling(top_logprobs=3)
    assert caught.value.param == "top_logprobs"


def test_the_newer_bound_wins_and_completions_know_the_older_alone():
    both = {"max_tokens": 5, "max_completion_tokens": 7}
    assert read_max_tokens(request(**both), FIELDS) == 7
    assert read_max_tokens(request(max_tokens=5), FIELDS) == 5
    assert read_max_tokens(request(), FIELDS) is None
    assert read_max_tokens(request(Operation.COMPLETION, **both), FIELDS) == 5


def test_what_is_nested_too_deep_is_told_as_such():
    asked = request()
    asked.fields["chat_template_kwargs"] = b'{"x":' * 5000 + b"1" + b"}" * 5000
    with pytest.raises(InvalidValueError) as caught:
        FIELDS.read(asked, "chat_template_kwargs")
    assert caught.value.param == "chat_template_kwargs"
