"""What requests cost on each side, and RouterArena's score of quality and cost together.

Costs are the data's own where it has them, else prices times tokens: the prompt's as the gateway estimates them, the
answer's as assumed. Both sides are taken to answer at the same length, which is rarely so: reports say it.
"""

import math
from collections.abc import Sequence

import msgspec
import numpy as np

from gateway.core.tokens import estimate_prompt_tokens
from gateway.schema.conversation import Conversation
from router_models.evaluate import Floats
from router_models.example import Example

# RouterArena (arXiv 2510.00202): beta, and the bounds of cost in USD for 1,000 requests.
ARENA_BETA = 0.1
ARENA_MAX_USD, ARENA_MIN_USD = 200.0, 0.0044
MILLION = 1e6


class Price(msgspec.Struct, frozen=True):
    """USD for a million tokens."""

    input: float
    output: float

    def of(self, prompt_tokens: int, output_tokens: float) -> float:
        """Return USD for one request."""
        return (prompt_tokens * self.input + output_tokens * self.output) / MILLION


class Costs(msgspec.Struct, frozen=True):
    """USD of each request on either side, and how they were come by."""

    weak: Floats
    strong: Floats
    assumption: str


def price_requests(asked: Sequence[Conversation], output: Floats, weak: Price, strong: Price) -> Costs:
    """Price requests whose answers take `output` tokens."""
    prompts = [estimate_prompt_tokens(conversation) for conversation in asked]

    def usd(price: Price) -> Floats:
        return np.array([price.of(tokens, answer) for tokens, answer in zip(prompts, output, strict=True)])

    assumption = f"prices given; prompts estimated, answers of {output.mean():.0f} tokens on both sides"
    return Costs(usd(weak), usd(strong), assumption)


def costs_of(examples: Sequence[Example], prices: tuple[Price, Price] | None, output: Floats) -> Costs | None:
    """Return the costs by the prices given, else the data's own; None where there are neither."""
    if prices is not None:
        return price_requests([example.asked for example in examples], output, *prices)
    if any(example.weak_cost_usd is None or example.strong_cost_usd is None for example in examples):
        return None
    weak, strong = (
        np.array([getattr(example, side) for example in examples]) for side in ("weak_cost_usd", "strong_cost_usd")
    )
    return Costs(weak, strong, "costs as the data has them")


def arena_score(quality: float, usd_per_1000: float) -> float:
    """Return RouterArena's score, 0 to 1: quality (0 to 1) and cost, which counts on a logarithmic scale.

    S = (1 + b) A C / (b A + C) with C = (log max - log cost) / (log max - log min), held between 0 and 1.
    """
    top = math.log2(ARENA_MAX_USD)
    cheap = (top - math.log2(max(usd_per_1000, ARENA_MIN_USD))) / (top - math.log2(ARENA_MIN_USD))
    cheap = max(cheap, 0.0)
    below = ARENA_BETA * quality + cheap
    return (1 + ARENA_BETA) * quality * cheap / below if below else 0.0
