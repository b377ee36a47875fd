"""Build a tiny language model with random weights, in the form that onnxruntime-genai runs: a fixture, not a helper.

It has every part that a real folder has (`model.onnx`, `genai_config.json`, `tokenizer.json` with a chat template
beside it) in under 2 MB, is made in a second without torch, and is the same for the same seed. It says nonsense in
words, ends after some tens of tokens, and obeys a JSON schema, as every model must.

The graph is that of a Llama: attention in onnxruntime's `GroupQueryAttention`, whose caches the runtime owns. Names of
inputs and outputs are those of `onnxruntime_genai.models.builder`.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

HIDDEN, HEADS, KV_HEADS, HEAD_SIZE, LAYERS, FEED_FORWARD = 64, 4, 2, 16, 2, 128
CONTEXT_TOKENS = 2048
ROPE_BASE = 10_000.0
UNKNOWN, START, END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
SPECIAL = (UNKNOWN, START, END)
PROSE = (
    "the door opens small answer first then reason about each part and keep what holds when load grows because "
    "every step has a cost that someone pays so measure before you choose and say plainly what is not known yet"
)
VOCABULARY = 512
END_LOGIT, RARE_LOGIT, WORD_LOGIT = 4.4, -12.0, 3.0
"""What is added to the logits of the end, of control characters and of bytes beyond ASCII, and of whole words."""

TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def train_tokenizer() -> Tokenizer:
    """Return a byte-level BPE tokenizer: every byte, the words of a sentence, and what chats are marked with."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        special_tokens=list(SPECIAL),
        min_frequency=1,
        show_progress=False,
    )
    tokenizer.train_from_iterator([PROSE, " " + PROSE], trainer)
    return tokenizer


class Graph:
    """Nodes and weights of a graph in the making; every method returns the name of what it adds."""

    def __init__(self, seed: int) -> None:
        self._random = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []

    def keep(self, name: str, values: NDArray[np.generic]) -> str:
        """Add a constant."""
        self.weights.append(numpy_helper.from_array(values, name))
        return name

    def draw(self, name: str, *shape: int, scale: float | None = None) -> str:
        """Add random weights, scaled so that activations keep their size."""
        values = self._random.standard_normal(shape) * (scale or shape[0] ** -0.5)
        return self.keep(name, values.astype(np.float32))

    def add(self, kind: str, inputs: list[str], output: str, **attributes: object) -> str:
        """Add a node with one output."""
        self.nodes.append(helper.make_node(kind, inputs, [output], name=f"{output}:{kind}", **attributes))
        return output

    def normalize(self, value: str, output: str) -> str:
        """Add an RMS norm."""
        settings = {"axis": -1, "epsilon": 1e-5, "stash_type": 1}
        return self.add("SimplifiedLayerNormalization", [value, "norm"], output, **settings)


def rotations() -> NDArray[np.float64]:
    """Return the angle of each position and pair of dimensions, for rotary embeddings."""
    rates = ROPE_BASE ** -(np.arange(0, HEAD_SIZE, 2) / HEAD_SIZE)
    return np.arange(CONTEXT_TOKENS)[:, None] * rates[None]


def add_lengths(graph: Graph) -> None:
    """Add what attention asks for: each row's last position, and the longest row's length."""
    graph.keep("axis", np.array([1], np.int64))
    graph.keep("second", np.array(1, np.int64))
    graph.add("ReduceSum", ["attention_mask", "axis"], "row_tokens", keepdims=1)
    graph.add("Cast", [graph.add("Sub", ["row_tokens", "axis"], "row_last")], "last", to=TensorProto.INT32)
    graph.add("Gather", [graph.add("Shape", ["attention_mask"], "mask_shape"), "second"], "longest", axis=0)
    graph.add("Cast", ["longest"], "total", to=TensorProto.INT32)


def add_layer(graph: Graph, layer: int, value: str) -> str:
    """Add attention and feed-forward of one layer to `value`, the residual stream."""
    mark = f"layer{layer}"
    normed = graph.normalize(value, f"{mark}.attention_in")
    packed = graph.draw(f"{mark}.qkv", HIDDEN, (HEADS + 2 * KV_HEADS) * HEAD_SIZE)
    packed = graph.add("MatMul", [normed, packed], f"{mark}.packed")
    past = [f"past_key_values.{layer}.key", f"past_key_values.{layer}.value"]
    present = [f"present.{layer}.key", f"present.{layer}.value"]
    inputs = [packed, "", "", *past, "last", "total", "cosines", "sines"]
    sizes = {"num_heads": HEADS, "kv_num_heads": KV_HEADS, "scale": HEAD_SIZE**-0.5, "do_rotary": 1}
    heads = f"{mark}.heads"
    attention = helper.make_node(
        "GroupQueryAttention", inputs, [heads, *present], name=f"{heads}:GQA", domain="com.microsoft", **sizes
    )
    graph.nodes.append(attention)
    out = graph.add("MatMul", [heads, graph.draw(f"{mark}.out", HEADS * HEAD_SIZE, HIDDEN)], f"{mark}.attention")
    value = graph.add("Add", [value, out], f"{mark}.between")
    normed = graph.normalize(value, f"{mark}.feed_in")
    up = graph.add("MatMul", [normed, graph.draw(f"{mark}.up", HIDDEN, FEED_FORWARD)], f"{mark}.wide")
    gated = graph.add("Mul", [up, graph.add("Sigmoid", [up], f"{mark}.gate")], f"{mark}.gated")
    down = graph.add("MatMul", [gated, graph.draw(f"{mark}.down", FEED_FORWARD, HIDDEN)], f"{mark}.narrow")
    return graph.add("Add", [value, down], mark)


def add_work(graph: Graph, logits: str, size: int) -> str:
    """Add a product of two `size` x `size` matrices of zeros to every step: a model as slow as one needs it."""
    graph.keep("nothing", np.zeros(1, np.float32))
    graph.keep("work_shape", np.array([size, size], np.int64))
    # The zeros hang on the logits, or the runtime would fold the product into a constant.
    zero = graph.add("ReduceSum", [graph.add("Mul", [logits, "nothing"], "zeros")], "zero", keepdims=0)
    empty = numpy_helper.from_array(np.zeros(1, np.float32))
    blank = graph.add("ConstantOfShape", ["work_shape"], "blank", value=empty)
    matrix = graph.add("Add", [blank, zero], "matrix")
    done = graph.add("ReduceSum", [graph.add("MatMul", [matrix, matrix], "product")], "work", keepdims=0)
    return graph.add("Add", [logits, done], "worked_logits")


def add_leanings(graph: Graph, tokenizer: Tokenizer, logits: str, *, is_endless: bool) -> None:
    """Add what leans the choice of tokens; the end is never the first: an answer says something."""
    no_end = np.zeros(tokenizer.get_vocab_size(), np.float32)
    no_end[tokenizer.token_to_id(END)] = 2 * RARE_LOGIT
    graph.keep("no_end", no_end)
    count = graph.add("Gather", [graph.add("Shape", ["input_ids"], "tokens_shape"), "second"], "step_tokens", axis=0)
    # A step of more than one token reads a prompt.
    reads = graph.add("Greater", [count, graph.keep("one", np.array(1, np.int64))], "is_prompt")
    reads = graph.add("Cast", [reads], "reads_prompt", to=TensorProto.FLOAT)
    begun = graph.add("Add", [logits, graph.add("Mul", [reads, "no_end"], "beginning")], "begun_logits")
    graph.add("Add", [begun, graph.keep("leanings", leanings(tokenizer, is_endless=is_endless))], "logits")


def leanings(tokenizer: Tokenizer, *, is_endless: bool) -> NDArray[np.float32]:
    """Return what is added to each token's logit: words are likely, an end comes, what can't be shown is rare."""
    bias = np.zeros(tokenizer.get_vocab_size(), np.float32)
    for token, place in tokenizer.get_vocab().items():
        text = tokenizer.decode([place], skip_special_tokens=False)
        if token in SPECIAL or not (text.isascii() and text.isprintable()):
            bias[place] = RARE_LOGIT
        elif len(text) > 1:
            bias[place] = WORD_LOGIT
    bias[tokenizer.token_to_id(END)] = RARE_LOGIT if is_endless else END_LOGIT
    return bias


def build_graph(tokenizer: Tokenizer, seed: int, work: int, *, is_endless: bool) -> onnx.ModelProto:
    """Return the model: tokens in, logits out, caches through."""
    graph, vocabulary = Graph(seed), tokenizer.get_vocab_size()
    graph.keep("norm", np.ones(HIDDEN, np.float32))
    graph.keep("cosines", np.cos(rotations()).astype(np.float32))
    graph.keep("sines", np.sin(rotations()).astype(np.float32))
    add_lengths(graph)
    value = graph.add("Gather", [graph.draw("embeddings", vocabulary, HIDDEN, scale=1.0), "input_ids"], "embedded")
    for layer in range(LAYERS):
        value = add_layer(graph, layer, value)
    normed = graph.normalize(value, "normed")
    logits = graph.add("MatMul", [normed, graph.draw("head", HIDDEN, vocabulary)], "raw_logits")
    if work:
        logits = add_work(graph, logits, work)
    add_leanings(graph, tokenizer, logits, is_endless=is_endless)
    tokens = helper.make_tensor_value_info
    inputs = [tokens(name, TensorProto.INT64, ["batch", "tokens"]) for name in ("input_ids", "attention_mask")]
    outputs = [tokens("logits", TensorProto.FLOAT, ["batch", "tokens", vocabulary])]
    shape = ["batch", KV_HEADS, "past", HEAD_SIZE]
    for layer in range(LAYERS):
        for part in ("key", "value"):
            inputs.append(tokens(f"past_key_values.{layer}.{part}", TensorProto.FLOAT, shape))
            outputs.append(tokens(f"present.{layer}.{part}", TensorProto.FLOAT, shape))
    made = helper.make_graph(graph.nodes, "tiny", inputs, outputs, graph.weights)
    versions = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(made, opset_imports=versions, ir_version=10)


def runtime_settings(tokenizer: Tokenizer) -> dict[str, object]:
    """Return what `genai_config.json` holds."""
    past = {"past_key_names": "past_key_values.%d.key", "past_value_names": "past_key_values.%d.value"}
    present = {"present_key_names": "present.%d.key", "present_value_names": "present.%d.value"}
    sizes = {"num_attention_heads": HEADS, "num_hidden_layers": LAYERS, "num_key_value_heads": KV_HEADS}
    decoder = {
        "session_options": {"log_id": "onnxruntime-genai", "provider_options": []},
        "filename": "model.onnx",
        "head_size": HEAD_SIZE,
        "hidden_size": HIDDEN,
        "inputs": {"input_ids": "input_ids", "attention_mask": "attention_mask", **past},
        "outputs": {"logits": "logits", **present},
        **sizes,
    }
    ends = [tokenizer.token_to_id(END), tokenizer.token_to_id(UNKNOWN)]
    model = {
        "type": "llama",
        "bos_token_id": ends[1],
        "eos_token_id": ends,
        "pad_token_id": ends[1],
        "vocab_size": tokenizer.get_vocab_size(),
        "context_length": CONTEXT_TOKENS,
        "decoder": decoder,
    }
    search = {
        "do_sample": True,
        "temperature": 1.0,
        "top_k": 0,
        "top_p": 1.0,
        "repetition_penalty": 1.0,
        "min_length": 0,
        "max_length": CONTEXT_TOKENS,
        "num_beams": 1,
        "num_return_sequences": 1,
        "no_repeat_ngram_size": 0,
        "length_penalty": 1.0,
        "early_stopping": True,
        "past_present_share_buffer": True,
    }
    return {"model": model, "search": search}


def build(folder: Path, seed: int = 0, work: int = 0, *, is_endless: bool = False) -> None:
    """Write the model's files to `folder`, which is made."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = train_tokenizer()
    tokenizer.save(str(folder / "tokenizer.json"))
    chat = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": END, "chat_template": TEMPLATE}
    (folder / "tokenizer_config.json").write_text(json.dumps(chat, indent=2))
    (folder / "genai_config.json").write_text(json.dumps(runtime_settings(tokenizer), indent=2))
    onnx.save(build_graph(tokenizer, seed, work, is_endless=is_endless), folder / "model.onnx")


def main() -> None:
    """Build where the command line says."""
    parser = argparse.ArgumentParser(description="Build a tiny model of random weights for the `onnx` backend.")
    parser.add_argument("folder", type=Path, help="where its files go")
    parser.add_argument("--seed", type=int, default=0, help="of its weights (default: 0)")
    parser.add_argument(
        "--work", type=int, default=0, help="multiply N x N matrices at each step, to be slow (default: 0)", metavar="N"
    )
    parser.add_argument("--endless", action="store_true", help="never end by itself (default: after some 40 tokens)")
    asked = parser.parse_args()
    build(asked.folder, asked.seed, asked.work, is_endless=asked.endless)
    size_bytes = sum(file.stat().st_size for file in asked.folder.iterdir())
    print(f"{asked.folder}: {size_bytes / 1e6:.1f} MB, random weights of seed {asked.seed}")


if __name__ == "__main__":
    main()
