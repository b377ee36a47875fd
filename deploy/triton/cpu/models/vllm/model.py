"""vLLM's backend, mocked: https://github.com/triton-inference-server/vllm_backend, src/model.py and src/utils.

Same inputs and outputs, added by auto-completion as there; same defaults, deltas, texts of errors.
"""

import json
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils
from mock.answering import RefusedError, Sayings, answer
from mock.counts import VllmGauges
from mock.engine import Engine, Step
from mock.inputs import scalar, text_tensor
from mock.script import Order
from mock.tokens import bytes_of, decode, encode

INPUTS = {
    "text_input": ("TYPE_STRING", 1),
    "image": ("TYPE_STRING", -1),
    "stream": ("TYPE_BOOL", 1),
    "sampling_parameters": ("TYPE_STRING", 1),
    "exclude_input_in_output": ("TYPE_BOOL", 1),
    "return_finish_reason": ("TYPE_BOOL", 1),
    "return_cumulative_logprob": ("TYPE_BOOL", 1),
    "return_logprobs": ("TYPE_BOOL", 1),
    "return_num_input_tokens": ("TYPE_BOOL", 1),
    "return_num_output_tokens": ("TYPE_BOOL", 1),
    "embedding_request": ("TYPE_STRING", 1),
}
OUTPUTS = {
    "text_output": ("TYPE_STRING", -1),
    "finish_reason": ("TYPE_STRING", -1),
    "cumulative_logprob": ("TYPE_FP32", -1),
    "logprobs": ("TYPE_STRING", -1),
    "num_input_tokens": ("TYPE_UINT32", 1),
    "num_output_tokens": ("TYPE_UINT32", -1),
}

# The fields of vLLM's SamplingParams that a caller may set, and the backend's own lora_name.
# https://docs.vllm.ai/en/latest/api/vllm/sampling_params.html
SAMPLING = frozenset(
    [
        "n",
        "presence_penalty",
        "frequency_penalty",
        "repetition_penalty",
        "temperature",
        "top_p",
        "top_k",
        "min_p",
        "seed",
        "stop",
        "stop_token_ids",
        "bad_words",
        "include_stop_str_in_output",
        "ignore_eos",
        "max_tokens",
        "min_tokens",
        "logprobs",
        "prompt_logprobs",
        "detokenize",
        "skip_special_tokens",
        "spaces_between_special_tokens",
        "truncate_prompt_tokens",
        "structured_outputs",
        "guided_decoding",
        "logit_bias",
        "allowed_token_ids",
        "extra_args",
        "flat_logprobs",
        "lora_name",
    ]
)
DEFAULT_MAX_TOKENS = 16
SAYINGS = Sayings("Request was cancelled", "Error generating stream: ")


class TritonPythonModel:
    """The model."""

    @classmethod
    def auto_complete_config(cls, config: Any) -> Any:
        """Add inputs and outputs as the real backend does, and its policy: decoupled, batched by the engine."""
        told = config.as_dict()
        known = {one["name"] for one in (*told["input"], *told["output"])}
        for name, (kind, size) in INPUTS.items():
            if name not in known:
                is_optional = {} if name == "text_input" else {"optional": True}
                config.add_input({"name": name, "data_type": kind, "dims": [size], **is_optional})
        for name, (kind, size) in OUTPUTS.items():
            if name not in known:
                config.add_output({"name": name, "data_type": kind, "dims": [size]})
        config.set_model_transaction_policy({"decoupled": True})
        config.set_max_batch_size(0)
        return config

    def initialize(self, args: dict[str, str]) -> None:
        """Start the engine."""
        labels = {"model": args["model_name"], "version": args["model_version"]}
        parameters = json.loads(args["model_config"])["parameters"]
        self._loras = json.loads(parameters.get("mock_loras", {}).get("string_value", '["poet"]'))
        self._engine = Engine("vllm", VllmGauges(labels), parameters)

    def execute(self, requests: list[Any]) -> None:
        """Begin each request; its responses come as they are made."""
        for request in requests:
            self._engine.start(answer(self._engine, request, self._read, SAYINGS))

    def _read(self, request: Any) -> "Asked":
        return Asked(request, self._loras)

    def finalize(self) -> None:
        """End with what is under way."""
        self._engine.stop()


class Asked:
    """A request as it was read, and how far it was answered."""

    def __init__(self, request: Any, loras: list[str]) -> None:
        prompt = scalar(request, "text_input")
        self.is_streaming = bool(scalar(request, "stream", default=False))
        excluded = scalar(request, "exclude_input_in_output")
        self._is_prepending = not excluded if excluded is not None else not self.is_streaming
        told = scalar(request, "sampling_parameters")
        sampling = json.loads(told if told is not None else request.parameters() or "{}")
        sampling = {name: value for name, value in sampling.items() if value is not None}
        check_lora(sampling.get("lora_name"), loras)
        if self._is_prepending and self.is_streaming:
            raise ValueError("When streaming, `exclude_input_in_output` = False is not allowed.")
        if not SAMPLING.issuperset(sampling):
            # The backend logs what was wrong, makes no parameters, then stumbles over that: this is all one is told.
            raise ValueError("'NoneType' object has no attribute 'lora_name'")
        stops = sampling.get("stop", [])
        self._stops = (stops,) if isinstance(stops, str) else tuple(stops)
        self._keeps_stop = bool(sampling.get("include_stop_str_in_output"))
        self._logprobs = sampling.get("logprobs")
        self._wants = {name for name in INPUTS if name.startswith("return_") and scalar(request, name, default=False)}
        self._sent_chars = 0
        self.order = Order(
            prompt=prompt,
            max_tokens=int(sampling.get("max_tokens", DEFAULT_MAX_TOKENS)),
            stops=self._stops,
            seed=sampling.get("seed"),
            schema=find_schema(sampling),
            is_streaming=self.is_streaming,
            told=sampling,
        )

    def response(self, step: Step) -> Any:
        """Return what is new since the last response; not streamed, everything."""
        new = step.new if self.is_streaming else len(step.ids)
        tensors = [text_tensor("text_output", self._new_text(step))]
        if "return_finish_reason" in self._wants:
            tensors.append(text_tensor("finish_reason", str(step.finish_reason)))
        if "return_cumulative_logprob" in self._wants:
            total = sum(logprob_of(one) for one in step.ids)
            tensors.append(pb_utils.Tensor("cumulative_logprob", np.asarray([total], dtype=np.float32)))
        if "return_logprobs" in self._wants:
            tensors.append(text_tensor("logprobs", self._tell_logprobs(step.ids[len(step.ids) - new :])))
        if "return_num_input_tokens" in self._wants:
            count = len(encode(self.order.prompt))
            tensors.append(pb_utils.Tensor("num_input_tokens", np.asarray(count, dtype=np.uint32)))
        if "return_num_output_tokens" in self._wants:
            tensors.append(pb_utils.Tensor("num_output_tokens", np.asarray([new], dtype=np.uint32)))
        return pb_utils.InferenceResponse(output_tensors=tensors)

    def _new_text(self, step: Step) -> str:
        """Return the delta: no character cut, no beginning of a stop string before it is known to be none."""
        text = bytes_of(step.ids).decode("utf-8", "replace" if step.finish_reason else "ignore")
        if step.stop_at is not None and not self._keeps_stop:
            text = text[: step.stop_at]
        elif not step.finish_reason and self._stops and not self._keeps_stop:
            text = text[: max(self._sent_chars, len(text) + 1 - max(map(len, self._stops)))]
        new, self._sent_chars = text[self._sent_chars :], len(text)
        return (self.order.prompt if self._is_prepending else "") + new

    def _tell_logprobs(self, ids: tuple[int, ...]) -> str:
        """Return vLLM's form: a list, one object a token, of id to logprob, rank and text; null where not asked for."""
        if self._logprobs is None:
            return "null"
        told = []
        for one in ids:
            found = {one: {"logprob": logprob_of(one), "rank": 1, "decoded_token": decode([one])}}
            for rank in range(2, int(self._logprobs) + 1):
                found[one + (rank << 16)] = {
                    "logprob": logprob_of(one) - rank,
                    "rank": rank,
                    "decoded_token": f" {rank}",
                }
            told.append(found)
        return json.dumps(told)


def check_lora(name: str | None, loras: list[str]) -> None:
    """Raise RefusedError, with what the backend says, for an adapter that it does not have."""
    if name is not None and name not in loras:
        raise RefusedError(f"LoRA {name} is not supported, we currently support {loras}")


def find_schema(sampling: dict[str, Any]) -> str | None:
    """Return the JSON schema as JSON. Raises ValueError where the backend refuses what was sent."""
    told = sampling.get("structured_outputs", sampling.get("guided_decoding"))
    if told is None:
        return None
    try:
        schema = json.loads(told).get("json")
    except (TypeError, ValueError, AttributeError) as exc:
        raise ValueError("'NoneType' object has no attribute 'lora_name'") from exc
    if schema is None:
        return None
    return schema if isinstance(schema, str) else json.dumps(schema)


def logprob_of(one: int) -> float:
    """Return a log probability that depends on the token only."""
    return -0.1 - one % 10 / 10
