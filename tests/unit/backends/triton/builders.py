"""Tasks, models and servers that the tests of the Triton backend are made of."""

import asyncio

from gateway.backends.engine import Sampling, Task
from gateway.backends.triton.wire import ModelFacts, TensorShape

VLLM_INPUTS = {
    "text_input": "BYTES",
    "stream": "BOOL",
    "sampling_parameters": "BYTES",
    "exclude_input_in_output": "BOOL",
    "return_finish_reason": "BOOL",
    "return_logprobs": "BOOL",
    "return_num_input_tokens": "BOOL",
    "return_num_output_tokens": "BOOL",
}
TRTLLM_INPUTS = {
    "text_input": "BYTES",
    "max_tokens": "INT32",
    "stream": "BOOL",
    "exclude_input_in_output": "BOOL",
    "stop_words": "BYTES",
    "temperature": "FP32",
    "top_k": "INT32",
    "top_p": "FP32",
    "min_tokens": "INT32",
    "repetition_penalty": "FP32",
    "presence_penalty": "FP32",
    "frequency_penalty": "FP32",
    "seed": "UINT64",
    "lora_task_id": "UINT64",
    "guided_decoding_guide_type": "BYTES",
    "guided_decoding_guide": "BYTES",
    "return_num_input_tokens": "BOOL",
    "return_num_output_tokens": "BOOL",
}
LLMAPI_INPUTS = {
    "text_input": "BYTES",
    "streaming": "BOOL",
    "sampling_param_max_tokens": "INT32",
    "sampling_param_exclude_input_from_output": "BOOL",
    "sampling_param_temperature": "FP32",
    "sampling_param_top_k": "INT32",
    "sampling_param_top_p": "FP32",
    "sampling_param_stop": "BYTES",
    "return_finish_reason": "BOOL",
}


def facts(inputs=None, rank=1, *, outputs=("text_output",), is_decoupled=True, steps=None, **parameters):
    """A model's own description; of a vLLM model where nothing is told."""
    told = VLLM_INPUTS if inputs is None else inputs
    return ModelFacts(
        {name: TensorShape(kind, rank) for name, kind in told.items()},
        {name: TensorShape("BYTES", rank) for name in outputs},
        is_decoupled,
        parameters,
        steps or {},
    )


def task(prompt="Hello", *, is_streaming=True, seconds=None, **sampling):
    """A task; with a deadline in so many seconds, to be made on a running loop."""
    deadline_s = 0.0 if seconds is None else asyncio.get_running_loop().time() + seconds
    return Task("task-1", prompt, Sampling(**{"max_tokens": 20, **sampling}), is_streaming, deadline_s)


def values_of(inputs):
    """The inputs by name; one value stands for itself."""
    return {given.name: given.values[0] if len(given.values) == 1 else given.values for given in inputs}
