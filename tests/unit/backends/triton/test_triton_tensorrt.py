"""The dialects of TensorRT-LLM: what is asked, and what is read from responses."""

import pytest

from gateway.backends.triton.dialects import find_mismatch
from gateway.backends.triton.responses import GivenUpError
from gateway.backends.triton.tensorrt import LlmapiDialect, TrtllmDialect
from tests.unit.backends.triton.builders import LLMAPI_INPUTS, TRTLLM_INPUTS, facts, task, values_of

TRTLLM = facts(TRTLLM_INPUTS, rank=2, is_decoupled=False)
LLMAPI = facts(LLMAPI_INPUTS)
DIALECTS = {"": (TrtllmDialect(), TRTLLM), "sampling_param_": (LlmapiDialect(), LLMAPI)}


def encode(dialect, model, **asked):
    wanted = task(**asked)
    is_streaming = dialect.is_streaming(wanted, is_heard=True)
    return values_of(dialect.encode(wanted, model, is_streaming=is_streaming))


def trtllm(dialect=None, **asked):
    return encode(dialect or TrtllmDialect(), TRTLLM, **asked)


def llmapi(**asked):
    return encode(LlmapiDialect(), LLMAPI, **asked)


def read_all(answer, *texts, **last):
    given = [{"text_output": [text.encode()]} for text in texts]
    given[-1].update({name: [value] for name, value in last.items()})
    pieces = [answer.read(outputs).text for outputs in given]
    rest = answer.rest()
    return pieces + ([rest.text] if rest else [])


def test_the_ensemble_is_asked_for_counts_and_never_for_the_prompt():
    assert trtllm() == {
        "text_input": "Hello",
        "max_tokens": 20,
        "stream": True,
        "exclude_input_in_output": True,
        "return_num_input_tokens": True,
        "return_num_output_tokens": True,
    }


def test_the_ensemble_is_told_everything_it_can_carry():
    told = trtllm(
        TrtllmDialect(7),
        stop=("a", "b,c"),
        seed=-1,
        min_tokens=2,
        repetition_penalty=1.1,
        presence_penalty=0.5,
        frequency_penalty=0.25,
        schema=b'{"type":"object"}',
    )
    assert told["stop_words"] == ("a", "b,c")
    assert told["seed"] == 2**64 - 1
    assert (told["min_tokens"], told["repetition_penalty"]) == (2, 1.1)
    assert (told["presence_penalty"], told["frequency_penalty"]) == (0.5, 0.25)
    assert told["lora_task_id"] == 7
    assert (told["guided_decoding_guide_type"], told["guided_decoding_guide"]) == ("json_schema", '{"type":"object"}')


@pytest.mark.parametrize("prefix", DIALECTS)
@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({}, {}),
        ({"temperature": 0.0, "top_p": 0.5}, {"top_k": 1}),
        ({"temperature": 0.7}, {"temperature": 0.7, "top_p": 1.0}),
        ({"temperature": 0.7, "top_k": 5}, {"temperature": 0.7, "top_k": 5}),
        ({"temperature": 0.7, "top_k": -1}, {"temperature": 0.7, "top_p": 1.0}),
        ({"top_p": 0.5}, {"top_p": 0.5}),
    ],
)
def test_a_temperature_is_heeded_and_zero_is_greedy(prefix, asked, told):
    dialect, model = DIALECTS[prefix]
    given = encode(dialect, model, **asked)
    found = {name: given[prefix + name] for name in ("temperature", "top_k", "top_p") if prefix + name in given}
    assert found == told


def test_the_ensembles_responses_are_deltas_and_its_end_is_the_answers():
    answer = TrtllmDialect().reader(task(), TRTLLM)
    first = answer.read({"text_output": [b"Hel"], "num_input_tokens": [3], "num_output_tokens": [1]})
    assert (first.text, first.prompt_tokens, first.token_count, first.finish_reason) == ("Hel", 3, 1, None)
    assert read_all(answer, "lo") == ["lo"]


@pytest.mark.parametrize("value", ["true", "True"])
def test_a_bls_model_that_accumulates_tokens_gives_every_character(value):
    answer = TrtllmDialect().reader(task(), facts(TRTLLM_INPUTS, accumulate_tokens=value))
    lost = "\N{REPLACEMENT CHARACTER}"
    assert read_all(answer, "a", f"a{lost}", f"a{lost}{lost}", "a🙂", "a🙂b") == ["a", "", "", "🙂", "b"]


def test_the_llm_apis_responses_hold_the_text_so_far():
    answer = LlmapiDialect().reader(task(), LLMAPI)
    assert read_all(answer, "Hel", "Hello", "Hello you", finish_reason=b"stop") == ["Hel", "lo", " you"]


def test_the_llm_api_is_asked_for_its_finish_reason_and_never_for_the_prompt():
    assert llmapi() == {
        "text_input": "Hello",
        "streaming": True,
        "return_finish_reason": True,
        "sampling_param_max_tokens": 20,
        "sampling_param_exclude_input_from_output": True,
    }


def test_the_llm_api_streams_where_stop_strings_are_looked_for_by_others():
    told = llmapi(is_streaming=False, stop=("a",))
    assert told["streaming"] is True
    assert "sampling_param_stop" not in told
    assert llmapi(is_streaming=False)["streaming"] is False


@pytest.mark.parametrize("is_heard", [True, False])
def test_the_model_inside_an_ensemble_must_be_stopped_by_name(is_heard):
    steps = {"pre": frozenset({"QUERY"}), "llama-inside": frozenset({"input_ids", "request_output_len"})}
    ensemble = facts(TRTLLM_INPUTS, rank=2, steps=steps)
    stop = TrtllmDialect().find_stop(ensemble, is_heard=is_heard)
    assert stop.model == "llama-inside"
    assert values_of(stop.inputs)["stop"] is True
    assert TrtllmDialect().find_stop(TRTLLM, is_heard=is_heard) is None


def test_the_llm_api_is_told_to_stop_where_it_cannot_hear_it():
    stop = LlmapiDialect().find_stop(facts({**LLMAPI_INPUTS, "stop": "BOOL"}), is_heard=False)
    assert (stop.model, values_of(stop.inputs)) == ("", {"text_input": "", "stop": True})
    assert LlmapiDialect().find_stop(facts({**LLMAPI_INPUTS, "stop": "BOOL"}), is_heard=True) is None
    assert LlmapiDialect().find_stop(LLMAPI, is_heard=False) is None


@pytest.mark.parametrize("reason", [b"timeout", b"cancelled", None])
def test_an_answer_that_the_llm_api_did_not_end_is_none(reason):
    answer = LlmapiDialect().reader(task(), LLMAPI)
    with pytest.raises(GivenUpError):
        read_all(answer, "Hel", **({} if reason is None else {"finish_reason": reason}))


def test_each_dialect_knows_its_own_models_only():
    assert find_mismatch(TrtllmDialect.signature, TRTLLM) is None
    assert find_mismatch(LlmapiDialect.signature, LLMAPI) is None
    assert find_mismatch(TrtllmDialect.signature, LLMAPI) is not None
    assert find_mismatch(LlmapiDialect.signature, TRTLLM) is not None
    assert find_mismatch(TrtllmDialect.signature, facts()) is not None
