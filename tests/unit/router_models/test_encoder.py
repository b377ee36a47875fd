"""The forward pass of BERT, against one written out loop by loop, on a tiny random model; and what is refused."""

import json
import math

import numpy as np
import pytest
from safetensors.numpy import save_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from router_models import encoder as module
from router_models.data import DataError
from router_models.encoder import Encoder, find_encoder

LAYERS, HEADS, WIDTH, INNER, EPS = 2, 4, 16, 24, 1e-5
TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "the", "cat", "sat", "##s", "prove", "x"]
CONFIG = {
    "num_hidden_layers": LAYERS, "num_attention_heads": HEADS, "hidden_size": WIDTH, "intermediate_size": INNER,
    "layer_norm_eps": EPS, "model_type": "bert",
}  # fmt: skip


def random_weights(seed=0):
    rng = np.random.default_rng(seed)

    def of(*shape):
        return rng.normal(size=shape, scale=0.7).astype(np.float32)

    weights = {
        "embeddings.word_embeddings.weight": of(len(TOKENS), WIDTH),
        "embeddings.position_embeddings.weight": of(12, WIDTH),
        "embeddings.token_type_embeddings.weight": of(2, WIDTH),
        "embeddings.LayerNorm.weight": of(WIDTH),
        "embeddings.LayerNorm.bias": of(WIDTH),
    }
    for layer in range(LAYERS):
        name = f"encoder.layer.{layer}."
        for part in ("query", "key", "value"):
            weights[f"{name}attention.self.{part}.weight"] = of(WIDTH, WIDTH)
            weights[f"{name}attention.self.{part}.bias"] = of(WIDTH)
        for part, out, into in (
            ("attention.output", WIDTH, WIDTH), ("intermediate", INNER, WIDTH), ("output", WIDTH, INNER),
        ):  # fmt: skip
            weights[f"{name}{part}.dense.weight"] = of(out, into)
            weights[f"{name}{part}.dense.bias"] = of(out)
        for part in ("attention.output", "output"):
            weights[f"{name}{part}.LayerNorm.weight"] = of(WIDTH)
            weights[f"{name}{part}.LayerNorm.bias"] = of(WIDTH)
    return weights


def write_encoder(folder, weights=None, **config):
    tokenizer = Tokenizer(models.WordPiece({token: row for row, token in enumerate(TOKENS)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    tokenizer.enable_padding(length=9)  # as the shipped one has: it must be put off
    tokenizer.enable_truncation(3)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "config.json").write_text(json.dumps(CONFIG | config))
    save_file(random_weights() if weights is None else weights, folder / "model.safetensors")
    return folder


def affine(of, name, vector):
    matrix, bias = of[f"{name}.weight"].tolist(), of[f"{name}.bias"].tolist()
    return [sum(w * v for w, v in zip(row, vector, strict=True)) + b for row, b in zip(matrix, bias, strict=True)]


def norm(of, name, vector):
    mean = sum(vector) / len(vector)
    spread = math.sqrt(sum((v - mean) ** 2 for v in vector) / len(vector) + EPS)
    scale, bias = of[f"{name}.LayerNorm.weight"].tolist(), of[f"{name}.LayerNorm.bias"].tolist()
    return [(v - mean) / spread * s + b for v, s, b in zip(vector, scale, bias, strict=True)]


def add(first, second):
    return [a + b for a, b in zip(first, second, strict=True)]


def attend(of, name, hidden):
    query, key, value = ([affine(of, f"{name}.{part}", h) for h in hidden] for part in ("query", "key", "value"))
    size, out = WIDTH // HEADS, []
    for place in range(len(hidden)):
        joined = []
        for head in range(HEADS):
            part = slice(head * size, (head + 1) * size)
            fit = [sum(a * b for a, b in zip(query[place][part], k[part], strict=True)) / math.sqrt(size) for k in key]
            shares = [math.exp(one) for one in fit]
            total = sum(shares)
            joined += [
                sum(share / total * v[part][column] for share, v in zip(shares, value, strict=True))
                for column in range(size)
            ]
        out.append(joined)
    return out


def slow_embed(of, ids):
    """BERT as its paper has it, a number at a time."""
    kind = of["embeddings.token_type_embeddings.weight"][0].tolist()
    hidden = []
    for place, token in enumerate(ids):
        word = of["embeddings.word_embeddings.weight"][token].tolist()
        where = of["embeddings.position_embeddings.weight"][place].tolist()
        hidden.append(norm(of, "embeddings", add(add(word, where), kind)))
    for layer in range(LAYERS):
        name = f"encoder.layer.{layer}"
        attended = attend(of, f"{name}.attention.self", hidden)
        for place, one in enumerate(attended):
            projected = affine(of, f"{name}.attention.output.dense", one)
            middle = norm(of, f"{name}.attention.output", add(hidden[place], projected))
            grown = affine(of, f"{name}.intermediate.dense", middle)
            gelu = [v * 0.5 * (1 + math.erf(v / math.sqrt(2))) for v in grown]
            hidden[place] = norm(of, f"{name}.output", add(middle, affine(of, f"{name}.output.dense", gelu)))
    return [sum(vector[column] for vector in hidden) / len(hidden) for column in range(WIDTH)]


@pytest.mark.parametrize(
    ("texts", "ids"),
    [
        (["the", "X"], [[2, 4, 3], [2, 9, 3]]),
        (["cats", "the cat"], [[2, 5, 7, 3], [2, 4, 5, 3]]),
        (["prove the cats sat zebra x"], [[2, 8, 4, 5, 7, 6, 1, 9, 3]]),
    ],
)
def test_the_forward_pass_is_that_of_bert(tmp_path, texts, ids):
    encoder = Encoder.load(write_encoder(tmp_path))
    assert encoder.count_tokens(texts) == [len(one) for one in ids]
    expected = np.array([slow_embed(random_weights(), one) for one in ids])
    found = encoder.embed(texts)
    assert found.shape == (len(texts), WIDTH)
    assert found == pytest.approx(expected, abs=1e-4)


def test_a_text_is_embedded_alike_alone_and_in_a_batch(tmp_path):
    encoder = Encoder.load(write_encoder(tmp_path))
    together = encoder.embed(["the", "cat", "sat"])
    assert together[1] == pytest.approx(encoder.embed(["cat"])[0], abs=1e-5)
    assert not np.allclose(together[0], together[1], atol=0.01)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
@pytest.mark.parametrize("data", [None, b"", b"{}", b"\xff\xfe not one"])
def test_a_missing_or_broken_file_is_refused_with_the_folder(tmp_path, name, data):
    write_encoder(tmp_path)
    if data is None:
        (tmp_path / name).unlink()
    else:
        (tmp_path / name).write_bytes(data)
    with pytest.raises(DataError, match="no sentence encoder") as refused:
        Encoder.load(tmp_path)
    assert str(tmp_path) in str(refused.value)


WRONG = {
    "embeddings.word_embeddings.weight": (len(TOKENS), WIDTH + 1),
    "embeddings.LayerNorm.bias": (WIDTH - 1,),
    "encoder.layer.1.attention.self.key.weight": (WIDTH + 1, WIDTH),
    "encoder.layer.0.intermediate.dense.bias": (WIDTH,),
    "encoder.layer.1.output.dense.weight": (INNER, WIDTH),
}


@pytest.mark.parametrize("name", WRONG)
@pytest.mark.parametrize("is_there", [True, False])
def test_a_tensor_of_another_shape_is_named(tmp_path, name, is_there):
    weights = random_weights()
    del weights[name]
    if is_there:
        weights[name] = np.zeros(WRONG[name], dtype=np.float32)
    with pytest.raises(DataError, match=name):
        Encoder.load(write_encoder(tmp_path, weights))


def test_heads_that_cannot_share_the_width_and_tokens_without_a_vector_are_refused(tmp_path):
    with pytest.raises(DataError, match="3 heads"):
        Encoder.load(write_encoder(tmp_path, num_attention_heads=3))
    few = random_weights() | {"embeddings.word_embeddings.weight": np.zeros((4, WIDTH), dtype=np.float32)}
    with pytest.raises(DataError, match="more tokens"):
        Encoder.load(write_encoder(tmp_path, few))


def test_an_encoder_that_is_not_installed_says_how_to_get_it(monkeypatch, tmp_path):
    monkeypatch.setattr(module, "PACKAGE", "surely_no_package")
    with pytest.raises(DataError, match=r"locks/encoder\.txt"):
        find_encoder()
    package = tmp_path / "made_encoder"
    package.mkdir()
    (package / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(module, "PACKAGE", "made_encoder")
    assert find_encoder() == package / "model"
