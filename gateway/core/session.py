"""What is remembered of a conversation: which model's upstream has read how much of it, and when.

Counts and lengths, never a word of what was said. Holds facts, takes no decisions: `routing/session.py` reckons with
them.
"""

from collections.abc import Mapping
from itertools import takewhile
from typing import Final

import msgspec

from gateway.core.tokens import CHARACTERS_PER_TOKEN, TOKENS_PER_TURN

MAX_TURNS: Final = 1_000
"""Turns whose lengths are remembered. Past them a conversation counts as continued."""


class Held(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What one model's upstream read of a conversation, and so may hold in its prompt cache.

    `at_s`: when, on the wall clock, as replicas of the gateway share it. `estimated_tokens`: what the prompt had been
    estimated at that was billed as `prompt_tokens`. `lengths`: of its turns, in characters.
    """

    at_s: float
    estimated_tokens: int
    prompt_tokens: int
    completion_tokens: int
    lengths: tuple[int, ...]

    def count_shared_tokens(self, lengths: tuple[int, ...]) -> float:
        """Return how many tokens a prompt with turns of these lengths has in common with what was read, from its start.

        A conversation that was cut, compacted or edited shares only the turns before that: a cache ends at the first
        token that differs. Of the answer no more counts than the next turn can hold: thoughts don't come back.
        """
        pairs = zip(self.lengths, lengths, strict=False)
        same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
        if same < len(self.lengths):
            return self.prompt_tokens * sum(self.lengths[:same]) / max(1, sum(self.lengths))
        if len(lengths) == same:
            return self.prompt_tokens
        answer_tokens = TOKENS_PER_TURN + -(-lengths[same] // CHARACTERS_PER_TOKEN)
        return self.prompt_tokens + min(self.completion_tokens, answer_tokens)


class Session(msgspec.Struct, frozen=True, array_like=True):
    """One conversation: the model that answered last (empty: none has yet), and what each model's upstream holds.

    It carries its own key: a store that hands out a stranger's value is found out. `rent_usd`: what staying with that
    model has cost since the policy last chose it.
    """

    key: str
    model: str = ""
    rent_usd: float = 0.0
    held: Mapping[str, Held] = {}


class HitShares(msgspec.Struct, frozen=True, gc=False):
    """How much of what it should have an upstream turns out to have cached, by its own reports: shares from 0 to 1.

    `warm`: of what the conversation's earlier turns had it read. `cold`: of a whole prompt where the conversation never
    was, such as a system prompt that many share. To begin with, what providers promise.
    """

    warm: float = 1.0
    cold: float = 0.0


class Recall(msgspec.Struct, frozen=True):
    """One request as a turn of its conversation: what it brings, what is remembered, what holds of prompt caches here.

    `ttl_s`: how long they live unused. `min_tokens`: the least they keep. `max_tokens`: what the request bounds its
    answer at; 0: it does not.
    """

    session: Session
    now_s: float
    lengths: tuple[int, ...]
    estimated_tokens: int
    max_tokens: int = 0
    ttl_s: float = 300.0
    min_tokens: int = 1024
    shares: Mapping[str, HitShares] = {}

    def is_live(self, held: Held) -> bool:
        """Tell whether what was read may still be in a prompt cache."""
        return self.now_s - held.at_s <= self.ttl_s

    def count_prefix(self, model: str) -> float:
        """Return how many of this turn's tokens, from the start, a model's upstream may still have in its cache."""
        held = self.session.held.get(model)
        if held is None or not self.is_live(held):
            return 0.0
        shared_tokens = held.count_shared_tokens(self.lengths)
        return shared_tokens if shared_tokens >= self.min_tokens else 0.0
