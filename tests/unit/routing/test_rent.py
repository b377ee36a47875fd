"""What staying and leaving cost, worked by hand. All in millionths of a dollar, at prices that make round numbers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.accounting.price import cost_usd
from gateway.core.context import Usage
from gateway.core.session import HitShares
from gateway.routing.rent import Terms, expect_output, pays_to_stay, prompt_usd, reckon_terms, scale_prompt
from tests.builders import held, price, recall

LARGE, SMALL = price(10.0, 20.0, 1.0), price(4.0, 4.0, 0.4)
PRICES = {"large": LARGE, "small": SMALL}
OUTPUT = 100


def micro(terms):
    return tuple(round(usd * 1e6, 3) for usd in (terms.stay, terms.stranger, terms.leave, terms.settled))


# 10,000 tokens, of which `large` has read 9,000; 100 to answer.
@pytest.mark.parametrize(
    ("turn", "prices", "expected"),
    [
        pytest.param(
            recall(),
            PRICES,
            # 1000 x 10 + 9000 x 1 + 100 x 20; 10000 x 10 + 2000; 10000 x 4 + 400; 1000 x 4 + 9000 x 0.4 + 400
            (21_000, 102_000, 40_400, 8_000),
            id="the other never saw it",
        ),
        pytest.param(
            recall(others={"small": held(5_000, 0, lengths=(32_000,))}),
            PRICES,
            (21_000, 102_000, 5_000 * 4 + 5_000 * 0.4 + 400, 8_000),
            id="the other has read half of it",
        ),
        pytest.param(
            recall(now_s=401.0),
            PRICES,
            (102_000, 102_000, 40_400, 40_400),
            id="the cache has died",
        ),
        pytest.param(
            recall(),
            {"large": price(10.0, 20.0), "small": SMALL},
            (102_000, 102_000, 40_400, 8_000),
            id="cached tokens have no price of their own here",
        ),
        pytest.param(
            recall(),
            {"large": LARGE, "small": price(4.0, 4.0)},
            (21_000, 102_000, 40_400, 40_400),
            id="nor there",
        ),
        pytest.param(
            recall(shares={"large": HitShares(warm=0.5), "small": HitShares(warm=0.0)}),
            PRICES,
            # large finds 4500: 5500 x 10 + 4500 x 1 + 2000; small would find nothing
            (61_500, 102_000, 40_400, 40_400),
            id="as the caches have turned out",
        ),
        pytest.param(
            recall(shares={"large": HitShares(cold=0.8), "small": HitShares(cold=0.8)}),
            PRICES,
            # any stranger finds 8000: large 2000 x 10 + 8000 + 2000; small 2000 x 4 + 8000 x 0.4 + 400
            (21_000, 30_000, 11_600, 8_000),
            id="a system prompt that all conversations share is cached everywhere",
        ),
        pytest.param(
            recall(shares={"large": HitShares(warm=0.1, cold=0.8)}),
            PRICES,
            (30_000, 30_000, 40_400, 8_000),
            id="what is cached for all is cached for this one",
        ),
    ],
)
def test_the_terms_are_as_worked_by_hand(turn, prices, expected):
    assert micro(reckon_terms(turn, "small", OUTPUT, prices)) == pytest.approx(expected)


def test_rent_is_due_every_turn_and_the_fee_once():
    terms = reckon_terms(recall(), "small", OUTPUT, PRICES)
    assert terms.rent == pytest.approx(13_000e-6)
    assert terms.fee == pytest.approx(32_400e-6)


@pytest.mark.parametrize(
    ("paid", "stays"),
    [
        pytest.param(0, True, id="13,000 of 32,400"),
        pytest.param(13_000, True, id="26,000 of 32,400"),
        pytest.param(26_000, False, id="39,000: the other would have read it all by now"),
    ],
)
def test_a_conversation_stays_until_its_rents_would_come_to_the_fee(paid, stays):
    assert pays_to_stay(reckon_terms(recall(), "small", OUTPUT, PRICES), paid * 1e-6) is stays


@pytest.mark.parametrize(
    ("terms", "paid", "stays"),
    [
        pytest.param(Terms(stay=10, stranger=10, leave=99, settled=9), 0, False, id="there is no cache to lose"),
        pytest.param(Terms(stay=11, stranger=10, leave=99, settled=9), 0, False, id="a cache dearer than none"),
        pytest.param(Terms(stay=5, stranger=50, leave=20, settled=6), 99, True, id="cheaper than ever settled there"),
        pytest.param(Terms(stay=6, stranger=50, leave=6, settled=6), 99, True, id="no dearer: no rent at all"),
        pytest.param(Terms(stay=9, stranger=50, leave=12, settled=6), 0, True, id="rent 3 of a fee of 6"),
        pytest.param(Terms(stay=9, stranger=50, leave=9, settled=6), 0, True, id="as much here as there: stays"),
        pytest.param(Terms(stay=10, stranger=50, leave=9, settled=6), 0, False, id="cheaper there at once"),
        pytest.param(Terms(stay=9, stranger=50, leave=12, settled=6), 4, False, id="rent 3, 4 paid: over the fee"),
    ],
)
def test_the_rule_at_its_edges(terms, paid, stays):
    assert pays_to_stay(terms, paid) is stays


@given(st.floats(0.01, 10), st.floats(0.01, 100))
def test_rents_never_come_to_more_than_the_fee(rent, fee):
    """The bound of ski rental: with the fee at the end, at most twice what foresight would have paid."""
    terms, paid = Terms(stay=rent, stranger=1e9, leave=fee, settled=0.0), 0.0
    for _ in range(10_000):
        if not pays_to_stay(terms, paid):
            break
        paid += terms.rent
    assert paid <= fee
    assert paid + rent > fee, "and it leaves no sooner"


def test_a_prompt_costs_here_what_the_bill_will_say():
    for one in (LARGE, price(10.0, 20.0)):
        assert prompt_usd(one, 10_000, 9_000) == pytest.approx(cost_usd(Usage(10_000, 0, 9_000), one))


def test_an_estimate_is_corrected_by_how_far_the_last_one_was_off():
    assert scale_prompt(recall(held=held(prompt_tokens=8_900, estimated_tokens=4_450))) == 20_000
    assert scale_prompt(recall(held=held(prompt_tokens=8_900, estimated_tokens=0), estimated_tokens=2)) == 17_800


def test_never_more_is_cached_than_there_is():
    short = recall(estimated_tokens=5_000)
    assert micro(reckon_terms(short, "small", 0, PRICES))[:2] == (5_000, 50_000)


@pytest.mark.parametrize(
    ("judged", "bound", "tokens"), [(None, 0, 100), (700, 0, 700), (700, 50, 50), (None, 50, 50), (7, 50, 7)]
)
def test_an_answer_is_expected_as_judged_or_as_the_last_within_its_bound(judged, bound, tokens):
    assert expect_output(recall(max_tokens=bound), judged) == tokens
