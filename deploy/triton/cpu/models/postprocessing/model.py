"""The ensemble's `postprocessing`, mocked: https://github.com/NVIDIA/TensorRT-LLM, triton_backend/all_models.

Each response is decoded by itself, as in the real one: a character cut between two becomes U+FFFD in both.
"""

from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils
from mock.tokens import decode


class TritonPythonModel:
    """Tokens to text."""

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer each request."""
        return [pb_utils.InferenceResponse(output_tensors=[detokenize(request)]) for request in requests]


def detokenize(request: Any) -> Any:
    """Return the texts of all beams."""
    batch = pb_utils.get_input_tensor_by_name(request, "TOKENS_BATCH").as_numpy()
    lengths = pb_utils.get_input_tensor_by_name(request, "SEQUENCE_LENGTH").as_numpy()
    told = [
        decode(ids[: lengths[row][beam]].tolist()) for row, beams in enumerate(batch) for beam, ids in enumerate(beams)
    ]
    return pb_utils.Tensor("OUTPUT", np.asarray([one.encode() for one in told], dtype=np.object_))
