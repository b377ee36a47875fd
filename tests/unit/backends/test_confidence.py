"""How sure a model is of its beginning: the measure, and when enough has been read."""

import json
import math

import pytest

from gateway.backends.confidence import EMPTY, Reading, confidence_of

SURE, UNSURE = math.log(0.9), math.log(0.1)


def chunk(*logprobs, text="a", finish_reason=None):
    told = {"content": [{"token": "a", "logprob": one} for one in logprobs]} if logprobs else None
    choice = {"index": 0, "delta": {"content": text}, "logprobs": told, "finish_reason": finish_reason}
    return b"data: " + json.dumps({"choices": [choice]}).encode() + b"\n\n"


ROLE = chunk(text="")


@pytest.mark.parametrize(
    ("unsure", "quantile", "confidence"),
    [(0, 0.2, 0.9), (3, 0.2, 0.9), (4, 0.2, 0.1), (1, 0.0, 0.1), (7, 0.5, 0.9), (8, 0.5, 0.1), (15, 1.0, 0.9)],
)
def test_confidence_is_a_quantile_of_the_tokens(unsure, quantile, confidence):
    logprobs = [UNSURE] * unsure + [SURE] * (16 - unsure)
    assert confidence_of(logprobs, quantile) == pytest.approx(confidence)
    assert confidence_of(logprobs[::-1], quantile) == pytest.approx(confidence)


def test_of_a_short_answer_every_token_counts():
    assert confidence_of([SURE, UNSURE, SURE], 0.2) == pytest.approx(0.1)
    assert confidence_of([UNSURE], 0.2) == pytest.approx(0.1)


def test_a_token_outside_the_likeliest_is_as_good_as_impossible():
    assert confidence_of([-9999.0], 0.2) == 0.0


def reading(*blocks, tokens=4):
    found = Reading(tokens)
    for block in blocks:
        found.add_block(block)
    return found


def test_it_reads_until_it_has_its_tokens():
    found = reading(ROLE, chunk(SURE), chunk(SURE) + chunk(SURE))
    assert not found.is_enough
    found.add_block(chunk(UNSURE, UNSURE))
    assert found.is_enough
    assert found.confidence(0.0) == pytest.approx(0.1)


def test_tokens_beyond_the_beginning_do_not_count():
    assert reading(chunk(*[SURE] * 3), chunk(SURE, UNSURE)).confidence(0.0) == pytest.approx(0.9)


def test_unreadable_tokens_take_their_place_and_say_nothing():
    found = reading(chunk(SURE, None, "x"), chunk(SURE))
    assert found.is_enough
    assert found.confidence(0.0) == pytest.approx(0.9)


def test_a_model_that_speaks_without_telling_is_not_waited_for():
    assert not reading(ROLE).is_enough
    found = reading(ROLE, chunk())
    assert found.is_enough
    assert found.confidence(0.2) is None


def test_a_chunk_without_them_after_others_is_waited_past():
    assert not reading(chunk(SURE), chunk()).is_enough


def test_an_answer_without_a_word_is_sure_of_nothing():
    assert reading(ROLE, chunk(text="", finish_reason="stop")).confidence(0.2) == EMPTY


@pytest.mark.parametrize("end", ["content_filter", "length", None])
def test_one_that_was_stopped_from_outside_is_not_judged(end):
    assert reading(ROLE, chunk(text="", finish_reason=end)).confidence(0.2) is None


def test_a_whole_body_is_read_the_same():
    message = {"choices": [{"message": {"content": "a"}, "logprobs": {"content": [{"logprob": UNSURE}]}}]}
    found = Reading(16)
    found.add(json.dumps(message).encode())
    assert found.confidence(0.2) == pytest.approx(0.1)
