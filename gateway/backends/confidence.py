"""How sure a model is of the beginning of its answer. Pure: it reads bytes and log probabilities, and calls nobody.

Confidence is a low quantile of the first tokens' probabilities, not their mean. Over whole answers a sum punishes long
ones and a mean forgives them, and quantiles of the tokens' uncertainties defer better than both (Gupta et al.,
"Language Model Cascades: Token-level uncertainty and beyond", ICLR 2024, arXiv 2404.10136). A fixed prefix has one
length, and its quantile lets a model hesitate over a few words' wording, which the minimum would not, without letting
many certain words hide several doubtful ones, which the mean would.
"""

import math
from collections.abc import Sequence

from gateway.schema.logprobs import read_said
from gateway.schema.sse import data_of, events_in

EMPTY = 0.0
"""The confidence of an answer that ended without a word."""


def confidence_of(logprobs: Sequence[float], quantile: float) -> float:
    """Return the probability at a quantile of the tokens, 0 to 1; of few tokens it is the least likely one's."""
    return math.exp(sorted(logprobs)[int(quantile * (len(logprobs) - 1))])


class Reading:
    """What has been read so far of a beginning of at most `tokens` tokens."""

    __slots__ = ("_finish_reason", "_has_text", "_is_mute", "_tokens", "_unreadable", "logprobs")

    def __init__(self, tokens: int) -> None:
        self._tokens = tokens
        self.logprobs: list[float] = []
        self._unreadable = 0
        self._has_text = False
        self._is_mute = False
        self._finish_reason: str | None = None

    def add_block(self, block: bytes) -> None:
        """Read a block of whole events."""
        for event in events_in(block):
            self.add(data_of(event))

    def add(self, payload: bytes) -> None:
        """Read one chunk's payload, or a whole body."""
        said = read_said(payload, self._tokens)
        self.logprobs += said.logprobs
        self._unreadable += said.unreadable_count
        self._has_text = self._has_text or said.has_text
        # Whoever says something without telling its log probabilities won't tell them later: waiting is in vain.
        self._is_mute = self._is_mute or (said.has_text and not self.logprobs)
        self._finish_reason = said.finish_reason or self._finish_reason

    @property
    def is_enough(self) -> bool:
        """Tell whether more would change nothing."""
        return self._is_mute or len(self.logprobs) + self._unreadable >= self._tokens

    def confidence(self, quantile: float) -> float | None:
        """Return how sure the model is; None where it can't be told.

        An answer that ended of itself without a word leaves the client with nothing: it counts as sure of nothing. One
        that a filter stopped does not: to ask another model then would be to shop for a yes.
        """
        if self.logprobs:
            return confidence_of(self.logprobs[: self._tokens], quantile)
        return EMPTY if self._finish_reason == "stop" and not self._has_text else None
