"""Puts a fitted pipeline and its calibration into one ONNX graph, and proves that it says what scikit-learn says."""

from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, compose, helper
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType

from router_models.calibrate import Calibration

INPUT_NAME = "features"
OUTPUT_NAME = "score"
OPSET = 17
# onnxruntime 1.22, the oldest we allow, reads IR 10.
IR_VERSION = 10
TOLERANCE = 1e-4


class ExportError(Exception):
    """The exported model does not give the scores of the fitted one; nothing may be shipped from it."""


def to_model(pipeline: Any, curve: Calibration, features: int) -> onnx.ModelProto:
    """Chain the pipeline (float32 [N, features]) and the calibration curve into one graph, score float32 [N]."""
    ranker = to_onnx(pipeline, initial_types=[(INPUT_NAME, FloatTensorType([None, features]))], target_opset=OPSET)
    raw = ranker.graph.output[0].name
    constants = {"low_knot": curve.knots[0], "high_knot": curve.knots[1], "offset": curve.offset, "zero": 0.0,
                 "middle": curve.slopes[0], "low": curve.slopes[1], "high": curve.slopes[2]}  # fmt: skip
    calibration = helper.make_graph(
        [
            helper.make_node("Sub", ["rank", "low_knot"], ["above_low"]),
            helper.make_node("Min", ["above_low", "zero"], ["below"]),
            helper.make_node("Sub", ["rank", "high_knot"], ["above_high"]),
            helper.make_node("Relu", ["above_high"], ["above"]),
            helper.make_node("Mul", ["rank", "middle"], ["middle_part"]),
            helper.make_node("Mul", ["below", "low"], ["low_part"]),
            helper.make_node("Mul", ["above", "high"], ["high_part"]),
            helper.make_node("Sum", ["middle_part", "low_part", "high_part", "offset"], ["logit"]),
            helper.make_node("Sigmoid", ["logit"], ["column"]),
            helper.make_node("Reshape", ["column", "flat"], [OUTPUT_NAME]),
        ],
        "calibration",
        [helper.make_tensor_value_info("rank", TensorProto.FLOAT, [None, 1])],
        [helper.make_tensor_value_info(OUTPUT_NAME, TensorProto.FLOAT, [None])],
        [
            *(helper.make_tensor(name, TensorProto.FLOAT, [1], [value]) for name, value in constants.items()),
            helper.make_tensor("flat", TensorProto.INT64, [1], [-1]),
        ],
    )
    tail = helper.make_model(calibration, opset_imports=list(ranker.opset_import), ir_version=IR_VERSION)
    ranker.ir_version = IR_VERSION
    model = compose.merge_models(ranker, tail, io_map=[(raw, "rank")])
    model.producer_name = "postern"
    onnx.checker.check_model(model)
    return model


def verify(model: bytes, features: NDArray[np.float32], expected: NDArray[np.float64]) -> float:
    """Return the largest difference between the file's scores and `expected`. Raises ExportError over TOLERANCE."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    score = session.run([OUTPUT_NAME], {INPUT_NAME: features})[0]
    difference = float(np.abs(score - expected).max())
    if score.shape != expected.shape or not difference <= TOLERANCE:
        raise ExportError(f"the ONNX scores differ from scikit-learn's by {difference:.2g}, allowed is {TOLERANCE:g}")
    return difference
