"""The ensemble's `tensorrt_llm`, mocked: https://github.com/NVIDIA/TensorRT-LLM, triton_backend/all_models.

Tokens in, tokens out: streamed, the new ones of each response; not streamed, the prompt's too unless excluded, and
then `num_output_tokens` counts those with them, as it is the size of `output_ids`. Tells no finish reason.
"""

import json
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils
from mock.answering import Sayings, answer
from mock.counts import TrtllmGauges
from mock.engine import Engine, Step
from mock.inputs import all_of, scalar
from mock.script import Order
from mock.tokens import decode

SAYINGS = Sayings("Request cancelled", "Executor error: ")


class TritonPythonModel:
    """The model."""

    def initialize(self, args: dict[str, str]) -> None:
        """Start the engine."""
        config = json.loads(args["model_config"])
        self._parameters = config["parameters"]
        self._is_decoupled = pb_utils.using_decoupled_model_transaction_policy(config)
        self._tasks = json.loads(self._parameters.get("mock_lora_task_ids", {}).get("string_value", "[1]"))
        labels = {"model": args["model_name"], "version": args["model_version"]}
        self._engine = Engine("trtllm", TrtllmGauges(labels), self._parameters)

    def execute(self, requests: list[Any]) -> None:
        """Begin each request; its responses come as they are made."""
        for request in requests:
            if scalar(request, "stop", default=False):
                self._stop(request)
            else:
                self._engine.start(answer(self._engine, request, self._read, SAYINGS))

    def _stop(self, request: Any) -> None:
        """End the request that runs under the same id."""
        self._engine.stop_request(request.request_id())
        sender = request.get_response_sender()
        sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)

    def _read(self, request: Any) -> "Asked":
        return Asked(request, self._tasks)

    def finalize(self) -> None:
        """End with what is under way."""
        self._engine.stop()


class Asked:
    """A request as it was read."""

    def __init__(self, request: Any, tasks: list[int]) -> None:
        told = all_of(request)
        ids = pb_utils.get_input_tensor_by_name(request, "input_ids").as_numpy().reshape(-1).tolist()
        self._prompt_ids = ids[: scalar(request, "input_lengths", len(ids))]
        self._is_excluding = bool(scalar(request, "exclude_input_in_output", default=False))
        self._wants = {name for name in told if name.startswith("return_") and told[name]}
        task = scalar(request, "lora_task_id")
        if task is not None and task not in tasks:
            raise ValueError(f"LoRA task {task} not found in cache. Please send LoRA weights with request")
        kind, guide = scalar(request, "guided_decoding_guide_type"), scalar(request, "guided_decoding_guide")
        if kind not in (None, "json", "json_schema"):
            raise ValueError(f"Unsupported guide type {kind}")
        self.order = Order(
            prompt=decode(self._prompt_ids),
            max_tokens=int(scalar(request, "request_output_len")),
            stops=words_of(request, "stop_words_list"),
            seed=scalar(request, "seed"),
            schema=guide if kind == "json_schema" else "{}" if kind == "json" else None,
            is_streaming=bool(scalar(request, "streaming", default=False)),
            request_id=request.request_id(),
            told={name: value for name, value in told.items() if "ids" not in name and "list" not in name},
        )

    def response(self, step: Step) -> Any:
        """Return what is new; not streamed, everything."""
        ids = list(step.ids[len(step.ids) - step.new :] if self.order.is_streaming else step.ids)
        logprobs = [-0.1 - one % 10 / 10 for one in ids]
        if not self.order.is_streaming and not self._is_excluding:
            ids = self._prompt_ids + ids
        tensors = [tensor("output_ids", [[ids]]), tensor("sequence_length", [[len(ids)]])]
        if "return_log_probs" in self._wants:
            tensors.append(tensor("output_log_probs", [[logprobs]], np.float32))
            tensors.append(tensor("cum_log_probs", [[sum(logprobs)]], np.float32))
        if "return_num_input_tokens" in self._wants:
            tensors.append(tensor("num_input_tokens", [[len(self._prompt_ids)]]))
        if "return_num_output_tokens" in self._wants:
            tensors.append(tensor("num_output_tokens", [[len(ids)]]))
        return pb_utils.InferenceResponse(output_tensors=tensors)


def tensor(name: str, values: Any, kind: Any = np.int32) -> Any:
    """Return an output tensor."""
    return pb_utils.Tensor(name, np.asarray(values, dtype=kind))


def words_of(request: Any, name: str) -> tuple[str, ...]:
    """Return the words of a list of tokens and ends, as `preprocessing` writes them."""
    found = pb_utils.get_input_tensor_by_name(request, name)
    if found is None:
        return ()
    ids, ends = found.as_numpy().reshape(2, -1).tolist()
    words, begin = [], 0
    for end in ends:
        if end > begin:
            words.append(decode(ids[begin:end]))
            begin = end
    return tuple(words)
