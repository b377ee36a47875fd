"""Reads a request's inputs: scalars of whatever shape, texts, lists of texts."""

from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils


def all_of(request: Any) -> dict[str, Any]:
    """Return every input that was sent, by name: a scalar where there is one value, else a list."""
    return {tensor.name(): plain(tensor.as_numpy()) for tensor in request.inputs()}


def plain(values: np.ndarray) -> Any:
    """Return Python values; bytes become text."""
    told = [one.decode() if isinstance(one, bytes) else one for one in values.reshape(-1).tolist()]
    return told[0] if len(told) == 1 else told


def scalar(request: Any, name: str, default: Any = None) -> Any:
    """Return an input's one value, or the default where it was not sent. Raises where there are several."""
    tensor = pb_utils.get_input_tensor_by_name(request, name)
    if tensor is None:
        return default
    values = tensor.as_numpy()
    if values.size != 1:
        raise ValueError(f"Expected a scalar tensor for tensor {name}")
    return plain(values)


def texts(request: Any, name: str) -> tuple[str, ...]:
    """Return an input's texts, empty ones left out."""
    tensor = pb_utils.get_input_tensor_by_name(request, name)
    if tensor is None:
        return ()
    return tuple(one.decode() for one in tensor.as_numpy().reshape(-1).tolist() if one)


def text_tensor(name: str, *told: str) -> Any:
    """Return an output tensor of texts."""
    return pb_utils.Tensor(name, np.asarray([one.encode() for one in told], dtype=np.object_))


def error(message: str, code: int | None = None) -> Any:
    """Return a response that is an error."""
    told = pb_utils.TritonError(message) if code is None else pb_utils.TritonError(message, code)
    return pb_utils.InferenceResponse(error=told)
