"""What staying with a model and leaving it cost a conversation, by what upstreams hold of it in their prompt caches.

Pure arithmetic; who decides by it is `session.py`. The rule, and why it is this one, with numbers:
docs/adr/0005-a-conversation-pays-rent.md.
"""

from collections.abc import Mapping
from typing import Final

import msgspec

from gateway.core.session import HitShares, Recall
from gateway.settings.models import PriceSettings

MILLION: Final = 1e6
PROMISED: Final = HitShares()
"""What an upstream's cache is taken to do before anything is learned of it."""


class Terms(msgspec.Struct, frozen=True, gc=False):
    """What one request would cost, in USD, by who serves it.

    `stay`: the model that has the conversation. `stranger`: that model, had the conversation never been there. `leave`:
    the other model, with what it holds of the conversation, if anything. `settled`: the other, had it served all of it.
    """

    stay: float
    stranger: float
    leave: float
    settled: float

    @property
    def rent(self) -> float:
        """Return what staying costs more than being settled at the other model: due at every turn."""
        return self.stay - self.settled

    @property
    def fee(self) -> float:
        """Return what moving costs: the other model reads what the first has in its cache. Due once."""
        return self.leave - self.settled


def pays_to_stay(terms: Terms, paid_usd: float) -> bool:
    """Tell whether the cache is worth more than the difference: this turn's, and those paid since it was last chosen.

    Ski rental: who can't know how many turns will follow rents until the rents would come to the price, then buys, and
    so pays at most twice what foresight would have (Karlin et al., Competitive snoopy caching, Algorithmica 1988).
    """
    if terms.stay >= terms.stranger:
        return False
    return terms.rent <= 0 or paid_usd + terms.rent <= terms.fee


def reckon_terms(recall: Recall, other: str, output_tokens: int, prices: Mapping[str, PriceSettings]) -> Terms:
    """Return what a turn would cost at the model that answered the last one, and at another."""
    model = recall.session.model
    tokens = scale_prompt(recall)
    begun, begun_there = (min(tokens, recall.count_prefix(name)) for name in (model, other))
    here, there = (recall.shares.get(name, PROMISED) for name in (model, other))
    left = max(begun_there * there.warm, there.cold * tokens)

    def cost(name: str, cached_tokens: float) -> float:
        return prompt_usd(prices[name], tokens, cached_tokens) + output_tokens * prices[name].output / MILLION

    return Terms(
        stay=cost(model, max(begun * here.warm, here.cold * tokens)),
        stranger=cost(model, here.cold * tokens),
        leave=cost(other, left),
        settled=cost(other, max(begun * there.warm, left)),
    )


def prompt_usd(price: PriceSettings, tokens: float, cached_tokens: float) -> float:
    """Return USD for a prompt. Without a price of their own cached tokens cost as much as others."""
    cached_price = price.input if price.cached_input is None else price.cached_input
    return ((tokens - cached_tokens) * price.input + cached_tokens * cached_price) / MILLION


def scale_prompt(recall: Recall) -> float:
    """Return the tokens of a turn's prompt: its estimate, corrected by how far the last turn's was off."""
    last = recall.session.held[recall.session.model]
    return recall.estimated_tokens * last.prompt_tokens / max(1, last.estimated_tokens)


def expect_output(recall: Recall, judged_tokens: int | None) -> int:
    """Return the tokens an answer is expected to have: as judged, else as many as the last, never past its bound."""
    last = recall.session.held[recall.session.model]
    tokens = last.completion_tokens if judged_tokens is None else judged_tokens
    return min(tokens, recall.max_tokens) if recall.max_tokens else tokens
