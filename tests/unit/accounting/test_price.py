"""Bills, by numbers worked out by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.accounting.price import bill_of, charge_for, cost_usd, energy_wh, make_bill
from gateway.core.context import Bill, Candidate, Charge, Decision, Reason, Usage
from gateway.core.reply import Spent
from gateway.settings.models import EnergySettings
from tests.builders import STREAM, decided_context, model, price

SMALL = model(price=price(1.0, 2.0, cached_input=0.5), energy=EnergySettings(input=0.02, output=0.2))
LARGE = model(price=price(10.0, 20.0))
USAGE = Usage(prompt_tokens=1000, completion_tokens=500, cached_tokens=200)
TOKENS = st.integers(0, 2**40)
PRICES = st.floats(0, 1e6)


def usd(value: float):
    return pytest.approx(value, rel=1e-12)


def test_a_cost_is_tokens_times_price_and_cached_ones_have_their_own():
    # 800 x $1/M + 200 x $0.5/M + 500 x $2/M
    assert cost_usd(USAGE, SMALL.price) == usd(0.0019)


def test_cached_tokens_cost_as_others_where_no_price_is_set_and_nothing_where_it_is_zero():
    assert cost_usd(USAGE, price(10.0, 20.0)) == usd(0.02)  # 1000 x $10/M + 500 x $20/M
    assert cost_usd(USAGE, price(10.0, 20.0, cached_input=0.0)) == usd(0.018)


def test_energy_is_counted_by_the_thousand_and_is_zero_where_unknown():
    assert energy_wh(USAGE, SMALL.energy) == usd(0.12)  # 1 x 0.02 + 0.5 x 0.2
    assert energy_wh(USAGE, None) == 0


def test_a_bill_holds_the_cost_the_baseline_and_what_was_saved():
    bill = make_bill(USAGE, SMALL, LARGE)
    assert (bill.cost_usd, bill.baseline_usd, bill.energy_wh) == (usd(0.0019), usd(0.02), usd(0.12))
    assert bill.saved_usd == usd(0.0181)


def test_who_does_not_pay_saves_the_whole_baseline():
    bill = make_bill(USAGE, SMALL, LARGE, pays=False)
    assert (bill.cost_usd, bill.energy_wh, bill.saved_usd) == (0, 0, usd(0.02))


def test_an_answer_dearer_than_its_baseline_saves_nothing():
    assert make_bill(USAGE, LARGE, SMALL).saved_usd == 0


@given(TOKENS, TOKENS, st.booleans(), st.lists(PRICES, min_size=4, max_size=4))
def test_no_bill_ever_holds_a_negative_number(prompt, completion, pays, prices):
    usage = Usage(prompt, completion, prompt // 2)
    served, strongest = model(price=price(*prices[:2])), model(price=price(*prices[2:]))
    bill = make_bill(usage, served, strongest, pays=pays)
    assert min(bill.cost_usd, bill.baseline_usd, bill.energy_wh, bill.saved_usd) >= 0


def test_the_baseline_is_the_strongest_candidate_that_can_serve():
    models = {"small": SMALL, "middle": model(price=price(5.0, 5.0)), "large": LARGE}
    dropped = Candidate("large", Reason.CONTEXT)
    decision = Decision("small", Reason.SCORE, 0.5, (Candidate("small"), Candidate("middle"), dropped))
    ctx = decided_context(models=models, decision=decision)
    assert bill_of(ctx, USAGE, models, pays=True).baseline_usd == usd(0.0075)  # 1500 x $5/M


def test_the_model_that_answered_is_billed_not_the_one_that_was_chosen():
    models = {"small": SMALL, "large": LARGE}
    assert bill_of(decided_context("small", model="large"), USAGE, models, pays=True).cost_usd == usd(0.02)
    assert bill_of(decided_context("small"), USAGE, models, pays=True).cost_usd == usd(0.0019)


def test_an_empty_bill_is_all_zero():
    assert Bill().saved_usd == 0


SPENT = Spent("small", STREAM, is_streaming=True, token_count=2)


def test_what_was_given_up_is_charged_at_its_own_models_price():
    models = {"small": SMALL, "large": LARGE}
    charge = charge_for(SPENT, 1000, models)
    assert charge == Charge("small", Usage(1000, 2, is_estimated=True), charge.cost_usd, charge.energy_wh)
    assert charge.cost_usd == cost_usd(charge.usage, SMALL.price) > 0
    assert charge.energy_wh == energy_wh(charge.usage, SMALL.energy) > 0


def test_who_pays_for_an_answer_pays_for_what_was_given_up_on_the_way():
    models = {"small": SMALL, "large": LARGE}
    charge = charge_for(SPENT, 1000, models)
    ctx = decided_context("small", model="large", charge=charge)
    paid, unpaid = (bill_of(ctx, USAGE, models, pays=pays) for pays in (True, False))
    assert (paid.cost_usd, paid.baseline_usd) == (usd(0.02 + charge.cost_usd), usd(0.02))
    assert (paid.saved_usd, paid.charge) == (0, charge)
    assert (unpaid.cost_usd, unpaid.energy_wh, unpaid.charge) == (0, 0, None)
