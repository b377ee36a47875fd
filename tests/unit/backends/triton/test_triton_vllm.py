"""The vLLM dialect: what is asked, and what is read from responses."""

import json

import pytest

from gateway.backends.engine import TokenLogprob
from gateway.backends.triton.dialects import find_mismatch
from gateway.backends.triton.responses import GivenUpError
from gateway.backends.triton.vllm import VllmDialect
from gateway.backends.triton.wire import Fault, WireError
from tests.unit.backends.triton.builders import VLLM_INPUTS, facts, task, values_of

# The fields of vLLM's SamplingParams, and the backend's own lora_name; any other kills the request.
KNOWN = {
    *("max_tokens", "temperature", "top_p", "top_k", "min_p", "min_tokens", "presence_penalty", "frequency_penalty"),
    *("repetition_penalty", "seed", "stop", "logprobs", "structured_outputs", "lora_name"),
}
EVERYTHING = {
    "temperature": 0.0,
    "top_p": 0.9,
    "top_k": 5,
    "min_p": 0.1,
    "min_tokens": 2,
    "presence_penalty": 0.5,
    "frequency_penalty": -0.5,
    "repetition_penalty": 1.1,
    "seed": -3,
    "stop": ("a", "b"),
    "logprobs": 2,
    "schema": b'{"type": "object"}',
    "logit_bias": {"7": 1.0},
}


def encode(dialect=None, model=None, **asked):
    wanted = task(**asked)
    return values_of((dialect or VllmDialect()).encode(wanted, model or facts(), is_streaming=wanted.is_streaming))


def sampling(**asked):
    return json.loads(encode(**asked)["sampling_parameters"])


def reader(model=None, **asked):
    return VllmDialect().reader(task(**asked), model or facts())


def response(text="", **outputs):
    told = {"text_output": text.encode(), **outputs}
    return {name: [value.encode() if isinstance(value, str) else value] for name, value in told.items()}


def test_the_prompt_is_never_given_back_and_the_limit_always_told():
    inputs = encode(is_streaming=False)
    assert inputs["exclude_input_in_output"] is True
    assert inputs["stream"] is False
    assert json.loads(inputs["sampling_parameters"]) == {"max_tokens": 20}


def test_every_sampling_parameter_is_one_that_vllm_knows():
    told = sampling(**EVERYTHING)
    assert set(told) == KNOWN - {"lora_name"}
    assert told["stop"] == ["a", "b"]


def test_a_schema_is_json_in_json():
    assert json.loads(sampling(schema=b'{"type":"object"}')["structured_outputs"]) == {"json": {"type": "object"}}


def test_the_adapter_is_named():
    told = json.loads(encode(VllmDialect("poet"))["sampling_parameters"])
    assert told["lora_name"] == "poet"


@pytest.mark.parametrize("top_k", [0, -1])
def test_a_top_k_of_all_tokens_is_left_out(top_k):
    assert "top_k" not in sampling(top_k=top_k)


def test_switches_that_an_older_server_lacks_are_left_out():
    old = {name: kind for name, kind in VLLM_INPUTS.items() if not name.startswith("return_")}
    assert not any(name.startswith("return_") for name in encode(model=facts(old)))


def test_an_answer_comes_in_responses_where_leaving_is_heard_at_the_next_one_only():
    dialect = VllmDialect()
    assert not dialect.is_streaming(task(is_streaming=False), is_heard=True)
    assert dialect.is_streaming(task(is_streaming=False), is_heard=False)
    assert dialect.find_stop(facts(), is_heard=False) is None


def test_text_counts_and_end_are_read():
    read = reader().read
    first = read(response("Hel", finish_reason="None", num_input_tokens=7, num_output_tokens=1))
    last = read(response("lo", finish_reason="length", num_input_tokens=7, num_output_tokens=2))
    assert (first.text, first.token_count, first.prompt_tokens, first.finish_reason) == ("Hel", 1, 7, None)
    assert (last.text, last.token_count, last.prompt_tokens, last.finish_reason) == ("lo", 2, None, "length")


def test_responses_that_end_without_a_finish_reason_are_no_answer():
    answer = reader()
    answer.read(response("Hel", finish_reason="None"))
    with pytest.raises(GivenUpError):
        answer.rest()


def test_a_server_that_tells_no_finish_reason_ends_with_its_responses():
    answer = reader(facts({"text_input": "BYTES"}))
    answer.read({"text_output": [b"\xc3"]})
    assert answer.rest().text == "\N{REPLACEMENT CHARACTER}"
    assert answer.rest() is None


@pytest.mark.parametrize("reason", ["abort", "error"])
def test_a_request_that_vllm_gave_up_is_no_answer(reason):
    with pytest.raises(GivenUpError):
        reader().read(response(finish_reason=reason))


def test_log_probabilities_come_likeliest_first_and_no_more_than_asked_for():
    told = [
        {
            "9": {"logprob": -3.0, "rank": 5, "decoded_token": "c"},
            "1": {"logprob": -0.1, "rank": 1, "decoded_token": "a"},
        },
        {"1": {"logprob": -0.2, "rank": 1, "decoded_token": "a"}},
    ]
    piece = reader(logprobs=1).read(response("ca", logprobs=json.dumps(told)))
    assert piece.logprobs == (TokenLogprob("c", -3.0, (("a", -0.1),)), TokenLogprob("a", -0.2, (("a", -0.2),)))


def test_no_log_probabilities_are_none():
    assert reader(logprobs=0).read(response("a", logprobs="null")).logprobs == ()


def test_a_token_that_cant_be_has_a_log_probability_all_the_same():
    """Python's JSON, which the backend writes, has `-Infinity` for what a guide has ruled out."""
    told = '[{"1": {"logprob": -0.1, "rank": 1}, "2": {"logprob": -Infinity, "rank": 2, "decoded_token": "\\ud800"}}]'
    piece = reader(logprobs=2).read(response("c", logprobs=told))
    assert piece.logprobs == (TokenLogprob("", -0.1, (("", -0.1), ("?", float("-inf")))),)


@pytest.mark.parametrize("told", ["none", "[{}]", '[{"1": {}}]', "5", "[" * 100_000])
def test_log_probabilities_of_another_kind_are_a_fault_of_the_servers(told):
    with pytest.raises(WireError) as raised:
        reader(logprobs=0).read(response("a", logprobs=told))
    assert raised.value.fault is Fault.BROKEN


@pytest.mark.parametrize("count", [float("nan"), float("inf"), -5, 10**30])
def test_a_count_that_is_none_counts_nothing(count):
    piece = reader().read(response("a", num_output_tokens=count, num_input_tokens=count))
    assert (piece.token_count, piece.prompt_tokens) == (None, None)


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (facts(), None),
        (facts({"text_input": "BYTES", "max_tokens": "INT32"}), "sampling_parameters"),
        (facts({**VLLM_INPUTS, "stream": "INT32"}), "stream INT32"),
        (facts(outputs=("OUTPUT",)), "text_output"),
        (facts(is_decoupled=False), "decoupled"),
    ],
)
def test_a_model_that_is_none_of_the_dialect_is_told_with_what_was_found(model, said):
    problem = find_mismatch(VllmDialect.signature, model)
    assert problem is None if said is None else said in problem
