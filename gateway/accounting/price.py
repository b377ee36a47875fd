"""From tokens to money and energy."""

from collections.abc import Mapping

from gateway.accounting.usage import usage_of_spent
from gateway.core.context import Bill, Charge, Decision, RequestContext, Usage
from gateway.core.reply import Spent
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
    """Bill a request's usage at the model that answered, against the strongest model that could have.

    What was given up on the way to the answer is paid by whoever pays for the answer; it adds nothing to the baseline.
    """
    decision = ctx.decided
    bill = make_bill(usage, models[ctx.model or decision.model], models[_strongest(decision)], pays=pays)
    return add_charge(bill, ctx.charge) if pays else bill


def _strongest(decision: Decision) -> str:
    for candidate in reversed(decision.candidates):
        if candidate.dropped is None:
            return candidate.model
    return decision.model


def add_charge(bill: Bill, charge: Charge | None) -> Bill:
    """Return a bill with what was given up in it."""
    if charge is None:
        return bill
    return Bill(bill.cost_usd + charge.cost_usd, bill.baseline_usd, bill.energy_wh + charge.energy_wh, charge)


def charge_for(spent: Spent, prompt_tokens: int, models: Mapping[str, ModelSettings]) -> Charge:
    """Charge what an upstream had said by the time it was given up; `prompt_tokens` is the estimate for the prompt."""
    usage, model = usage_of_spent(spent, prompt_tokens), models[spent.model]
    return Charge(spent.model, usage, cost_usd(usage, model.price), energy_wh(usage, model.energy))
