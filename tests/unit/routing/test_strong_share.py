"""The share that goes to the strong side, held on scores that nobody knows beforehand."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.judgement import Distribution
from gateway.routing.strong_share import AT_FULL_GAIN, ShareTracker
from gateway.stores.tally import Tally, change_tally

ELSEWHERE = Distribution((0.19, 0.24, 0.275, 0.31, 0.36), (0.1, 0.2, 0.2, 0.2, 0.2, 0.1))


def clipped(value):
    return min(max(value, 0.0), 1.0)


TRAFFIC = {
    "even": lambda rng: rng.random(),
    "high and narrow": lambda rng: clipped(rng.gauss(0.8, 0.004)),
    "low": lambda rng: rng.betavariate(1.2, 14),
    "two heaps": lambda rng: clipped(rng.gauss(rng.choice([0.1, 0.9]), 0.02)),
    "ten values": lambda rng: rng.randrange(10) / 10 + 0.0437,
    "one value for most": lambda rng: 0.5004 if rng.random() < 0.6 else rng.random(),
    "one value": lambda rng: 0.6123,
    "the top for most": lambda rng: 1.0 if rng.random() < 0.6 else rng.random(),
    "zero for most": lambda rng: 0.0 if rng.random() < 0.8 else rng.random(),
    "as in training": lambda rng: clipped(rng.gauss(0.275, 0.06)),
}


def send(tracker, scores):
    """Let scores through one tracker; tell which went to the strong side."""
    went = []
    for score in scores:
        went.append(score >= tracker.threshold)
        tracker.observe(score, is_strong=went[-1])
    return went


def share_of(went):
    return sum(went) / len(went)


@pytest.mark.parametrize("target", [0.1, 0.3, 0.5])
@pytest.mark.parametrize("traffic", TRAFFIC)
def test_after_500_requests_the_share_is_within_3_points_whatever_the_scores(traffic, target):
    errors = []
    for seed in range(5):
        rng = random.Random(seed)
        went = send(ShareTracker(target, ELSEWHERE), [TRAFFIC[traffic](rng) for _ in range(1500)])
        errors.append(abs(share_of(went[500:]) - target))
    assert max(errors) < 0.03
    assert sum(errors) / 5 < 0.015


@pytest.mark.parametrize(("before", "after"), [((2, 8), (8, 2)), ((8, 2), (2, 8))])
def test_after_a_change_of_traffic_the_share_comes_back(before, after):
    rng = random.Random(3)
    tracker = ShareTracker(0.3)
    send(tracker, [rng.betavariate(*before) for _ in range(4000)])
    send(tracker, [rng.betavariate(*after) for _ in range(500)])
    assert abs(share_of(send(tracker, [rng.betavariate(*after) for _ in range(1000)])) - 0.3) < 0.03


@pytest.mark.parametrize("score", [0.0504, 0.3504, 0.9504])
def test_ten_thousand_equal_prompts_neither_break_the_share_nor_what_comes_after(score):
    rng = random.Random(5)
    tracker = ShareTracker(0.3)
    send(tracker, [rng.betavariate(2, 5) for _ in range(3000)])
    flood = send(tracker, [score] * 10_000)
    assert abs(share_of(flood[500:]) - 0.3) < 0.01
    send(tracker, [rng.betavariate(2, 5) for _ in range(500)])
    assert abs(share_of(send(tracker, [rng.betavariate(2, 5) for _ in range(1000)])) - 0.3) < 0.04


@settings(max_examples=30, deadline=None)
@given(st.lists(st.sampled_from([0.0, 0.2, 0.200001, 0.7, 1.0]), min_size=1, max_size=6), st.sampled_from([0.2, 0.5]))
def test_no_pattern_of_scores_keeps_the_share_away(pattern, target):
    went = send(ShareTracker(target), (pattern * 2500)[:2500])
    assert abs(share_of(went) - target) < 0.06


@pytest.mark.parametrize(("target", "share"), [(0.0, 0.0), (1.0, 1.0)])
def test_none_and_all_are_held_from_the_first_request_on(target, share):
    rng = random.Random(1)
    assert share_of(send(ShareTracker(target), [rng.choice([0.0, 1.0, rng.random()]) for _ in range(300)])) == share


def test_it_begins_where_the_routers_training_says():
    assert ShareTracker(0.3, ELSEWHERE).threshold == pytest.approx(0.31, abs=0.002)
    assert ShareTracker(0.3).threshold == pytest.approx(0.7, abs=0.002)


def test_an_adversary_that_sees_the_threshold_does_not_keep_the_share_away():
    """Always just above it, so that it would always be strong; and just below, so that it never would."""
    for aside in (0.0, -1e-6):
        tracker, went = ShareTracker(0.3), []
        for _ in range(3000):
            score = clipped(tracker.threshold + aside)
            went.append(score >= tracker.threshold)
            tracker.observe(score, is_strong=went[-1])
        assert abs(share_of(went[500:]) - 0.3) < 0.05


def test_another_target_keeps_the_scores_and_starts_a_new_account():
    rng = random.Random(2)
    tracker = ShareTracker(0.3)
    send(tracker, [rng.betavariate(2, 5) for _ in range(1000)])
    known = tracker.all_known()
    tracker.aim_at(0.6)
    assert tracker.all_known().weights == known.weights
    assert tracker.all_known().sums == (0.0, 0.0)
    assert abs(share_of(send(tracker, [rng.betavariate(2, 5) for _ in range(500)])) - 0.6) < 0.03


def exchange(trackers, known):
    """What the store does, at once for all."""
    for tracker in trackers:
        news = tracker.take_news()
        known = change_tally(known, news) if known else tracker.all_known()
        tracker.adopt(known, news)
    return known


@pytest.mark.parametrize("traffic", TRAFFIC)
def test_four_replicas_hold_the_share_together(traffic):
    errors = []
    for seed in range(5):
        rng, known, went = random.Random(seed), None, []
        trackers = [ShareTracker(0.3, ELSEWHERE) for _ in range(4)]
        for number in range(1500):
            went += send(rng.choice(trackers), [TRAFFIC[traffic](rng)])
            if number % 40 == 0:
                known = exchange(trackers, known)
        errors.append(abs(share_of(went[500:]) - 0.3))
    assert max(errors) < 0.03
    assert sum(errors) / 5 < 0.015


def test_many_requests_between_two_exchanges_do_not_make_the_share_swing():
    rng, known, went = random.Random(4), None, []
    trackers = [ShareTracker(0.3) for _ in range(4)]
    for _ in range(12):
        for tracker in trackers:
            went += send(tracker, [rng.betavariate(2, 5) for _ in range(500)])
        known = exchange(trackers, known)
    blocks = [share_of(went[start : start + 500]) for start in range(4000, 24_000, 500)]
    assert max(abs(block - 0.3) for block in blocks) < 0.08
    assert trackers[0]._others_gain == pytest.approx(AT_FULL_GAIN / 1500)


def test_what_could_not_be_told_is_told_the_next_time():
    rng = random.Random(6)
    one, other = ShareTracker(0.3), ShareTracker(0.3)
    scores = [rng.random() for _ in range(60)]
    for tracker in (one, other):
        send(tracker, scores[:30])
    one.put_back(one.take_news())
    for tracker in (one, other):
        send(tracker, scores[30:])
    found, expected = one.take_news(), other.take_news()
    assert found.sums == pytest.approx(expected.sums)
    assert found.keep == pytest.approx(expected.keep)
    assert found.weights == pytest.approx(expected.weights)


def test_a_new_replica_knows_what_the_others_know_and_helps_to_make_up_for_it():
    rng = random.Random(8)
    old = ShareTracker(0.3)
    send(old, [rng.betavariate(2, 5) for _ in range(2000)])
    thresholds = []
    for excess in (0.0, 10.0):
        new = ShareTracker(0.3)
        news = new.take_news()
        new.adopt(Tally(old.all_known().weights, (excess, 10.0)), news)
        thresholds.append(new.threshold)
    assert 0.3 < thresholds[0] < thresholds[1] < 0.5  # 0.36 is right for all from Beta(2, 5) but the top 30 %
