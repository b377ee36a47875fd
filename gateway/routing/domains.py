"""Specialists first: a request in a model's own domain goes to that model. Pure."""

from collections.abc import Mapping, Sequence

from gateway.core.context import Ladder, Reason
from gateway.routing.policies import Choice, Facts, Policy
from gateway.settings.domains import find_domain
from gateway.settings.models import ModelSettings


class DomainPolicy:
    """A specialist counts as able in its domain, whatever its place on the ladder.

    Of several, the weakest that stands as high as the score calls for; where none does, the strongest of them. What the
    client or another rule decided stands, and so does the score's choice where no specialist can serve.
    """

    def __init__(self, inner: Policy, specialists: Mapping[str, Sequence[str]]) -> None:
        """Take who decides for all else, and each domain's specialists, weakest first."""
        self.needs_score = inner.needs_score
        self._inner = inner
        self._specialists = specialists

    def choose(self, ladder: Ladder, facts: Facts) -> Choice:
        """Choose a specialist of the judged domain, or as the inner policy does."""
        choice = self._inner.choose(ladder, facts)
        if choice.reason is not Reason.SCORE or facts.wishes.threshold is not None or facts.judgement is None:
            return choice
        dropped = {candidate.model for candidate in facts.candidates if candidate.dropped is not None}
        known = self._specialists.get(facts.judgement.domain or "", ())
        able = [model for model in known if model not in dropped]
        if not able:
            return choice
        wanted = ladder.rank(choice.model)
        model = next((model for model in able if ladder.rank(model) >= wanted), able[-1])
        return Choice(model, Reason.DOMAIN, choice.threshold)


def find_specialists(ladder: Sequence[str], models: Mapping[str, ModelSettings]) -> dict[str, list[str]]:
    """Return the specialists of each domain, in the ladder's order."""
    found: dict[str, list[str]] = {}
    for model in ladder:
        for domain in {find_domain(word) for word in models[model].domains} - {None}:
            found.setdefault(str(domain), []).append(model)
    return found
