"""The BLS model, mocked: https://github.com/NVIDIA/TensorRT-LLM, triton_backend/all_models, tensorrt_llm_bls.

With `accumulate_tokens`, as here, a streamed `text_output` is the whole text so far. A client that goes away is not
noticed: the real one never asks, and the request that it makes of `tensorrt_llm` has an id of its own making.
"""

import json
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils
from mock.counts import NoGauges
from mock.engine import Engine, Step
from mock.inputs import all_of, error, scalar, text_tensor, texts
from mock.script import Order
from mock.tokens import decode, encode


class TritonPythonModel:
    """The model."""

    def initialize(self, args: dict[str, str]) -> None:
        """Start the engine."""
        self._engine = Engine("bls", NoGauges(), json.loads(args["model_config"])["parameters"])

    def execute(self, requests: list[Any]) -> None:
        """Begin each request; its responses come as they are made."""
        for request in requests:
            self._engine.start(self._infer(request))

    async def _infer(self, request: Any) -> None:
        sender = request.get_response_sender()
        order = read(request)
        is_excluding = bool(scalar(request, "exclude_input_in_output", default=False))
        try:
            last = None
            async for last in self._engine.generate(order, lambda: False):
                if order.is_streaming:
                    sender.send(response(order, last, is_excluding=True))
            if not order.is_streaming:
                sender.send(response(order, last, is_excluding=is_excluding))
        except Exception as exc:  # noqa: BLE001 - the real model tells any failure in band
            sender.send(error(f"Traceback (most recent call last): {exc}"))
        sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)

    def finalize(self) -> None:
        """End with what is under way."""
        self._engine.stop()


def read(request: Any) -> Order:
    """Read a request."""
    kind = scalar(request, "guided_decoding_guide_type")
    return Order(
        prompt=scalar(request, "text_input"),
        max_tokens=int(scalar(request, "max_tokens")),
        stops=texts(request, "stop_words"),
        seed=scalar(request, "seed"),
        schema=scalar(request, "guided_decoding_guide") if kind == "json_schema" else None,
        is_streaming=bool(scalar(request, "stream", default=False)),
        told={name: value for name, value in all_of(request).items() if name != "text_input"},
    )


def response(order: Order, step: Step, *, is_excluding: bool) -> Any:
    """Return the text so far; the counts are those of `tensorrt_llm`: what is new, where it is streamed."""
    prompt = "" if is_excluding else order.prompt
    counted = step.new if order.is_streaming else len(step.ids) + len(encode(prompt))
    counts = {"num_input_tokens": len(encode(order.prompt)), "num_output_tokens": counted}
    tensors = [text_tensor("text_output", prompt + decode(step.ids))]
    for name, count in counts.items():
        if order.told.get(f"return_{name}"):
            tensors.append(pb_utils.Tensor(name, np.asarray([[count]], dtype=np.int32)))
    return pb_utils.InferenceResponse(output_tensors=tensors)
