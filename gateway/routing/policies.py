"""Who should serve a request: one class a policy. A policy reads facts and returns a choice."""

from collections.abc import Sequence
from typing import Protocol

import msgspec

from gateway.core.context import Candidate, Ladder, Reason, Tier, Wishes
from gateway.settings.routes import PolicySettings


class Choice(msgspec.Struct, frozen=True):
    """What a policy would have, were every model able to serve."""

    model: str
    reason: Reason
    threshold: float | None = None


class Policy(Protocol):
    """How a route chooses."""

    needs_score: bool

    def choose(self, ladder: Ladder, score: float | None, wishes: Wishes) -> Choice:
        """Choose from the whole ladder. `score` is None when no classifier could judge."""
        ...


class PinnedPolicy:
    """Always the same model."""

    needs_score = False

    def __init__(self, model: str) -> None:
        self._model = model

    def choose(self, ladder: Ladder, score: float | None, wishes: Wishes) -> Choice:  # noqa: ARG002 - the protocol's shape
        """Choose the pinned model."""
        return Choice(self._model, Reason.PINNED)


class ComplexityPolicy:
    """The harder the request, the stronger the model.

    `score >= threshold` goes to the top of the ladder. On a ladder of more than two, the range below the threshold
    is cut evenly among the others: with three models and 0.6, the weakest serves below 0.3.
    """

    needs_score = True

    def __init__(self, settings: PolicySettings) -> None:
        self._threshold = settings.threshold

    def choose(self, ladder: Ladder, score: float | None, wishes: Wishes) -> Choice:
        """Choose by the score; without one, fail open to the strongest."""
        threshold = self._threshold if wishes.threshold is None else wishes.threshold
        if score is None:
            return Choice(ladder.models[-1], Reason.CLASSIFIER_UNAVAILABLE, threshold)
        return Choice(ladder.models[_rung(score, threshold, len(ladder.models))], Reason.SCORE, threshold)


def _rung(score: float, threshold: float, count: int) -> int:
    if score >= threshold:
        return count - 1
    return int(score / threshold * (count - 1))


def forced_choice(ladder: Ladder, tier: Tier, threshold: float | None) -> Choice:
    """Choose the end of the ladder that the client forces by header."""
    return Choice(ladder.models[-1 if tier is Tier.STRONG else 0], Reason.FORCED, threshold)


def settle_choice(choice: Choice, candidates: Sequence[Candidate]) -> Choice:
    """Return the choice if it can serve; else the next stronger that can, else the next weaker, and why."""
    rank = next(place for place, candidate in enumerate(candidates) if candidate.model == choice.model)
    why = candidates[rank].dropped
    if why is None:
        return choice
    for candidate in (*candidates[rank:], *reversed(candidates[:rank])):
        if candidate.dropped is None:
            return Choice(candidate.model, why, choice.threshold)
    raise AssertionError("find_candidates leaves at least one model")
