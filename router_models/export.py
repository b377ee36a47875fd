"""Puts a space and its heads into one ONNX graph, and proves that it says what NumPy and scikit-learn say.

Inputs and outputs are described in `gateway/classify/onnx.py`. Scaling and centring are folded into weights and the
votes for domains stand in the same int8 table as the vectors: a node costs about a microsecond, a product of this size
less.
"""

from typing import Any

import msgspec
import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from gateway.classify.features import measure_text
from gateway.classify.onnx import FEATURES, FIGURES, JUDGEMENT, VOCABULARY, WEIGHTS, WORDS, feed_of
from gateway.core.judgement import DOMAINS
from router_models.encoder import Floats32
from router_models.heads import FRONTIER, WEAK, DomainHead, Floats, Linear, tell_domains
from router_models.odds import sigmoid
from router_models.space import CLIP, Space

OPSET = 17
# onnxruntime 1.22, the oldest we allow, reads IR 10.
IR_VERSION = 10
TOLERANCE = 1e-4
CHANCES = 3
SCALE = "scale"
"""The metadata key of the table's scales: folded into weights, they are needed only to take the model apart again."""


class ExportError(Exception):
    """The exported model does not give the judgements of the fitted one; nothing may be shipped from it."""


class Heads(msgspec.Struct, frozen=True):
    """What reads a representation: log-odds of the win rate (its linear part) and of the chances, log of the tokens.

    `chances`: what the frontier's chance less the weak side's adds to the log-odds of the win rate.
    """

    figures: Linear
    chances: float
    domain: DomainHead

    def judge(self, space: Space, texts: list[str]) -> Floats:
        """Return the judgement rows (N, FIGURES + domains), as the graph gives them."""
        read = space.read(texts)
        score, chance_logits, log_tokens = np.split(self.figures.apply(space.represent(read)), [1, 1 + CHANCES], axis=1)
        chances = sigmoid(chance_logits)
        score = sigmoid(score + self.chances * (chances[:, FRONTIER:] - chances[:, WEAK : WEAK + 1]))
        return np.hstack([score, chances, log_tokens, tell_domains(self.domain, read.whole, read.votes)])


def to_model(space: Space, heads: Heads) -> onnx.ModelProto:
    """Return the graph of one text."""
    nodes = [
        # The words' vectors and votes, added up over the stem and over the whole: (1, 2 * (D + domains)).
        _node("Gather", ["table", WORDS], "stored"),
        _node("Cast", ["stored"], "rows", to=TensorProto.FLOAT),
        _node("MatMul", [WEIGHTS, "rows"], "sums"),
        _node("Reshape", ["sums", "one_row"], "of_words"),
        _node("Max", [FEATURES, "low"], "raised"),
        _node("Min", ["raised", "high"], "clipped"),
        _node("Concat", ["clipped", "of_words"], "read", axis=1),
        _node("Gemm", ["read", "heads", "offset"], "logits"),
        _node("Split", ["logits", "parts"], "ranked", "chance_logits", "log_tokens", "domain_logits", axis=1),
        _node("Sigmoid", ["chance_logits"], "chances"),
        _node("MatMul", ["chances", "of_chances"], "gained"),
        _node("Add", ["ranked", "gained"], "score_logit"),
        _node("Sigmoid", ["score_logit"], "score"),
        _node("Softmax", ["domain_logits"], "domains", axis=1),
        _node("Concat", ["score", "chances", "log_tokens", "domains"], JUDGEMENT, axis=1),
    ]
    heads_table, offset = _folded(space, heads)
    constants = {
        "table": np.hstack([space.table, heads.domain.table]),
        "one_row": np.array([1, -1]),
        "low": space.low,
        "high": space.high,
        "heads": heads_table,
        "offset": offset,
        "parts": np.array([1, CHANCES, 1, len(DOMAINS)]),
        "of_chances": np.array([[-heads.chances], [0.0], [heads.chances]], dtype=np.float32),
    }
    graph = helper.make_graph(
        nodes,
        "router",
        [
            helper.make_tensor_value_info(FEATURES, TensorProto.FLOAT, [1, len(space.mean)]),
            helper.make_tensor_value_info(WORDS, TensorProto.INT64, ["words"]),
            helper.make_tensor_value_info(WEIGHTS, TensorProto.FLOAT, [2, "words"]),
        ],
        [helper.make_tensor_value_info(JUDGEMENT, TensorProto.FLOAT, [1, FIGURES + len(DOMAINS)])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    model.producer_name = "postern"
    scale = np.concatenate([space.scale, heads.domain.scale])
    helper.set_model_props(model, {VOCABULARY: "\n".join(space.words), SCALE: " ".join(map(repr, scale.tolist()))})
    onnx.checker.check_model(model, full_check=True)
    return model


def _node(kind: str, inputs: list[str], *outputs: str, **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(kind, inputs, list(outputs), **attributes)


def _folded(space: Space, heads: Heads) -> tuple[Floats32, Floats32]:
    """Return the heads' weights for what the graph reads: measures as clipped, sums of words as stored; and offsets.

    The rows are the measures, the stem's vector and votes, the whole's vector and votes. Figures read measures and the
    stem's vector; domains read the whole's vector and votes, a vote each for its own.
    """
    measures, width = len(space.mean), len(space.scale)
    of_measures = heads.figures.weights[:measures] / space.spread[:, np.newaxis]
    of_stem = heads.figures.weights[measures:]
    subject = heads.domain.of_vector
    stem, whole = measures, measures + width + len(DOMAINS)
    folded = np.zeros((measures + 2 * (width + len(DOMAINS)), FIGURES + len(DOMAINS)))
    folded[:measures, :FIGURES] = of_measures
    folded[stem : stem + width, :FIGURES] = of_stem * space.scale[:, np.newaxis]
    folded[whole : whole + width, FIGURES:] = subject.weights * space.scale[:, np.newaxis]
    folded[whole + width :, FIGURES:] = np.diag(heads.domain.scale)
    offset = heads.figures.offset - space.mean @ of_measures - space.centre @ of_stem
    return folded.astype(np.float32), np.concatenate([offset, subject.offset]).astype(np.float32)


def from_model(data: bytes) -> tuple[Space, Heads]:
    """Read back the space and the heads of an exported model: what `postern adapt` builds on. Raises ExportError."""
    model = onnx.load_from_string(data)
    of = {constant.name: numpy_helper.to_array(constant) for constant in model.graph.initializer}
    properties = {entry.key: entry.value for entry in model.metadata_props}
    try:
        words = tuple(properties[VOCABULARY].split())
        return _unfolded(of, np.array(properties[SCALE].split(), dtype=np.float32), words)
    except KeyError as error:
        raise ExportError(f"this is no router that `postern train` wrote: it has no {error}") from error


def _unfolded(of: dict[str, NDArray[Any]], scales: Floats32, words: tuple[str, ...]) -> tuple[Space, Heads]:
    width = of["table"].shape[1] - len(DOMAINS)
    mean, spread = (of["low"] + of["high"]) / 2, (of["high"] - of["low"]) / (2 * CLIP)
    scale, votes = np.split(scales, [width])
    space = Space(
        words, of["table"][:, :width], scale,
        # Weights that read a stem as it is need no centre.
        centre=np.zeros(width, dtype=np.float32), mean=mean, spread=spread,
    )  # fmt: skip
    measures, stem, whole = len(mean), len(mean), len(mean) + width + len(DOMAINS)
    of_measures = of["heads"][:measures, :FIGURES]
    of_stem = of["heads"][stem : stem + width, :FIGURES] / scale[:, np.newaxis]
    figures = Linear(
        np.vstack([of_measures * spread[:, np.newaxis], of_stem]).astype(np.float64),
        (of["offset"][:FIGURES] + mean @ of_measures).astype(np.float64),
    )
    of_whole = of["heads"][whole : whole + width, FIGURES:] / scale[:, np.newaxis]
    of_subject = Linear(of_whole.astype(np.float64), of["offset"][FIGURES:].astype(np.float64))
    domain = DomainHead(of["table"][:, width:], votes, of_subject)
    return space, Heads(figures, float(of["of_chances"][FRONTIER, 0]), domain)


def verify(model: bytes, space: Space, heads: Heads, texts: list[str]) -> float:
    """Return the largest difference between the file's judgements and the fitted ones. Raises ExportError."""
    worst = float(np.abs(run_texts(model, texts) - heads.judge(space, texts)).max())
    if not worst <= TOLERANCE:
        raise ExportError(f"the ONNX judgements differ from the fitted ones by {worst:.2g}, allowed is {TOLERANCE:g}")
    return worst


def run_texts(model: bytes, texts: list[str]) -> Floats:
    """Return the judgement rows of an exported model, as onnxruntime computes them."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    words = session.get_modelmeta().custom_metadata_map[VOCABULARY].split()
    vocabulary = {word.encode(): row for row, word in enumerate(words)}
    return np.stack([session.run([JUDGEMENT], feed_of(measure_text(text), vocabulary))[0][0] for text in texts])
