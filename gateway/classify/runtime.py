"""onnxruntime, for graphs that are not ours. Imported with the first of them."""

import onnxruntime

from gateway.classify.features import TextMeasures
from gateway.classify.feed import OUTPUTS, feed_of


class RuntimeGraph:
    """A graph that onnxruntime runs. Safe to share between threads."""

    entries = None
    """Words are told by their places, as the graph's inputs want them."""

    def __init__(self, model: bytes) -> None:
        """Open it on one thread that never spins. Raises onnxruntime's errors.

        A graph of microseconds gains nothing from a pool, and spinning starves the loop.
        """
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.add_session_config_entry("session.inter_op.allow_spinning", "0")
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        self.names = [node.name for node in session.get_inputs()], [node.name for node in session.get_outputs()]
        self.metadata: dict[str, str] = session.get_modelmeta().custom_metadata_map
        # Without the session's wrapper, whose checks of names take 12 µs, as long as the graph itself.
        self._inner = getattr(session, "_sess", None) or session

    def judge(self, measures: TextMeasures) -> list[float]:
        """Return a text's judgement. Raises onnxruntime's errors, and ValueError for a judgement of another shape."""
        (judgement,) = self._inner.run(OUTPUTS, feed_of(measures), None)
        if judgement.ndim != 2:
            raise ValueError(f"a judgement is a row of figures, not of the shape {judgement.shape}")
        row: list[float]
        (row,) = judgement.tolist()
        return row
