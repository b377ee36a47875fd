"""Puts a space and its heads into one ONNX graph, and proves that it says what NumPy and scikit-learn say.

Inputs and outputs are described in `gateway/classify/onnx.py`. Heads are linear and a text's vector is a sum, so what
each word adds to each logit is folded into the table that serves: 23 numbers a word where its vector has 274, a third
of the memory and of the time. The vectors themselves, which a residual is fitted on, stand behind the graph in ONNX's
place for what training needs, `training_info`; the gateway reads the file only up to there.
"""

import zlib
from typing import Any

import msgspec
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from gateway.classify.features import measure_text
from gateway.classify.feed import FEATURES, JUDGEMENT, WEIGHTS, WORDS
from gateway.classify.graph import FIGURES, choosing
from gateway.classify.onnx import VOCABULARY
from gateway.classify.runtime import RuntimeGraph
from gateway.classify.vocabulary import Vocabulary
from gateway.core.judgement import DOMAINS
from router_models.heads import FRONTIER, WEAK, DomainHead, Floats, Linear, tell_domains
from router_models.odds import sigmoid
from router_models.space import CLIP, Space

OPSET = 17
# onnxruntime 1.22, the oldest we allow, reads IR 10.
IR_VERSION = 10
TOLERANCE = 1e-4
CHANCES = 3
LOGITS = FIGURES + len(DOMAINS)
PACKED = "vectors"
"""The words' vectors and votes, int8, by zlib: 1.3 MB of 6.6 are saved, and the whole stays under 8."""


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
    """Return the graph of one text, and behind it what it was folded from."""
    nodes = [
        # What the words add to the logits, as words of the stem and of the whole: (1, 2 * logits).
        _node("Gather", ["table", WORDS], "rows"),
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
    of_measures, of_words, offset = _folded(space, heads)
    vectors = np.hstack([space.table, heads.domain.table])
    constants: dict[str, NDArray[Any]] = {
        "table": (vectors.astype(np.float64) @ of_words).astype(np.float32),
        "one_row": np.array([1, -1]),
        "low": space.low,
        "high": space.high,
        "heads": np.vstack([of_measures, choosing(LOGITS)]).astype(np.float32),
        "offset": offset.astype(np.float32),
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
        [helper.make_tensor_value_info(JUDGEMENT, TensorProto.FLOAT, [1, LOGITS])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    model.producer_name = "postern"
    helper.set_model_props(model, {VOCABULARY: "\n".join(space.words)})
    model.training_info.add().initialization.CopyFrom(_origin(space, heads, vectors, of_words))
    onnx.checker.check_model(model, full_check=True)
    return model


def serving_bytes(model: bytes) -> int:
    """Return how many bytes of an exported model serve: all before the first that only training needs."""
    served = onnx.load_from_string(model)
    served.ClearField("training_info")
    return int(served.ByteSize())


def _node(kind: str, inputs: list[str], *outputs: str, **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(kind, inputs, list(outputs), **attributes)


def _folded(space: Space, heads: Heads) -> tuple[Floats, Floats, Floats]:
    """Return what the logits take of measures as clipped, of vectors and votes as stored, and their offsets.

    Figures read measures and the stem's vector; domains read the whole's vector and votes, a vote each for its own.
    """
    measures, width = len(space.mean), len(space.scale)
    of_measures = np.zeros((measures, LOGITS))
    of_measures[:, :FIGURES] = heads.figures.weights[:measures] / space.spread[:, np.newaxis]
    of_stem = heads.figures.weights[measures:]
    subject = heads.domain.of_vector
    of_words = np.zeros((width + len(DOMAINS), LOGITS))
    of_words[:width, :FIGURES] = of_stem * space.scale[:, np.newaxis]
    of_words[:width, FIGURES:] = subject.weights * space.scale[:, np.newaxis]
    of_words[width:, FIGURES:] = np.diag(heads.domain.scale)
    offset = heads.figures.offset - space.mean @ of_measures[:, :FIGURES] - space.centre @ of_stem
    return of_measures, of_words, np.concatenate([offset, subject.offset])


def _origin(space: Space, heads: Heads, vectors: NDArray[np.int8], of_words: Floats) -> onnx.GraphProto:
    """Return what the table was folded from; the vectors packed, as nobody reads them while serving."""
    packed = np.frombuffer(zlib.compress(vectors.tobytes(), 9), dtype=np.uint8)
    constants: dict[str, NDArray[Any]] = {
        PACKED: packed,
        "of_words": of_words.astype(np.float32),
        "scale": np.concatenate([space.scale, heads.domain.scale]).astype(np.float32),
    }
    return helper.make_graph(
        [], "origin", [], [], [numpy_helper.from_array(value, name) for name, value in constants.items()]
    )


def from_model(data: bytes) -> tuple[Space, Heads]:
    """Read back the space and the heads of an exported model: what `postern adapt` builds on. Raises ExportError."""
    model = onnx.load_from_string(data)
    constants = [*model.graph.initializer]
    for told in model.training_info:
        constants += told.initialization.initializer
    of = {constant.name: numpy_helper.to_array(constant) for constant in constants}
    properties = {entry.key: entry.value for entry in model.metadata_props}
    try:
        return _unfolded(of, tuple(properties[VOCABULARY].split()))
    except KeyError as error:
        raise ExportError(f"this is no router that `postern train` of this version wrote: it has no {error}") from error


def _unfolded(of: dict[str, NDArray[Any]], words: tuple[str, ...]) -> tuple[Space, Heads]:
    width = len(of["of_words"]) - len(DOMAINS)
    vectors = np.frombuffer(zlib.decompress(of[PACKED].tobytes()), dtype=np.int8).reshape(len(words), -1)
    mean, spread = (of["low"] + of["high"]) / 2, (of["high"] - of["low"]) / (2 * CLIP)
    scale, votes = np.split(of["scale"], [width])
    space = Space(
        words, vectors[:, :width], scale,
        # Weights that read a stem as it is need no centre.
        centre=np.zeros(width, dtype=np.float32), mean=mean, spread=spread,
    )  # fmt: skip
    of_measures = of["heads"][: len(mean), :FIGURES]
    of_vector = of["of_words"][:width].astype(np.float64) / scale[:, np.newaxis]
    figures = Linear(
        np.vstack([of_measures * spread[:, np.newaxis], of_vector[:, :FIGURES]]).astype(np.float64),
        (of["offset"][:FIGURES] + mean @ of_measures).astype(np.float64),
    )
    of_subject = Linear(of_vector[:, FIGURES:], of["offset"][FIGURES:].astype(np.float64))
    domain = DomainHead(vectors[:, width:], votes, of_subject)
    return space, Heads(figures, float(of["of_chances"][FRONTIER, 0]), domain)


def verify(model: bytes, space: Space, heads: Heads, texts: list[str]) -> float:
    """Return the largest difference between the file's judgements and the fitted ones. Raises ExportError."""
    worst = float(np.abs(run_texts(model, texts) - heads.judge(space, texts)).max())
    if not worst <= TOLERANCE:
        raise ExportError(f"the ONNX judgements differ from the fitted ones by {worst:.2g}, allowed is {TOLERANCE:g}")
    return worst


def run_texts(model: bytes, texts: list[str]) -> Floats:
    """Return the judgement rows of an exported model, as onnxruntime computes them."""
    graph = RuntimeGraph(model)
    vocabulary = Vocabulary(graph.metadata[VOCABULARY].encode().split())
    return np.array([graph.judge(measure_text(text, vocabulary)) for text in texts])
