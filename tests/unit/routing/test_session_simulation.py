"""Conversations over a system prompt of 20,000 tokens, in dollars: the table of docs/adr/0005.

The upstreams here keep what they read for five minutes after it was last read, and bill by it. What the policy believes
of them is another matter: it sees the bills.
"""

import random

import pytest

from gateway.accounting.price import cost_usd
from gateway.cache.sessions import continue_session, learn
from gateway.core.context import Candidate, Decision, Reason, Usage, Wishes
from gateway.core.judgement import Judgement
from gateway.core.session import HitShares, Recall, Session
from gateway.routing.policies import Choice, ComplexityPolicy, Facts
from gateway.routing.session import SessionPolicy
from tests.builders import ladder, price

SYSTEM, USER, ANSWER = 20_000, 100, 100
TTL_S, THRESHOLD = 300.0, 0.3
EASY, HARD = 0.1, 0.8
LADDER = ladder("small", "large")
CANDIDATES = (Candidate("small"), Candidate("large"))

CLOSE = {"small": price(1.0, 5.0, 0.1), "large": price(3.0, 15.0, 0.3)}
FAR = {"small": price(0.1, 0.4, 0.025), "large": price(2.0, 8.0, 0.5)}
ONE_CACHE = {"small": price(0.25, 2.0), "large": price(1.25, 10.0, 0.125)}
"""Two models of one provider, near in price and far; and a small one where nothing is cached."""


class Upstreams:
    """What both read, and when; what each answer is billed."""

    def __init__(self, prices):
        self.prices, self.read = prices, {}

    def serve(self, model, prompt, answer, now_s):
        tokens, at_s = self.read.get(model, (0, -1e9))
        cached = min(tokens, prompt) if now_s - at_s <= TTL_S else 0
        self.read[model] = (prompt + answer, now_s)
        usage = Usage(prompt, answer, cached)
        return usage, cost_usd(usage, self.prices[model])


def converse(policy, prices, turns, gap_s):
    """Return the cents of a conversation, and who answered."""
    upstreams, session, shares, usd, models = Upstreams(prices), Session("k"), {}, 0.0, []
    for turn, letter in enumerate(turns):
        score = HARD if letter == "h" else EASY
        prompt, now_s = SYSTEM + USER + turn * (USER + ANSWER), turn * gap_s
        lengths = (4 * SYSTEM, 4 * USER, *(4 * n for _ in range(turn) for n in (ANSWER, USER)))
        recall = Recall(session, now_s, lengths, prompt, ttl_s=TTL_S, shares=shares)
        choice = policy.choose(LADDER, Facts(Judgement(score, output_tokens=ANSWER), Wishes(), CANDIDATES, recall))
        usage, cost = upstreams.serve(choice.model, prompt, ANSWER, now_s)
        shares[choice.model] = learn(shares.get(choice.model, HitShares()), recall, choice.model, usage)
        session = continue_session(
            recall,
            choice.model,
            usage,
            Decision(choice.model, choice.reason, THRESHOLD, CANDIDATES, rent_usd=choice.rent_usd),
        )
        usd += cost
        models.append(choice.model[0])
    return round(usd * 100, 2), "".join(models)


class Forever:
    """What others call sticky: a conversation never goes back to a weaker model."""

    needs_score = True

    def choose(self, steps, facts):
        choice = ComplexityPolicy(THRESHOLD).choose(steps, facts)
        last = facts.recall.session.model
        return Choice(last, Reason.SESSION, THRESHOLD) if steps.rank(last) > steps.rank(choice.model) else choice


def policies(prices):
    score = ComplexityPolicy(THRESHOLD)
    return score, SessionPolicy(score, prices, 0.02), Forever()


@pytest.mark.parametrize(
    ("prices", "turns", "gap_s", "alone", "session", "forever"),
    [
        pytest.param(CLOSE, "he", 30, (8.26, "ls"), (6.97, "ll"), 6.97, id="one easy turn after a hard one"),
        pytest.param(CLOSE, "heee", 30, (8.79, "lsss"), (8.56, "llll"), 8.56, id="three"),
        pytest.param(CLOSE, "heeeeeeeee", 30, (10.43, "lsssssssss"), (12.07, "llllssssss"), 13.47, id="nine"),
        pytest.param(CLOSE, "eheeeeeeee", 30, (10.49, "slssssssss"), (10.49, "slssssssss"), 14.80, id="hi first"),
        pytest.param(CLOSE, "hehehehehe", 30, (12.88, "lslslslsls"), (13.47, "llllllllll"), 13.47, id="in turns"),
        pytest.param(CLOSE, "hehehehehe", 200, (42.90, "lslslslsls"), (13.47, "llllllllll"), 13.47, id="slowly"),
        pytest.param(CLOSE, "heeeeeeeee", 400, (25.62, "lsssssssss"), (25.62, "lsssssssss"), 64.50, id="too slowly"),
        pytest.param(FAR, "heeeeeeeee", 30, (4.77, "lsssssssss"), (4.77, "lsssssssss"), 14.45, id="far apart"),
        pytest.param(ONE_CACHE, "heeeeeeeee", 30, (7.54, "lsssssssss"), (5.99, "llllllllll"), 5.99, id="one cache"),
    ],
)
def test_ten_turns_cost_what_the_record_says(prices, turns, gap_s, alone, session, forever):
    found = [converse(policy, prices, turns, gap_s) for policy in policies(prices)]
    assert found[:2] == [alone, session]
    assert found[2][0] == forever


def crowd(seed, count=300):
    """Conversations as they come: a few turns, some hard, at any pace."""
    chance = random.Random(seed)
    for _ in range(count):
        length = 1 + int(chance.expovariate(1 / 6))
        share = chance.betavariate(1, 2)
        yield "".join("h" if chance.random() < share else "e" for _ in range(length)), chance.choice([10, 60, 200, 400])


@pytest.mark.parametrize("prices", [CLOSE, FAR, ONE_CACHE], ids=["close", "far", "one cache"])
def test_over_many_conversations_it_does_not_cost_more_than_the_score_alone_and_far_less_than_staying(prices):
    totals = [0.0, 0.0, 0.0]
    for turns, gap_s in crowd(7):
        for place, policy in enumerate(policies(prices)):
            totals[place] += converse(policy, prices, turns, gap_s)[0]
    alone, session, forever = totals
    print(f"session {session / alone - 1:+.1%}, for ever {forever / alone - 1:+.1%}")
    assert session <= alone
    assert session < forever
