"""What the tables say is carried does reach the model, and what does not reach it is in no table."""

from types import SimpleNamespace

import msgspec
import pytest

from gateway.backends.engine import Sampling, Task
from gateway.backends.onnx import lanes
from gateway.backends.triton.tensorrt import LlmapiDialect, TrtllmDialect
from gateway.backends.triton.vllm import VllmDialect
from gateway.backends.triton.wire import ModelFacts
from gateway.settings.carried import COMMON, ROWS
from gateway.settings.engines import Dialect
from gateway.settings.models import BackendKind

VALUES = {
    "temperature": 0.7,
    "top_p": 0.9,
    "top_k": 7,
    "min_p": 0.1,
    "min_tokens": 3,
    "presence_penalty": 0.5,
    "frequency_penalty": 0.5,
    "repetition_penalty": 1.2,
    "seed": 42,
    "logit_bias": {"7": 1.0},
    "logprobs": 2,
}
OF_NO_FIELD = {"max_tokens", "stop", "schema"}
"""Sampling's other parts: always sent, trimmed here, or guided by `response_format`."""
DIALECTS = {Dialect.VLLM: VllmDialect(), Dialect.TRTLLM: TrtllmDialect(), Dialect.LLMAPI: LlmapiDialect()}


def told(kind, **sampling):
    """What the model's side is told of a sampling."""
    asked = Sampling(max_tokens=50, **sampling)
    if kind is BackendKind.ONNX:
        turn = SimpleNamespace(
            sampling=asked, prompt=[1], max_tokens=asked.max_tokens, min_tokens=asked.min_tokens or 0
        )
        return lanes._search_options(turn)
    task = Task("t", "hello", asked, is_streaming=True, deadline_s=0.0)
    return DIALECTS[kind].encode(task, ModelFacts({}, {}), is_streaming=True)


def test_every_part_of_a_sampling_is_looked_at():
    assert set(VALUES) | OF_NO_FIELD == {field.name for field in msgspec.structs.fields(Sampling)}


@pytest.mark.parametrize("kind", ROWS)
@pytest.mark.parametrize("name", VALUES)
def test_a_field_reaches_the_model_where_its_row_says_so_and_nowhere_else(kind, name):
    is_carried = name in ROWS[kind].fields | COMMON
    assert (told(kind, **{name: VALUES[name]}) != told(kind)) == is_carried


@pytest.mark.parametrize("kind", DIALECTS)
def test_a_schema_reaches_the_model_where_its_row_says_that_it_can_be_guided(kind):
    assert (told(kind, schema=b'{"type":"object"}') != told(kind)) == ROWS[kind].can_guide


@pytest.mark.parametrize("kind", ROWS)
def test_alternatives_are_asked_for_where_log_probabilities_are(kind):
    assert ("top_logprobs" in ROWS[kind].fields) == ("logprobs" in ROWS[kind].fields)
