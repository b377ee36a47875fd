"""TensorRT-LLM's LLM API model, mocked: https://github.com/NVIDIA/TensorRT-LLM, triton_backend/all_models/llmapi.

Streamed, `text_output` is the whole text so far, not what is new. Tells a finish reason and no counts.
"""

import json
from typing import Any

import triton_python_backend_utils as pb_utils
from mock.answering import Sayings, answer
from mock.counts import NoGauges
from mock.engine import Engine, Step
from mock.inputs import all_of, error, scalar, text_tensor, texts
from mock.script import Order
from mock.tokens import bytes_of

DEFAULT_MAX_TOKENS = 32
SAYINGS = Sayings("Request cancelled by client", "Error generating request: ")
TELLABLE = ("finish_reason", "stop_reason", "cumulative_logprob")


class TritonPythonModel:
    """The model."""

    @classmethod
    def auto_complete_config(cls, config: Any) -> Any:
        """Set what the real one reads from model.yaml's `triton_config`."""
        config.set_model_transaction_policy({"decoupled": True})
        config.set_max_batch_size(0)
        return config

    def initialize(self, args: dict[str, str]) -> None:
        """Start the engine."""
        self._engine = Engine("llmapi", NoGauges(), json.loads(args["model_config"])["parameters"])

    def execute(self, requests: list[Any]) -> None:
        """Begin each request; its responses come as they are made."""
        for request in requests:
            if scalar(request, "stop", default=False):
                self._stop(request)
            else:
                self._engine.start(answer(self._engine, request, Asked, SAYINGS, request.is_cancelled))

    def _stop(self, request: Any) -> None:
        """End the request that runs under the same id."""
        self._engine.stop_request(request.request_id())
        sender = request.get_response_sender()
        sender.send(
            error(SAYINGS.cancelled, pb_utils.TritonError.CANCELLED),
            flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL,
        )

    def finalize(self) -> None:
        """End with what is under way."""
        self._engine.stop()


class Asked:
    """A request as it was read."""

    def __init__(self, request: Any) -> None:
        told = all_of(request)
        self._is_excluding = bool(scalar(request, "sampling_param_exclude_input_from_output", default=False))
        self._wants = [name for name in TELLABLE if scalar(request, f"return_{name}", default=False)]
        self.order = Order(
            prompt=texts(request, "text_input")[0],
            max_tokens=int(scalar(request, "sampling_param_max_tokens", DEFAULT_MAX_TOKENS)),
            stops=texts(request, "sampling_param_stop"),
            seed=scalar(request, "sampling_param_seed"),
            is_streaming=bool(scalar(request, "streaming", default=False)),
            request_id=request.request_id(),
            told={name: value for name, value in told.items() if name != "text_input"},
        )

    def response(self, step: Step) -> Any:
        """Return all there is so far."""
        text = bytes_of(step.ids).decode("utf-8", "replace" if step.finish_reason else "ignore")
        if step.stop_at is not None:
            text = text[: step.stop_at]
        if not self.order.is_streaming and not self._is_excluding:
            text = self.order.prompt + text
        stop_reason = next((stop for stop in self.order.stops if step.stop_at is not None), None)
        found = {"finish_reason": step.finish_reason, "stop_reason": stop_reason, "cumulative_logprob": None}
        tensors = [text_tensor("text_output", text), *(text_tensor(name, str(found[name])) for name in self._wants)]
        return pb_utils.InferenceResponse(output_tensors=tensors)
