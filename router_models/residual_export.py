"""Puts a residual behind a shipped graph, and proves that the new graph says what was fitted."""

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from router_models.evaluate import Floats
from router_models.export import OUTPUT_NAME, TOLERANCE, ExportError
from router_models.residual import CLIP, SURE_SCORE, Residual

PREFIX = "adapted_"


def attach(model: bytes, residual: Residual, representation: str) -> bytes:
    """Return the graph with the residual behind its score; its other outputs stay. Raises ExportError.

    `representation`: the tensor of the graph, [N, R], that the residual was fitted on.
    """
    graph_model = onnx.load_from_string(model)
    graph = graph_model.graph
    produced = {name for node in graph.node for name in node.output} | {node.name for node in graph.input}
    if representation not in produced:
        raise ExportError(f"the router has no tensor {representation!r} to put a residual on; retrain it")
    if any(name.startswith(PREFIX) for name in produced):
        raise ExportError("this router is an adapted one already; adapt the one it was made from")
    shipped = PREFIX + "shipped_score"
    for node in graph.node:
        node.input[:] = [shipped if name == OUTPUT_NAME else name for name in node.input]
        node.output[:] = [shipped if name == OUTPUT_NAME else name for name in node.output]
    graph.initializer.extend(_constants(residual))
    graph.node.extend(_nodes(shipped, representation))
    onnx.checker.check_model(graph_model)
    exported: bytes = graph_model.SerializeToString(deterministic=True)
    return exported


def _constants(residual: Residual) -> list[onnx.TensorProto]:
    values = {
        "low": SURE_SCORE, "high": 1 - SURE_SCORE, "one": 1.0, "least": -CLIP, "most": CLIP,
        "slope": residual.slope, "offset": residual.offset, "mean": residual.mean, "inverse": 1 / residual.scale,
        "weights": residual.weights[:, np.newaxis],
    }  # fmt: skip
    arrays = {name: np.asarray(value, dtype=np.float32) for name, value in values.items()}
    made = [numpy_helper.from_array(array, PREFIX + name) for name, array in arrays.items()]
    return [*made, helper.make_tensor(PREFIX + "flat", TensorProto.INT64, [1], [-1])]


def _nodes(shipped: str, representation: str) -> list[onnx.NodeProto]:
    """logit(shipped) * slope + offset + clip((representation - mean) * inverse) @ weights, through a sigmoid."""
    steps = [
        ("Clip", [shipped, "low", "high"], "inside"),
        ("Log", ["inside"], "log_inside"),
        ("Sub", ["one", "inside"], "outside"),
        ("Log", ["outside"], "log_outside"),
        ("Sub", ["log_inside", "log_outside"], "logit"),
        ("Mul", ["logit", "slope"], "scaled"),
        ("Sub", [representation, "mean"], "centred"),
        ("Mul", ["centred", "inverse"], "standard"),
        ("Clip", ["standard", "least", "most"], "clipped"),
        ("MatMul", ["clipped", "weights"], "column"),
        ("Reshape", ["column", "flat"], "push"),
        ("Sum", ["scaled", "push", "offset"], "value"),
    ]
    own = {shipped, representation}
    nodes = [
        helper.make_node(kind, [name if name in own else PREFIX + name for name in inputs], [PREFIX + output])
        for kind, inputs, output in steps
    ]
    return [*nodes, helper.make_node("Sigmoid", [PREFIX + "value"], [OUTPUT_NAME])]


def verify(model: bytes, inputs: dict[str, NDArray[np.float32]], expected: Floats) -> float:
    """Return the largest difference between the graph's scores and those fitted. Raises ExportError over TOLERANCE."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    found = session.run([OUTPUT_NAME], inputs)[0]
    difference = float(np.abs(found - expected).max())
    if found.shape != expected.shape or not difference <= TOLERANCE:
        raise ExportError(f"the exported residual differs from the fitted one by {difference:.2g}")
    return difference
