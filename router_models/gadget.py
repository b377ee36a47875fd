"""Searches for the prefix that lifts a router's scores most: what an attacker who may try prompts would find.

The hill climb of Shafran et al. ("Rerouting LLM Routers", arXiv 2501.01818, section 4): ten tokens, at each step one
place is tried with other tokens and the best is kept. It sees scores, not the router's inside.
"""

import random
from collections.abc import Callable, Iterable

Score = Callable[[str], float]
Progress = Callable[[Iterable[int]], Iterable[int]]

TOKENS = 10
STEPS = 40
TRIES = 12

WORDS = """
theorem proof lemma integral eigenvalue tensor algorithm complexity quantum derive prove implement recursive
matrix gradient entropy topology polynomial asymptotic kernel mutex async regex compiler malloc thread pointer
hypothesis variance Bayesian molecule enzyme diagnosis statute plaintiff equilibrium GDP isotope synthesis
ontology epistemic metaphor stanza essay translate summarise analyse compare evaluate justify step-by-step
therefore such that if and only let x y n k f(x) O(n) \\int \\frac{a}{b} \\sum $x^2$ == -> {} [] () ``` def class
return SELECT FROM 0x7f 3.14159 1024 12% 2^n A. B. C. D. (A) (B) 1. 2. 3. ?? !! :: // <> ## ** zxq vrotl krill
ulent octane polar manif hello please thanks cat bread weather blue Monday the of not why how many what is 证明 定理
докажи beweise démontrer 算法 積分
"""


def search_prefix(
    score: Score, prompts: list[str], rng: random.Random, steps: int = STEPS, progress: Progress = iter
) -> str:
    """Return the best prefix found for the mean score of these prompts. Costs `steps` * TRIES * prompts scores."""

    def merit(tokens: list[str]) -> float:
        prefix = " ".join(tokens)
        return sum(score(f"{prefix} {prompt}") for prompt in prompts) / len(prompts)

    words = WORDS.split()
    best = rng.choices(words, k=TOKENS)
    highest = merit(best)
    for _ in progress(range(steps)):
        place = rng.randrange(TOKENS)
        for token in rng.sample(words, TRIES):
            tried = [*best[:place], token, *best[place + 1 :]]
            reached = merit(tried)
            if reached > highest:
                best, highest = tried, reached
    return " ".join(best)
