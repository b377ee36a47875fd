"""Which models of each source make up its weak and its strong side, and the win rate of a pair of sides.

Inferred once from the pool's own columns: with these lists the means equal the `weak` and `strong` columns on every
row (`data.load` checks it), so each pair of a weak-side and a strong-side model is a pair behind those means.
"""

from collections.abc import Mapping
from itertools import product

WEAK_SIDE: dict[str, frozenset[str]] = {
    "llmrouter": frozenset(
        ["gemma-2-9b-it", "llama-3.1-8b-instruct", "mistral-7b-instruct-v0.3", "qwen2.5-7b-instruct"]
    ),
    "mmlu_pro": frozenset(
        [
            "Meta-Llama-3-8B",
            "Meta-Llama-3_1-8B-Instruct",
            "Mistral-7B-Instruct-v0.2",
            "Mixtral-8x7B-Instruct-v0.1",
            "Phi-3-mini-4k-instruct",
            "Qwen1.5-7B-Chat",
            "Yi-6b-Chat",
            "gemma-7b",
            "mathstral-7B",
        ]
    ),
    "vicuna80": frozenset(["alpaca-13b", "llama", "llama-13b"]),
    "zeroeval": frozenset(
        [
            "Meta-Llama-3-8B-Instruct",
            "Meta-Llama-3.1-8B-Instruct",
            "Mixtral-8x7B-Instruct-v0.1",
            "Phi-3-mini-4k-instruct",
            "Phi-3.5-mini-instruct",
            "Qwen2-7B-Instruct",
            "Qwen2.5-3B-Instruct",
            "Qwen2.5-7B-Instruct",
            "Yi-1.5-9B-Chat",
            "claude-3-haiku-20240307",
            "gemma-2-2b-it",
            "gemma-2-9b-it",
            "gpt-3.5-turbo-0125",
            "reka-flash-20240226",
        ]
    ),
}
STRONG_SIDE: dict[str, frozenset[str]] = {
    "llmrouter": frozenset(["llama-3.1-nemotron-51b-instruct", "llama-3.3-nemotron-super-49b-v1"]),
    "mmlu_pro": frozenset(
        [
            "Meta-Llama-3_1-70B",
            "Meta-Llama-3_1-70B-Instruct",
            "Qwen1.5-110B",
            "Qwen1.5-72B-Chat",
            "gemini-1.5-flash-002",
            "gemini-1.5-pro-002",
            "jamba-1.5-large",
        ]
    ),
    "vicuna80": frozenset(["bard", "gpt35"]),
    "zeroeval": frozenset(
        [
            "Llama-3.1-405B-Inst-fp8",
            "Llama-3.1-405B-Inst@sambanova",
            "Meta-Llama-3.1-405B-Instruct@hyperbolic",
            "Meta-Llama-3.1-70B-Instruct",
            "Mistral-Large-2",
            "Qwen2-72B-Instruct",
            "Qwen2.5-72B-Instruct",
            "chatgpt-4o-latest-24-09-07",
            "claude-3-5-sonnet-20240620",
            "claude-3-5-sonnet-20241022",
            "claude-3-opus-20240229",
            "deepseek-v2.5-0908",
            "gemini-1.5-pro",
            "gemini-1.5-pro-exp-0801",
            "gemini-1.5-pro-exp-0827",
            "gpt-4-turbo-2024-04-09",
            "gpt-4o-2024-05-13",
            "gpt-4o-2024-08-06",
            "grok-2-1212",
            "yi-large",
        ]
    ),
}


def side_scores(source: str, scores: Mapping[str, float]) -> tuple[list[float], list[float]]:
    """Split a row's scores into those of its weak side and those of its strong side; others are left out."""
    weak = [score for model, score in scores.items() if model in WEAK_SIDE[source]]
    strong = [score for model, score in scores.items() if model in STRONG_SIDE[source]]
    return weak, strong


def win_rate(weak: list[float], strong: list[float]) -> float:
    """Return the share of (weak, strong) pairs in which the strong model's score is better; a tie is no win."""
    pairs = list(product(weak, strong))
    return sum(s > w for w, s in pairs) / len(pairs)
