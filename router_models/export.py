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
from gateway.classify.onnx import FEATURES, FIGURES, JUDGEMENT, VOCABULARY, WEIGHTS, WORDS, word_feed
from gateway.core.judgement import DOMAINS
from router_models.encoder import Floats32
from router_models.heads import FRONTIER, WEAK, DomainHead, Floats, Linear, tell_domains
from router_models.space import CLIP, NEAR_ZERO, REPRESENTED, Space

OPSET = 17
# onnxruntime 1.22, the oldest we allow, reads IR 10.
IR_VERSION = 10
TOLERANCE = 1e-4
CHANCES = 3


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
        chances = _sigmoid(chance_logits)
        score = _sigmoid(score + self.chances * (chances[:, FRONTIER:] - chances[:, WEAK : WEAK + 1]))
        return np.hstack([score, chances, log_tokens, tell_domains(self.domain, read.whole, read.votes)])


def _sigmoid(logits: Floats) -> Floats:
    return np.asarray(1.0 / (1.0 + np.exp(-logits)))


def to_model(space: Space, heads: Heads) -> onnx.ModelProto:
    """Return the graph of one text."""
    width = space.table.shape[1]
    nodes = [
        # The words' vectors and votes, added up for the stem and for the whole: (2, D + domains).
        _node("Gather", ["table", WORDS], "stored"),
        _node("Cast", ["stored"], "rows", to=TensorProto.FLOAT),
        _node("MatMul", [WEIGHTS, "rows"], "unscaled"),
        _node("Mul", ["unscaled", "scale"], "sums"),
        _node("Split", ["sums", "table_parts"], "vectors", "votes_of_both", axis=1),
        _node("ReduceL2", ["vectors"], "length", axes=[1], keepdims=1),
        _node("Add", ["length", "near_zero"], "safe_length"),
        _node("Div", ["vectors", "safe_length"], "units"),
        # Each head reads the stem or the whole; what it must not read is masked out.
        _node("MatMul", ["units", "vector_weights"], "of_both"),
        _node("Mul", ["of_both", "mask"], "of_either"),
        _node("ReduceSum", ["of_either", "first_axis"], "of_vectors", keepdims=0),
        _node("Max", [FEATURES, "low"], "raised"),
        _node("Min", ["raised", "high"], "clipped"),
        _node("MatMul", ["clipped", "feature_weights"], "of_features"),
        _node("Sum", ["of_vectors", "of_features", "offset"], "logits"),
        _node("Split", ["logits", "logit_parts"], "ranked", "chance_logits", "log_tokens", "subject_logits", axis=0),
        _node("Sigmoid", ["chance_logits"], "chances"),
        _node("MatMul", ["chances", "of_chances"], "gained"),
        _node("Add", ["ranked", "gained"], "score_logit"),
        _node("Sigmoid", ["score_logit"], "score"),
        _node("Gather", ["votes_of_both", "second"], "votes", axis=0),
        _node("Add", ["subject_logits", "votes"], "domain_logits"),
        _node("Softmax", ["domain_logits"], "domains", axis=0),
        _node("Concat", ["score", "chances", "log_tokens", "domains"], JUDGEMENT, axis=0),
    ]
    constants = {
        "table": np.hstack([space.table, heads.domain.table]),
        "scale": np.concatenate([space.scale, heads.domain.scale]),
        "near_zero": np.array([NEAR_ZERO], dtype=np.float32),
        "table_parts": np.array([width, len(DOMAINS)]),
        "logit_parts": np.array([1, CHANCES, 1, len(DOMAINS)]),
        "of_chances": np.array([[-heads.chances], [0.0], [heads.chances]], dtype=np.float32),
        "first_axis": np.array([0]),
        "second": np.array(1),
        "low": space.low,
        "high": space.high,
        **_folded(space, heads),
    }
    graph = helper.make_graph(
        nodes,
        "router",
        [
            helper.make_tensor_value_info(FEATURES, TensorProto.FLOAT, [len(space.mean)]),
            helper.make_tensor_value_info(WORDS, TensorProto.INT64, ["words"]),
            helper.make_tensor_value_info(WEIGHTS, TensorProto.FLOAT, [2, "words"]),
        ],
        [helper.make_tensor_value_info(JUDGEMENT, TensorProto.FLOAT, [FIGURES + len(DOMAINS)])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    model.producer_name = "postern"
    helper.set_model_props(model, {VOCABULARY: "\n".join(space.words)})
    onnx.checker.check_model(model, full_check=True)
    return model


def _node(kind: str, inputs: list[str], *outputs: str, **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(kind, inputs, list(outputs), **attributes)


def _folded(space: Space, heads: Heads) -> dict[str, Floats32]:
    """Return the heads' weights for what the graph has: clipped measures and vectors, neither scaled nor centred."""
    measures = len(space.mean)
    of_measures = heads.figures.weights[:measures] / space.spread[:, np.newaxis]
    of_stem = np.zeros((space.table.shape[1], FIGURES))
    of_stem[: space.width - measures] = heads.figures.weights[measures:]
    offset = heads.figures.offset - space.mean @ of_measures - space.centre @ of_stem
    subject = heads.domain.of_vector
    mask = np.zeros((2, FIGURES + len(DOMAINS)))
    mask[0, :FIGURES] = mask[1, FIGURES:] = 1.0
    folded = {
        "feature_weights": np.hstack([of_measures, np.zeros((measures, len(DOMAINS)))]),
        "vector_weights": np.hstack([of_stem, subject.weights]),
        "mask": mask,
        "offset": np.concatenate([offset, subject.offset]),
    }
    return {name: value.astype(np.float32) for name, value in folded.items()}


def from_model(data: bytes) -> tuple[Space, Heads]:
    """Read back the space and the heads of an exported model: what `postern adapt` builds on. Raises ExportError."""
    model = onnx.load_from_string(data)
    of = {constant.name: numpy_helper.to_array(constant) for constant in model.graph.initializer}
    properties = {entry.key: entry.value for entry in model.metadata_props}
    try:
        width = int(of["table_parts"][0])
        mean, spread = (of["low"] + of["high"]) / 2, (of["high"] - of["low"]) / (2 * CLIP)
        space = Space(
            tuple(properties[VOCABULARY].split()), of["table"][:, :width], of["scale"][:width],
            # Weights that read a stem as it is need no centre.
            centre=np.zeros(width, dtype=np.float32), mean=mean, spread=spread,
        )  # fmt: skip
        of_measures, of_stem = of["feature_weights"][:, :FIGURES], of["vector_weights"][:REPRESENTED, :FIGURES]
        figures = Linear(
            np.vstack([of_measures * spread[:, np.newaxis], of_stem]).astype(np.float64),
            (of["offset"][:FIGURES] + mean @ of_measures).astype(np.float64),
        )
        chances = float(of["of_chances"][FRONTIER, 0])
        of_subject = Linear(
            of["vector_weights"][:, FIGURES:].astype(np.float64), of["offset"][FIGURES:].astype(np.float64)
        )
        domain = DomainHead(of["table"][:, width:], of["scale"][width:], of_subject)
    except KeyError as error:
        raise ExportError(f"this is no router that `postern train` wrote: it has no {error}") from error
    return space, Heads(figures, chances, domain)


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
    return np.stack([session.run([JUDGEMENT], _feed(text, vocabulary))[0] for text in texts])


def _feed(text: str, vocabulary: dict[bytes, int]) -> dict[str, NDArray[Any]]:
    measures = measure_text(text)
    return {FEATURES: measures.features, **word_feed(measures, vocabulary)}
