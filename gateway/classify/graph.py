"""The graph that routers are exported as, read from its ONNX file and computed by NumPy.

onnxruntime takes 27 MB for a graph of a few thousand multiplications, and a fifth longer. It stays what runs any other
graph; what is computed here is told from the file node by node, and tests hold it against onnxruntime.
Source of the field numbers: onnx.proto3, whose fields never change theirs.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from gateway.classify.features import TextMeasures
from gateway.classify.feed import INPUTS, OUTPUTS

Node = tuple[str, tuple[str, ...], tuple[str, ...], tuple[tuple[str, int], ...]]
Floats = NDArray[np.float32]

_AXIS: Final = (("axis", 1),)
NODES: Final[tuple[Node, ...]] = (
    ("Gather", ("table", "words"), ("rows",), ()),
    ("MatMul", ("weights", "rows"), ("sums",), ()),
    ("Reshape", ("sums", "one_row"), ("of_words",), ()),
    ("Max", ("features", "low"), ("raised",), ()),
    ("Min", ("raised", "high"), ("clipped",), ()),
    ("Concat", ("clipped", "of_words"), ("read",), _AXIS),
    ("Gemm", ("read", "heads", "offset"), ("logits",), ()),
    ("Split", ("logits", "parts"), ("ranked", "chance_logits", "log_tokens", "domain_logits"), _AXIS),
    ("Sigmoid", ("chance_logits",), ("chances",), ()),
    ("MatMul", ("chances", "of_chances"), ("gained",), ()),
    ("Add", ("ranked", "gained"), ("score_logit",), ()),
    ("Sigmoid", ("score_logit",), ("score",), ()),
    ("Softmax", ("domain_logits",), ("domains",), _AXIS),
    ("Concat", ("score", "chances", "log_tokens", "domains"), ("judgement",), _AXIS),
)
TENSORS: Final = ("table", "one_row", "low", "high", "heads", "offset", "parts", "of_chances")
CHANCES: Final = 3
OTHERS: Final = 2
"""The rank's logit before the chances, the tokens' after them."""
FIGURES: Final = CHANCES + OTHERS
"""Win rate; weak, strong and frontier chance; log of the output tokens. They read the stem's words; the domains, which
come after them, read all."""

OPSET: Final = 17

_GRAPH, _OPSET, _METADATA, _TRAINING = 7, 8, 14, 20
_NODE, _INITIALIZER, _INPUTS, _OUTPUTS = 1, 5, 11, 12
_INPUT, _OUTPUT, _OPERATOR, _ATTRIBUTE = 1, 2, 4, 5
_DIMENSION, _TYPE, _NAME, _RAW = 1, 2, 8, 9
# What is read, and what changes nothing: versions and names of makers, names, descriptions. Any other field (an
# operator's domain, numbers that lie in another file, functions, sparse tensors) may mean another graph.
_OF_MODEL: Final = frozenset({1, 2, 3, 4, 5, 6, _GRAPH, _OPSET, _METADATA, _TRAINING})
_OF_GRAPH: Final = frozenset({_NODE, 2, _INITIALIZER, 10, _INPUTS, _OUTPUTS})
_OF_NODE: Final = frozenset({_INPUT, _OUTPUT, 3, _OPERATOR, _ATTRIBUTE, 6})
_OF_ATTRIBUTE: Final = frozenset({1, 3, 13, 20})
_OF_TENSOR: Final = frozenset({_DIMENSION, _TYPE, _NAME, _RAW, 12})
_WHOLE_NUMBER: Final = 2
"""An attribute's type."""
_DTYPES: Final = {1: "<f4", 7: "<i8"}


class OtherGraphError(ValueError):
    """The file is none of this graph's, or none of ONNX's."""


class Graph:
    """The graph. Safe to share between threads."""

    def __init__(self, tensors: Mapping[str, NDArray[np.generic]], metadata: Mapping[str, str]) -> None:
        """Take the file's tensors. Raises OtherGraphError where they don't fit together."""
        self.metadata: Final = metadata
        table, heads = (_take(tensors, name, 2) for name in ("table", "heads"))
        self._low, self._high, self._offset = (_take(tensors, name, 1) for name in ("low", "high", "offset"))
        chances, logits, measures = _take(tensors, "of_chances", 2), len(self._offset), len(self._low)
        parts = [1, CHANCES, 1, logits - FIGURES]
        fits = (
            parts == tensors["parts"].tolist()
            and logits > FIGURES
            and tensors["one_row"].tolist() in ([1, 2 * logits], [1, -1])
            and chances.shape == (CHANCES, 1)
            and self._low.shape == self._high.shape
            and table.shape[1] == logits
            and heads.shape == (measures + 2 * logits, logits)
            and np.array_equal(heads[measures:], choosing(logits))
        )
        if not fits:
            raise OtherGraphError
        self._of_measures: Final = heads[:measures].copy()
        self._of_chances: Final[list[float]] = chances[:, 0].tolist()
        self.entries: Final[list[bytes]] = [row.tobytes() for row in table]
        """What each word adds to the logits, float32."""

    @classmethod
    def read(cls, model: bytes) -> Self:
        """Read an ONNX file. Raises OtherGraphError."""
        try:
            parts = _known(memoryview(model), _OF_MODEL)
            graph = _known(_only(parts, _GRAPH), _OF_GRAPH)
            tensors = list(map(_tensor, graph[_INITIALIZER]))
            inputs, outputs = (list(map(_name, graph[number])) for number in (_INPUTS, _OUTPUTS))
            is_ours = (
                tuple(map(_node, graph[_NODE])) == NODES
                and (inputs, outputs) == (INPUTS, OUTPUTS)
                and tuple(name for name, _ in tensors) == TENSORS
                and _by_number(_only(parts, _OPSET)).get(2) == [OPSET]
            )
            if not is_ours:
                raise OtherGraphError
            metadata = [_by_number(_bytes(one)) for one in parts.get(_METADATA, ())]
            return cls(dict(tensors), {_text(_last(one, 1)): _text(_last(one, 2)) for one in metadata})
        except (ValueError, LookupError, TypeError) as error:
            raise OtherGraphError from error

    def judge(self, measures: TextMeasures) -> list[float]:
        """Return a text's judgement, of whose words `known` are entries of ours."""
        clipped = np.minimum(np.maximum(measures.features, self._low), self._high)
        sums = clipped @ self._of_measures + self._offset
        count, in_stem = len(measures.known), measures.in_stem
        if count:
            told = np.frombuffer(b"".join(measures.known), dtype=np.float32).reshape(count, -1)
            if in_stem == count:
                sums += _ones(count) @ told * count**-0.5
            else:
                sums[:FIGURES] += _ones(in_stem) @ told[:in_stem, :FIGURES] * max(in_stem, 1) ** -0.5
                sums[FIGURES:] += _ones(count) @ told[:, FIGURES:] * count**-0.5
        logits: list[float] = sums.tolist()
        chances = [_sigmoid(logit) for logit in logits[1 : 1 + CHANCES]]
        gained = sum(chance * worth for chance, worth in zip(chances, self._of_chances, strict=True))
        return [_sigmoid(logits[0] + gained), *chances, logits[1 + CHANCES], *_softmax(logits[FIGURES:])]


_ONES: Final = np.ones(1024, dtype=np.float32)


def _ones(count: int) -> Floats:
    """Return as many ones; there are ready ones for every text of Latin letters."""
    return _ONES[:count] if count <= len(_ONES) else np.ones(count, dtype=np.float32)


def choosing(logits: int) -> Floats:
    """Choose from what words add, told over the stem and over the whole: figures read the stem, domains the whole."""
    chosen = np.zeros((2, logits, logits), dtype=np.float32)
    for logit in range(logits):
        chosen[int(logit >= FIGURES), logit, logit] = 1.0
    return chosen.reshape(2 * logits, logits)


def _sigmoid(logit: float) -> float:
    return 0.5 + 0.5 * math.tanh(0.5 * logit)  # 1 / (1 + e^-x), which would overflow


def _softmax(logits: Sequence[float]) -> list[float]:
    highest = max(logits)
    powers = [math.exp(logit - highest) for logit in logits]
    whole = sum(powers)
    return [power / whole for power in powers]


def _take(tensors: Mapping[str, NDArray[np.generic]], name: str, dimensions: int) -> Floats:
    found = tensors[name]
    if found.dtype != np.float32 or found.ndim != dimensions or not found.size:
        raise OtherGraphError
    return found.astype(np.float32)


Value = int | memoryview
Fields = dict[int, list[Value]]


def _by_number(message: memoryview) -> Fields:
    """Return a message's fields in their order, by number. Raises ValueError and IndexError for what is none."""
    found: Fields = {}
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        number, kind = key >> 3, key & 7
        value: Value
        if kind == 0:
            value, at = _varint(message, at)
        else:
            size = {1: 8, 5: 4}.get(kind, 0)
            if kind == 2:
                size, at = _varint(message, at)
            elif not size:
                raise ValueError("groups are not written any more")
            value, at = message[at : at + size], at + size
            if at > len(message):
                raise ValueError("cut off")
        found.setdefault(number, []).append(value)
    return found


def _known(message: memoryview, numbers: frozenset[int]) -> Fields:
    """Return a message's fields. Raises ValueError where it has others than these."""
    fields = _by_number(message)
    if not fields.keys() <= numbers:
        raise ValueError("a field that is not read")
    return fields


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    """Return a number and where it ends."""
    number = shift = 0
    while shift < 64:
        byte = message[at]
        number |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return number, at
    raise ValueError("a number without an end")


def _bytes(value: Value) -> memoryview:
    if isinstance(value, int):
        raise TypeError
    return value


def _text(value: Value) -> str:
    return str(_bytes(value), "utf-8")


def _last(fields: Fields, number: int) -> memoryview:
    """Return a field that is there once; of several, protobuf takes the last."""
    return _bytes(fields[number][-1])


def _only(fields: Fields, number: int) -> memoryview:
    """Return a message that must be there once: of several, protobuf makes one."""
    (value,) = fields[number]
    return _bytes(value)


def _name(value: Value) -> str:
    """Return the name of an input or an output."""
    return _text(_last(_by_number(_bytes(value)), 1))


def _node(value: Value) -> Node:
    fields = _known(_bytes(value), _OF_NODE)
    inputs, outputs = (tuple(map(_text, fields.get(number, ()))) for number in (_INPUT, _OUTPUT))
    return _text(fields[_OPERATOR][-1]), inputs, outputs, tuple(map(_attribute, fields.get(_ATTRIBUTE, ())))


def _attribute(value: Value) -> tuple[str, int]:
    """Return an attribute that is a whole number; what else there is, no node of ours has."""
    fields = _known(_bytes(value), _OF_ATTRIBUTE)
    number = fields[3][-1]
    if not isinstance(number, int) or fields[20][-1] != _WHOLE_NUMBER:
        raise TypeError
    return _text(fields[1][-1]), number


def _tensor(value: Value) -> tuple[str, NDArray[np.generic]]:
    """Return a tensor and its name. Only raw data is read: our exporter writes no other."""
    fields = _known(_bytes(value), _OF_TENSOR)
    dtype = _DTYPES[int(fields[_TYPE][-1])]
    shape = []
    for dimension in fields.get(_DIMENSION, ()):
        if isinstance(dimension, int):
            shape.append(dimension)
        else:  # packed
            at = 0
            while at < len(dimension):
                size, at = _varint(dimension, at)
                shape.append(size)
    return _text(fields[_NAME][-1]), np.frombuffer(_last(fields, _RAW), dtype=dtype).reshape(shape)
