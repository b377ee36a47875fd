"""Who should serve a request: one class a policy. A policy reads facts and returns a choice."""

from collections.abc import Sequence
from typing import Final, Protocol

import msgspec

from gateway.core.context import Candidate, Ladder, Reason, Tier, Wishes
from gateway.core.judgement import Judgement
from gateway.core.session import Recall
from gateway.routing.exchange import HeldShare

_SCORE: Final = Reason.SCORE
_PINNED: Final = Reason.PINNED


class Choice(msgspec.Struct, frozen=True):
    """What a policy would have, were every model able to serve.

    `rent_usd`: what keeping a conversation's model costs more than the model that the score asks for.
    """

    model: str
    reason: Reason
    threshold: float | None = None
    rent_usd: float = 0.0


class Facts(msgspec.Struct, frozen=True):
    """What a policy may know of a request.

    `judgement`, `router`'s, is None when it could not judge; `recall` where the route does not remember conversations.
    """

    judgement: Judgement | None
    wishes: Wishes
    candidates: tuple[Candidate, ...] = ()
    recall: Recall | None = None
    router: str | None = None


class Policy(Protocol):
    """How a route chooses."""

    needs_score: bool

    def choose(self, ladder: Ladder, facts: Facts) -> Choice:
        """Choose from the whole ladder."""
        ...


class PinnedPolicy:
    """Always the same model."""

    needs_score = False

    def __init__(self, model: str) -> None:
        self._model = model

    def choose(self, ladder: Ladder, facts: Facts) -> Choice:  # noqa: ARG002 - the protocol's shape
        """Choose the pinned model."""
        return Choice(self._model, _PINNED)


class ComplexityPolicy:
    """The harder the request, the stronger the model.

    `score >= threshold` goes to the top of the ladder. On a ladder of more than two, the range below the threshold
    is cut by what the models are able to: each serves from its step's share of the threshold on. Even steps with three
    models and 0.6: the weakest serves below 0.3.
    """

    needs_score = True

    def __init__(self, threshold: float | HeldShare) -> None:
        """Take the threshold that stands, or who knows the one that holds a share."""
        self._held = threshold

    def choose(self, ladder: Ladder, facts: Facts) -> Choice:
        """Choose by the score; without one, fail open to the strongest."""
        held = self._held.tracker(facts.router).threshold if isinstance(self._held, HeldShare) else self._held
        threshold = held if facts.wishes.threshold is None else facts.wishes.threshold
        if facts.judgement is None:
            return Choice(ladder.models[-1], Reason.CLASSIFIER_UNAVAILABLE, threshold)
        return Choice(ladder.models[find_rung(ladder, facts.judgement.score, threshold)], _SCORE, threshold)


def find_rung(ladder: Ladder, score: float, threshold: float) -> int:
    """Return the place on the ladder that a score calls for."""
    if score >= threshold:
        return len(ladder.models) - 1
    return max(0, [score >= threshold * step for step in ladder.steps[:-1]].count(True) - 1)


def forced_choice(ladder: Ladder, tier: Tier, threshold: float | None) -> Choice:
    """Choose the end of the ladder that the client forces by header."""
    return Choice(ladder.models[-1 if tier is Tier.STRONG else 0], Reason.FORCED, threshold)


def settle_choice(choice: Choice, candidates: Sequence[Candidate]) -> Choice:
    """Return the choice if it can serve; else the next stronger that can, else the next weaker, and why."""
    rank = [candidate.model for candidate in candidates].index(choice.model)
    why = candidates[rank].dropped
    if why is None:
        return choice
    for candidate in (*candidates[rank:], *reversed(candidates[:rank])):
        if candidate.dropped is None:
            return Choice(candidate.model, why, choice.threshold)
    raise AssertionError("find_candidates leaves at least one model")
