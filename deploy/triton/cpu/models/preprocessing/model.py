"""The ensemble's `preprocessing`, mocked: https://github.com/NVIDIA/TensorRT-LLM, triton_backend/all_models."""

from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils
from mock.inputs import scalar, texts
from mock.tokens import END_ID, encode


class TritonPythonModel:
    """Text to tokens. Batches are of one, as the gateway sends no other."""

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer each request."""
        return [pb_utils.InferenceResponse(output_tensors=tokenize(request)) for request in requests]


def tokenize(request: Any) -> list[Any]:
    """Return the outputs; those without a meaning for a text are empty, as in the real one."""
    ids = encode(scalar(request, "QUERY"))
    end_id, pad_id = scalar(request, "END_ID", END_ID), scalar(request, "PAD_ID", END_ID)
    told = {
        "INPUT_ID": [ids],
        "REQUEST_INPUT_LEN": [[len(ids)]],
        "DECODER_INPUT_ID": [[pad_id]],
        "REQUEST_DECODER_INPUT_LEN": [[1]],
        "BAD_WORDS_IDS": [word_lists(texts(request, "BAD_WORDS_DICT"))],
        "STOP_WORDS_IDS": [word_lists(texts(request, "STOP_WORDS_DICT"))],
        "REQUEST_OUTPUT_LEN": [[scalar(request, "REQUEST_OUTPUT_LEN")]],
        "OUT_END_ID": [[end_id]],
        "OUT_PAD_ID": [[pad_id]],
    }
    tensors = [pb_utils.Tensor(name, np.asarray(values, dtype=np.int32)) for name, values in told.items()]
    tensors.append(pb_utils.Tensor("EMBEDDING_BIAS", np.zeros((1, 0), dtype=np.float32)))
    tensors.append(pb_utils.Tensor("OUT_PROMPT_TABLE_EXTRA_IDS", np.zeros((1, 0), dtype=np.uint64)))
    return tensors


def word_lists(words: tuple[str, ...]) -> list[list[int]]:
    """Return the words' tokens one after another, and below them where each word ends, both filled up with -1."""
    ids = [encode(word) for word in words]
    flat = [one for word in ids for one in word]
    ends, end = [], 0
    for word in ids:
        end += len(word)
        ends.append(end)
    return [flat, ends + [-1] * (len(flat) - len(ends))] if flat else [[0], [-1]]
