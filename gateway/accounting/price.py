"""From tokens to money and energy."""

from collections.abc import Mapping

from gateway.core.context import Bill, RequestContext, Usage
from gateway.settings.models import EnergySettings, ModelSettings, PriceSettings

# Divisors, not factors: 1e6 is exact in binary, 1e-6 is not, and clients see the difference (0.00019999999999999998).
MILLION = 1e6
THOUSAND = 1e3


def cost_usd(usage: Usage, price: PriceSettings) -> float:
    """Return USD for a usage; cached prompt tokens cost their own price where one is set."""
    cached_price = price.input if price.cached_input is None else price.cached_input
    fresh_tokens = usage.prompt_tokens - usage.cached_tokens
    return (
        fresh_tokens * price.input + usage.cached_tokens * cached_price + usage.completion_tokens * price.output
    ) / MILLION


def energy_wh(usage: Usage, energy: EnergySettings | None) -> float:
    """Return Wh for a usage; 0 where the model's energy is not known."""
    if energy is None:
        return 0.0
    return (usage.prompt_tokens * energy.input + usage.completion_tokens * energy.output) / THOUSAND


def make_bill(usage: Usage, served: ModelSettings, strongest: ModelSettings, *, pays: bool = True) -> Bill:
    """Bill one answer. Whoever does not pay (a cached or shared answer) costs nothing and saves it all.

    The baseline counts the same tokens at the strongest candidate's price, none of them cached upstream unless
    they were: a cache hit of the upstream would have been one there too.
    """
    return Bill(
        cost_usd=cost_usd(usage, served.price) if pays else 0.0,
        baseline_usd=cost_usd(usage, strongest.price),
        energy_wh=energy_wh(usage, served.energy) if pays else 0.0,
    )


def bill_of(ctx: RequestContext, usage: Usage, models: Mapping[str, ModelSettings], *, pays: bool) -> Bill:
    """Bill a request's usage at the model that answered, against the strongest model that could have."""
    able = [candidate.model for candidate in ctx.decided.candidates if candidate.dropped is None]
    served = ctx.model or ctx.decided.model
    return make_bill(usage, models[served], models[able[-1]], pays=pays)
