"""The dialect of Triton's vLLM backend.

A JSON schema travels as `structured_outputs`, which vLLM has since 0.11 and the backend since its pull request 109
(November 2025); an older one refuses a request that brings a schema, and serves all others.
Source: https://github.com/triton-inference-server/vllm_backend, src/model.py (inputs and outputs), src/utils/request.py
(prompt, switches, responses), src/utils/vllm_backend_utils.py (`TritonSamplingParams`).
"""

import json
from collections.abc import Iterator

import msgspec

from gateway.backends.engine import Sampling, Task, TokenLogprob
from gateway.backends.triton.dialects import Draft, Signature, Stop, positive
from gateway.backends.triton.responses import AnswerReader, Responses, bytes_of
from gateway.backends.triton.text import Deltas, TextReader
from gateway.backends.triton.wire import Datatype, Fault, Input, ModelFacts, Outputs, WireError


class VllmDialect:
    """Sampling as one JSON text; text, counts and log probabilities come as deltas, and the end is told."""

    signature = Signature(
        {
            "text_input": Datatype.BYTES,
            "stream": Datatype.BOOL,
            "sampling_parameters": Datatype.BYTES,
            "exclude_input_in_output": Datatype.BOOL,
        }
    )

    def __init__(self, lora: str | None = None) -> None:
        self._lora = lora

    def is_streaming(self, task: Task, *, is_heard: bool) -> bool:
        """Tell whether the model is asked to answer in several responses.

        Always where leaving is heard at the next one only: an answer in one piece could not be stopped at all.
        """
        return task.is_streaming or not is_heard

    def encode(self, task: Task, facts: ModelFacts, *, is_streaming: bool) -> tuple[Input, ...]:
        """Return the inputs for a task."""
        draft = Draft(facts)
        draft.add("text_input", Datatype.BYTES, task.prompt)
        draft.add("stream", Datatype.BOOL, is_streaming)
        # Without it an answer that is not streamed begins with the prompt.
        draft.add("exclude_input_in_output", Datatype.BOOL, True)
        draft.add("sampling_parameters", Datatype.BYTES, msgspec.json.encode(self._sampling(task.sampling)).decode())
        for switch in ("return_finish_reason", "return_num_input_tokens", "return_num_output_tokens"):
            draft.offer(switch)
        if task.sampling.logprobs is not None:
            draft.add("return_logprobs", Datatype.BOOL, True)
        return draft.done()

    def reader(self, task: Task, facts: ModelFacts) -> AnswerReader:
        """Return what reads the responses to a task."""
        # vLLM's detokenizer holds back half characters; only a response's bytes could still end inside one.
        tells_end = "return_finish_reason" in facts.inputs
        return VllmResponses(Deltas(), tells_end=tells_end, alternatives=task.sampling.logprobs or 0)

    def find_stop(self, _: ModelFacts, *, is_heard: bool) -> Stop | None:  # noqa: ARG002 - the seam's
        """Return None: this backend knows no such request."""
        return None

    def _sampling(self, sampling: Sampling) -> dict[str, object]:
        """Return an allow-list: one key that vLLM's SamplingParams lacks, and the request dies.

        `logit_bias` is not among them: JSON's keys are texts, vLLM compares them with numbers. A limit is always
        given, as vLLM's own is 16 tokens.
        """
        told: dict[str, object] = {
            "max_tokens": sampling.max_tokens,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "top_k": positive(sampling.top_k),
            "min_p": sampling.min_p,
            "min_tokens": sampling.min_tokens,
            "presence_penalty": sampling.presence_penalty,
            "frequency_penalty": sampling.frequency_penalty,
            "repetition_penalty": sampling.repetition_penalty,
            "seed": sampling.seed,
            "stop": sampling.stop or None,
            "logprobs": sampling.logprobs,
            "structured_outputs": None if sampling.schema is None else _guide(sampling.schema),
            "lora_name": self._lora,
        }
        return {name: value for name, value in told.items() if value is not None}


def _guide(schema: bytes) -> str:
    """Return the guide as the backend reads it: a JSON text inside the JSON text, the schema in it an object."""
    return msgspec.json.encode({"json": msgspec.Raw(schema)}).decode()


class _TokenFacts(msgspec.Struct):
    logprob: float
    rank: int | None = None
    decoded_token: str | None = None

    @property
    def text(self) -> str:
        """Return the token's text; half a surrogate pair, which could not be sent on, is told as lost."""
        return (self.decoded_token or "").encode("utf-8", "replace").decode()


def _tokens_in(told: bytes) -> list[dict[str, _TokenFacts]]:
    """Return the tokens of a response, none where there is only null. Raises WireError."""
    try:
        # By Python's own, as the backend writes it: -Infinity, which is no JSON, for a token that can't be.
        found = json.loads(told)
        tokens = msgspec.convert(found, list[dict[str, _TokenFacts]] | None) or []
    except (ValueError, RecursionError) as exc:
        raise WireError(Fault.BROKEN, "log probabilities of another kind") from exc
    if not all(tokens):
        raise WireError(Fault.BROKEN, "a token without a log probability")
    return tokens


class VllmResponses(Responses):
    """Responses that may tell log probabilities."""

    def __init__(self, text: TextReader, *, tells_end: bool, alternatives: int) -> None:
        super().__init__(text, tells_end=tells_end)
        self._alternatives = alternatives

    def _logprobs(self, outputs: Outputs) -> tuple[TokenLogprob, ...]:
        told = bytes_of(outputs, "logprobs")
        return tuple(self._read_logprobs(told)) if told else ()

    def _read_logprobs(self, told: bytes) -> Iterator[TokenLogprob]:
        """Yield the tokens: each an object of alternatives by id, the chosen one first, then by rank.

        The chosen one is there beside the alternatives asked for where it is none of them.
        Source: vLLM vllm/v1/engine/logprobs.py.
        """
        for by_id in _tokens_in(told):
            chosen, *_ = by_id.values()
            ranked = sorted(by_id.values(), key=lambda token: token.rank or 0)[: self._alternatives]
            top = tuple((token.text, token.logprob) for token in ranked)
            yield TokenLogprob(chosen.text, chosen.logprob, top)
