"""Assessments by hand: mixes, groups, intervals, costs, RouterArena's score, languages."""

import numpy as np
import pytest

from router_models.assess import Labels, Scored, assess, cut, mix, mixes_of, reliability
from router_models.costs import Costs, Price, arena_score, costs_of
from router_models.data import Example
from router_models.language import OTHER, detect

WEAK = np.array([0.0, 1.0, 0.0, 1.0])
STRONG = np.array([1.0, 1.0, 0.0, 1.0])


def labels(weak=WEAK, strong=STRONG, costs=None):
    return Labels(weak, strong, strong * (1 - weak), np.ones(len(weak)), costs)


def example(bench="b", weak=0.0, strong=1.0, **more):
    return Example("p", bench, "own", weak, strong, strong * (1 - weak), **more)


@pytest.mark.parametrize(
    ("share", "quality"), [(0.0, 0.5), (0.25, 0.75), (0.125, 0.625), (1.0, 0.75)]
)  # the first call gains 1, the others nothing
def test_a_mix_sends_exactly_its_share_highest_scores_first(share, quality):
    found = mix(np.array([0.9, 0.1, 0.5, 0.2]), labels(), share)
    assert (found.strong_share, found.quality) == (pytest.approx(share), pytest.approx(quality))
    assert found.pgr == pytest.approx((quality - 0.5) / 0.25)


def test_equal_scores_are_mixed_in_expectation():
    assert mix(np.full(4, 0.5), labels(), 0.4).pgr == pytest.approx(0.4)
    some = mix(np.array([0.5, 0.5, 0.9, 0.1]), labels(), 0.5)
    assert some.quality == pytest.approx(0.5 + 0.25 / 2)


def test_a_score_at_the_threshold_is_on_the_strong_side():
    found = cut(Scored("r", np.array([0.3, 0.29, 0.1, 0.2]), (None,) * 4), labels(), 0.3)
    assert (found.strong_share, found.pgr, found.threshold) == (0.25, 1.0, 0.3)


def test_without_a_gap_there_is_no_pgr_but_a_quality():
    found = mix(np.arange(4.0), labels(strong=WEAK), 0.5)
    assert (found.pgr, found.quality, found.usd_per_1000, found.arena) == (None, 0.5, None, None)


@pytest.mark.parametrize(
    ("accuracy", "usd", "score"), [(0.6688, 0.15, 66.89), (0.6809, 0.54, 66.66), (0.7396, 10.02, 64.32)]
)
def test_the_arena_score_is_that_of_the_published_table(accuracy, usd, score):
    # MIRT-BERT, Azure-Router and GPT-5 of RouterArena's README; its costs are rounded to cents.
    assert 100 * arena_score(accuracy, usd) == pytest.approx(score, abs=0.03)


def test_the_arena_score_is_bounded():
    assert arena_score(0.0, 300.0) == arena_score(0.9, 200.0) == arena_score(0.9, 500.0) == 0.0
    assert arena_score(1.0, 0.0) == arena_score(1.0, 0.0044) == pytest.approx(1.0)


def test_costs_of_a_mix_are_those_of_the_sides_that_answered():
    costs = Costs(np.full(4, 1e-3), np.array([9e-3, 1e-3, 1e-3, 1e-3]), "as told")
    found = mix(np.array([0.9, 0.1, 0.5, 0.2]), labels(costs=costs), 0.25)
    assert found.usd_per_1000 == pytest.approx(3.0)
    assert found.arena == arena_score(found.quality, found.usd_per_1000)
    mixes = mixes_of(np.array([0.9, 0.1, 0.5, 0.2]), labels(costs=costs))
    assert max(one.arena for one in mixes) >= found.arena
    assert (mixes[0].strong_share, mixes[-1].strong_share) == (0.0, 1.0)
    assert mixes_of(np.zeros(4), labels()) == ()


def test_prices_times_tokens_win_over_the_datas_costs():
    rows = [example(weak_cost_usd=1.0, strong_cost_usd=2.0)]
    # "p" is one token and a turn four.
    priced = costs_of(rows, (Price(1.0, 10.0), Price(100.0, 1000.0)), np.array([100.0]))
    assert (priced.weak[0], priced.strong[0]) == (pytest.approx(1005e-6), pytest.approx(100_500e-6))
    own = costs_of(rows, None, np.array([100.0]))
    assert (own.weak[0], own.strong[0]) == (1.0, 2.0)
    assert costs_of([*rows, example()], None, np.array([1.0, 1.0])) is None


def test_reliability_leaves_out_what_is_empty():
    first, last = reliability(np.array([0.05, 0.05, 1.0]), np.array([0.0, 1.0, 1.0]))
    assert (first.low, first.rows, first.score, first.win) == (0.0, 2, 0.05, 0.5)
    assert (last.high, last.rows, last.win) == (1.0, 1, 1.0)


def rows(count=200):
    rng = np.random.default_rng(0)
    hard = rng.random(count) < 0.5
    examples = [
        example("a" if number % 2 else "b", 0.1 if is_hard else 0.9, 0.95,
                domain="math" if number < 150 else None, language="de" if number < 50 else None)
        for number, is_hard in enumerate(hard)
    ]  # fmt: skip
    score = np.clip(hard * 0.4 + rng.random(count) * 0.5, 0, 1)
    return examples, Scored("r", score, ("math",) * 100 + ("law",) * 100)


def test_groups_are_by_bench_domain_and_language_and_small_ones_are_left_out():
    examples, scored = rows()
    found = assess(scored, examples, Labels.of(examples, None), None, 0.3, 7)
    assert {name: group.rows for name, group in found.by_bench.items()} == {"a": 100, "b": 100}
    # The data's domain is taken before the router's.
    assert {name: group.rows for name, group in found.by_domain.items()} == {"math": 150, "law": 50}
    assert {name: group.rows for name, group in found.by_language.items()} == {"de": 50, OTHER: 150}
    assert found.domain_accuracy == pytest.approx(100 / 150)
    short = assess(
        Scored("r", scored.score[:40], (None,) * 40), examples[:40], Labels.of(examples[:40], None), 0.5, 0.3, 7
    )
    assert (short.by_bench, short.domain_accuracy) == ({}, None)


def test_the_interval_holds_the_figure_and_tells_a_good_router_from_length():
    examples, scored = rows()
    order = assess(scored, examples, Labels.of(examples, None), None, 0.3, 7).all.order
    for one in (order.apgr, order.cpt50, order.cpt80, order.over_length):
        assert one.low <= one.value <= one.high
    assert order.length_apgr == pytest.approx(0.5)
    assert order.over_length.low > 0.1
    assert order.over_length.value == pytest.approx(order.apgr.value - order.length_apgr)
    assert assess(scored, examples, Labels.of(examples, None), None, 0.3, 7).all.order == order


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("What is the capital of France?", "en"),
        ("Wie heißt die Hauptstadt von Frankreich und warum?", "de"),
        ("Quelle est la capitale du pays et pourquoi ?", "fr"),
        ("¿Cuál es la capital de un país y por qué?", "es"),
        ("Qual é a capital do país e por que não mais?", "pt"),
        ("Qual è la capitale del paese e perché?", "it"),
        ("Wat is de hoofdstad van het land en waarom?", "nl"),
        ("法国的首都是哪里", "zh"),
        ("フランスの首都はどこですか", "ja"),
        ("프랑스의 수도는 어디입니까", "ko"),
        ("Какая столица Франции?", "ru"),
        ("ما هي عاصمة فرنسا؟", "ar"),
        ("फ्रांस की राजधानी क्या है?", "hi"),
        ("Let the angle θ be such that sin θ = 0.5; what is cos θ?", "en"),
        ("x = y + 2", OTHER),
        ("", OTHER),
        ("def f(x): return x", OTHER),
    ],
)
def test_languages_are_told_by_script_and_stop_words(text, code):
    assert detect(text) == code
