"""onnxruntime, for graphs that are not ours. Imported with the first of them."""

import onnxruntime


def open_session(model: bytes) -> onnxruntime.InferenceSession:
    """Return a session on one thread that never spins.

    A graph of microseconds gains nothing from a pool, and spinning starves the loop. Raises onnxruntime's errors.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
