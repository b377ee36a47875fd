"""The two dialects of TensorRT-LLM on Triton: `trtllm` (the ensemble, or the BLS model), and `llmapi`.

Source: https://github.com/NVIDIA/TensorRT-LLM, triton_backend/all_models/inflight_batcher_llm (ensemble/config.pbtxt,
preprocessing, postprocessing, tensorrt_llm_bls) and triton_backend/all_models/llmapi/tensorrt_llm (config.pbtxt,
1/model.py, 1/helpers.py).
"""

from gateway.backends.engine import Sampling, Task
from gateway.backends.triton.dialects import Draft, Signature, Stop, positive
from gateway.backends.triton.responses import AnswerReader, Responses
from gateway.backends.triton.text import Accumulated, Deltas
from gateway.backends.triton.wire import Datatype, Input, ModelFacts

RUNNER_INPUT = "request_output_len"
"""An input by which the ensemble's step that runs the model is known, whatever its name."""
STOP_INPUTS = (
    Input("input_ids", Datatype.INT32, (0,)),
    Input("input_lengths", Datatype.INT32, (1,)),
    Input(RUNNER_INPUT, Datatype.INT32, (1,)),
    Input("stop", Datatype.BOOL, (True,)),
)
UNSIGNED = 2**64
TRUE = frozenset({"true", "1", "t", "y", "yes"})


class TrtllmDialect:
    """An input for each parameter, counts as deltas, no finish reason.

    The ensemble decodes each streamed response's tokens alone: a character made of several tokens comes as U+FFFD, and
    nothing in the response tells what it was. Only whole answers, and the BLS model with `accumulate_tokens`, whose
    responses hold the text so far, give every character.
    """

    signature = Signature({"text_input": Datatype.BYTES, "max_tokens": Datatype.INT32}, needs_decoupled=False)

    def __init__(self, lora_task_id: int | None = None) -> None:
        self._lora_task_id = lora_task_id

    def is_streaming(self, task: Task, *, is_heard: bool) -> bool:  # noqa: ARG002 - the seam's
        """Tell whether the model is asked to answer in several responses."""
        return task.is_streaming

    def encode(self, task: Task, facts: ModelFacts, *, is_streaming: bool) -> tuple[Input, ...]:
        """Return the inputs for a task."""
        sampling, draft = task.sampling, Draft(facts)
        draft.add("text_input", Datatype.BYTES, task.prompt)
        draft.add("max_tokens", Datatype.INT32, sampling.max_tokens)
        draft.add("stream", Datatype.BOOL, is_streaming)
        # Whether the prompt comes back is otherwise the model's own configuration.
        draft.add("exclude_input_in_output", Datatype.BOOL, True)
        draft.add("stop_words", Datatype.BYTES, *sampling.stop)
        _add_randomness(draft, sampling, prefix="")
        draft.add("min_tokens", Datatype.INT32, sampling.min_tokens)
        draft.add("repetition_penalty", Datatype.FP32, sampling.repetition_penalty)
        draft.add("lora_task_id", Datatype.UINT64, self._lora_task_id)
        if sampling.schema is not None:
            draft.add("guided_decoding_guide_type", Datatype.BYTES, "json_schema")
            draft.add("guided_decoding_guide", Datatype.BYTES, sampling.schema.decode())
        draft.offer("return_num_input_tokens")
        draft.offer("return_num_output_tokens")
        return draft.done()

    def reader(self, _: Task, facts: ModelFacts) -> AnswerReader:
        """Return what reads the responses to a task."""
        accumulates = facts.parameters.get("accumulate_tokens", "").lower() in TRUE
        return Responses(Accumulated() if accumulates else Deltas(), tells_end=False)

    def find_stop(self, facts: ModelFacts, *, is_heard: bool) -> Stop | None:  # noqa: ARG002 - the seam's
        """Return a stop for the model inside: an ensemble hands no cancel to a step that runs.

        Source: triton-inference-server/server#6739; what the BLS model sends where it hears of one,
        tensorrt_llm_bls/1/lib/triton_decoder.py `send_cancellation_request`.
        """
        runner = next((name for name, given in facts.steps.items() if RUNNER_INPUT in given), None)
        return None if runner is None else Stop(STOP_INPUTS, runner)


class LlmapiDialect:
    """Other names, a finish reason, no counts; every response holds the text so far."""

    signature = Signature(
        {
            "text_input": Datatype.BYTES,
            "streaming": Datatype.BOOL,
            "sampling_param_max_tokens": Datatype.INT32,
            "return_finish_reason": Datatype.BOOL,
        }
    )

    def is_streaming(self, task: Task, *, is_heard: bool) -> bool:  # noqa: ARG002 - the seam's
        """Tell whether the model is asked to answer in several responses.

        Also where stop strings are looked for: the model can't be told them (its `sampling_param_stop` reaches the
        tokenizer as bytes, which that refuses), so that whoever reads must be able to stop it.
        """
        return task.is_streaming or bool(task.sampling.stop)

    def encode(self, task: Task, facts: ModelFacts, *, is_streaming: bool) -> tuple[Input, ...]:
        """Return the inputs for a task."""
        draft = Draft(facts)
        draft.add("text_input", Datatype.BYTES, task.prompt)
        draft.add("streaming", Datatype.BOOL, is_streaming)
        draft.add("return_finish_reason", Datatype.BOOL, True)
        draft.add("sampling_param_max_tokens", Datatype.INT32, task.sampling.max_tokens)
        # The model's own default is to give the prompt back.
        draft.add("sampling_param_exclude_input_from_output", Datatype.BOOL, True)
        _add_randomness(draft, task.sampling, prefix="sampling_param_")
        return draft.done()

    def reader(self, _: Task, __: ModelFacts) -> AnswerReader:
        """Return what reads the responses to a task."""
        return Responses(Accumulated(), tells_end=True)

    def find_stop(self, facts: ModelFacts, *, is_heard: bool) -> Stop | None:
        """Return a stop where leaving is not heard; where it is, the model looks for it itself, and trips over both."""
        if is_heard or "stop" not in facts.inputs:
            return None
        return Stop((Input("text_input", Datatype.BYTES, ("",)), Input("stop", Datatype.BOOL, (True,))))


def _add_randomness(draft: Draft, sampling: Sampling, prefix: str) -> None:
    """Add what both dialects call the same but for a prefix.

    A temperature must be above 0, and without top_k and top_p the likeliest token is taken each time, whatever the
    temperature; so 0 is said as top_k 1, and another temperature brings OpenAI's own top_p with it.
    Source: TensorRT-LLM tensorrt_llm/sampling_params.py, `SamplingParams`.
    """
    temperature, top_k, top_p = sampling.temperature, positive(sampling.top_k), sampling.top_p
    if temperature == 0:
        temperature, top_k, top_p = None, 1, None
    elif temperature is not None and top_k is None and top_p is None:
        top_p = 1.0
    draft.add(f"{prefix}temperature", Datatype.FP32, temperature)
    draft.add(f"{prefix}top_k", Datatype.INT32, top_k)
    draft.add(f"{prefix}top_p", Datatype.FP32, top_p)
    draft.add(f"{prefix}presence_penalty", Datatype.FP32, sampling.presence_penalty)
    draft.add(f"{prefix}frequency_penalty", Datatype.FP32, sampling.frequency_penalty)
    draft.add(f"{prefix}seed", Datatype.UINT64, None if sampling.seed is None else sampling.seed % UNSIGNED)
