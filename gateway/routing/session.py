"""Whether a conversation keeps its model. Decides by what `rent.py` reckons; asks nobody."""

from collections.abc import Mapping

from gateway.core.context import Ladder, Reason
from gateway.core.judgement import Judgement
from gateway.routing.policies import Choice, Facts, Policy, find_rung
from gateway.routing.rent import expect_output, pays_to_stay, reckon_terms
from gateway.settings.models import PriceSettings


class SessionPolicy:
    """A conversation stays with its model while what the upstream's cache holds is worth more than the difference.

    Only a choice by the score gives way to that, never one that the client or another policy asked for. A stronger
    model than the chosen one is kept wherever it pays; a weaker one only where the score is so near the cut that, less
    the margin, it asks for no stronger one.
    """

    def __init__(self, inner: Policy, prices: Mapping[str, PriceSettings], margin: float) -> None:
        self.needs_score = inner.needs_score
        self._inner = inner
        self._prices = prices
        self._margin = margin

    def choose(self, ladder: Ladder, facts: Facts) -> Choice:
        """Choose as the inner policy does, or keep the conversation's model."""
        choice, recall, judgement = self._inner.choose(ladder, facts), facts.recall, facts.judgement
        if recall is None or judgement is None or not _gives_way(choice, facts, recall.session.model):
            return choice
        if not self._is_good_enough(recall.session.model, choice, ladder, judgement):
            return choice
        output_tokens = expect_output(recall, judgement.output_tokens)
        terms = reckon_terms(recall, choice.model, output_tokens, self._prices)
        if not pays_to_stay(terms, recall.session.rent_usd):
            return choice
        return Choice(recall.session.model, Reason.SESSION, choice.threshold, rent_usd=max(0.0, terms.rent))

    def _is_good_enough(self, model: str, choice: Choice, ladder: Ladder, judgement: Judgement) -> bool:
        """Tell whether a model is as strong as the chosen one, or as the score less the margin would have it."""
        rank, wanted = ladder.rank(model), ladder.rank(choice.model)
        if rank < wanted and choice.threshold is not None:
            wanted = find_rung(ladder, max(0.0, judgement.score - self._margin), choice.threshold)
        return rank >= wanted


def _gives_way(choice: Choice, facts: Facts, model: str) -> bool:
    """Tell whether a choice was the score's alone, and another model that can serve had the conversation."""
    if choice.reason is not Reason.SCORE or facts.wishes.threshold is not None or model == choice.model:
        return False
    able = {candidate.model for candidate in facts.candidates if candidate.dropped is None}
    return {model, choice.model} <= able
