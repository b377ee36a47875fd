"""From what went wrong on the wire to our errors. Knows the servers' texts: most of their errors have nothing else.

Sources of the texts: vLLM vllm/v1/engine (input_processor.py, processor.py), vllm/sampling_params.py and vllm_backend
src/model.py; TensorRT-LLM cpp/include/tensorrt_llm/batch_manager/llmRequest.h and tensorrt_llm/executor
(base_worker.py); Triton core src/model_repository_manager, src/infer_request.cc, src/dynamic_batch_scheduler.cc.
"""

import re

from gateway.backends.triton.wire import Fault, WireError
from gateway.core.errors import (
    PosternError,
    UpstreamContextError,
    UpstreamFailureError,
    UpstreamInterruptedError,
    UpstreamModelUnavailableError,
    UpstreamOverloadedError,
    UpstreamRejectionError,
    UpstreamTimeoutError,
    UpstreamUnavailableError,
)

CONTEXT = re.compile(
    r"maximum context length|maximum model length|max_model_len|exceeds maximum input length"
    r"|should not exceed max_(?:num_tokens|seq_len)|exceeds the maximum sequence length"
    r"|default_max_tokens` \(-?\d+\) must be greater than 0",
    re.IGNORECASE,
)
ABSENT = re.compile(
    r"unknown model|has no available versions|is not ready|is not found|unhealthy vLLM engine|model is unloading"
    # What we send is fixed by the dialect: inputs that the model refuses say that it is another.
    r"|unexpected inference input|expected \d+ inputs|unexpected shape for input|inference input .* data-type",
    re.IGNORECASE,
)
FULL = re.compile(r"maximum queue size|max_queue_size|queue is full|queue size has been reached", re.IGNORECASE)
# vLLM's backend logs why it refuses sampling parameters, goes on without any, and fails at the first look at them.
REFUSED_SAMPLING = re.compile(r"'NoneType' object has no attribute 'lora_name'")
REFUSED = re.compile(
    r"json.?schema|grammar|regex constraint|must be (?:in|at least|greater than|less than)", re.IGNORECASE
)
"""A schema that can't be followed, or a parameter out of its range."""


def error_of(model: str, failure: WireError, *, has_begun: bool) -> PosternError:
    """Return the error for a failed exchange; `has_begun`: something of the answer was given already.

    What the server told reaches the client only where the fault is the request's, and never our log: it may quote the
    prompt.
    """
    if failure.fault is Fault.DEADLINE:
        return UpstreamTimeoutError(f"{model} did not answer in time.")
    if failure.fault is Fault.TOLD:
        return _told(model, failure, has_begun=has_begun)
    if has_begun:
        return UpstreamInterruptedError(f"{model} broke off in the middle of its answer.", detail=failure.text)
    if failure.fault is Fault.CONNECTING:
        return UpstreamUnavailableError(f"{model} can't be reached.", detail=failure.text)
    return UpstreamFailureError(f"{model} closed the connection before its answer.", detail=failure.text)


def is_absence(failure: WireError) -> bool:
    """Tell whether the model that was known is there no more, or may be another by now."""
    return failure.fault in (Fault.CONNECTING, Fault.BROKEN) or _is_absent(failure)


def _is_absent(failure: WireError) -> bool:
    return failure.code == "NOT_FOUND" or _says(ABSENT, failure.text)


def _told(model: str, failure: WireError, *, has_begun: bool) -> PosternError:
    if has_begun:
        return UpstreamInterruptedError(f"{model} failed in the middle of its answer.", detail=failure.code)
    text = failure.text
    kinds: tuple[tuple[bool, PosternError], ...] = (
        (_says(CONTEXT, text), UpstreamContextError(text)),
        (
            _says(FULL, text) or failure.code == "RESOURCE_EXHAUSTED",
            UpstreamOverloadedError(f"{model} has a full queue.", retry_after_s=1),
        ),
        (_is_absent(failure), UpstreamModelUnavailableError(f"{model} is not on its server.", detail=failure.code)),
        (_says(REFUSED_SAMPLING, text), UpstreamRejectionError("The model's server refused a sampling parameter.")),
        (failure.code == "INVALID_ARGUMENT" or _says(REFUSED, text), UpstreamRejectionError(text)),
    )
    error = next((error for is_it, error in kinds if is_it), None)
    return error or UpstreamFailureError(f"{model} reported an error.", detail=failure.code)


def _says(pattern: re.Pattern[str], text: str) -> bool:
    return pattern.search(text) is not None
