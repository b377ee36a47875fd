"""What a turn shares with what an upstream has read of its conversation."""

import pytest

from gateway.core.session import Held, HitShares, Recall, Session
from tests.builders import held, recall


@pytest.mark.parametrize(
    ("lengths", "tokens"),
    [
        pytest.param((32_000, 3_600, 400, 50), 9_000, id="continued: the prompt and its answer of 100"),
        pytest.param((32_000, 3_600, 200, 50), 8_954, id="a visible answer of 50 + 4: the thoughts don't come back"),
        pytest.param((32_000, 3_600), 8_900, id="asked again"),
        pytest.param((32_000, 9_999, 400, 50), 8_000, id="the first question was edited: the system prompt is left"),
        pytest.param((32_000,), 8_000, id="cut after the system prompt"),
        pytest.param((31_999, 3_600, 400, 50), 0, id="another system prompt"),
        pytest.param((), 0, id="nothing"),
    ],
)
def test_a_turn_shares_the_turns_up_to_the_first_that_differs(lengths, tokens):
    assert held().count_shared_tokens(lengths) == pytest.approx(tokens)


def test_turns_without_text_share_nothing_and_break_nothing():
    image = Held(at_s=0, estimated_tokens=800, prompt_tokens=2_000, completion_tokens=10, lengths=(0,))
    assert image.count_shared_tokens((5,)) == 0


def test_a_conversation_longer_than_what_is_remembered_of_it_goes_on():
    long = tuple(range(1_000))
    assert held(lengths=long).count_shared_tokens(long) == 8_900


@pytest.mark.parametrize(
    ("now_s", "tokens"), [(100.0, 9_000), (400.0, 9_000), (400.1, 0), (99.0, 9_000), (10_000.0, 0)]
)
def test_a_prompt_cache_lives_its_time_and_a_clock_that_goes_back_does_not_kill_it(now_s, tokens):
    assert recall(now_s=now_s).count_prefix("large") == tokens


@pytest.mark.parametrize(("min_tokens", "tokens"), [(9_000, 9_000), (9_001, 0)])
def test_a_prefix_under_the_least_is_in_no_cache(min_tokens, tokens):
    assert recall(min_tokens=min_tokens).count_prefix("large") == tokens


def test_a_model_that_never_had_the_conversation_has_read_nothing_of_it():
    assert recall().count_prefix("small") == 0


def test_at_first_a_conversation_has_no_model_and_a_cache_does_what_providers_promise():
    assert Session("key").model == ""
    assert HitShares() == HitShares(warm=1.0, cold=0.0)
    assert Recall(Session("key"), 0.0, (1,), 1).count_prefix("large") == 0
