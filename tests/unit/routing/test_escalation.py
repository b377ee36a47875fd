"""Whose answer is judged, and who is asked where it is unsure."""

import msgspec
import pytest

from gateway.core.context import Candidate, Reason
from gateway.core.judgement import Judgement
from gateway.routing.escalation import find_escalation, is_judgeable
from gateway.routing.policies import Choice
from gateway.schema.request import Operation
from gateway.settings.models import Capability
from gateway.settings.routes import CascadeSettings
from tests.builders import context, ladder, model, request

TELLING = model(capabilities=(Capability.LOGPROBS,))
MODELS = {"small": TELLING, "middle": TELLING, "large": model()}
NAMES = tuple(MODELS)
RULE = CascadeSettings()


def find(
    chosen="small", *, reason=Reason.SCORE, score=0.1, dropped=None, rule=RULE, models=MODELS, threshold=0.4, **body
):
    candidates = [Candidate(name, (dropped or {}).get(name)) for name in NAMES]
    judgement = None if score is None else Judgement(score)
    ctx = context(request=request(**body), ladder=ladder(*NAMES), judgement=judgement)
    return find_escalation(rule, Choice(chosen, reason, threshold), candidates, ctx, models)


@pytest.mark.parametrize(("chosen", "stronger"), [("small", "middle"), ("middle", "large"), ("large", None)])
def test_the_next_stronger_model_is_asked(chosen, stronger):
    assert find(chosen) == stronger


@pytest.mark.parametrize("reason", [Reason.CAPABILITY, Reason.CONTEXT, Reason.PRIVATE])
def test_who_may_not_have_the_request_is_not_asked(reason):
    """A prompt with personal data, above all, never reaches a model that it was kept from."""
    assert find(dropped={"middle": reason}) == "large"
    assert find(dropped={"middle": reason, "large": reason}) is None


@pytest.mark.parametrize("reason", [Reason.SCORE, Reason.CAPABILITY, Reason.CONTEXT, Reason.PRIVATE, Reason.SESSION])
def test_a_choice_that_nobody_forced_may_be_questioned(reason):
    assert find(reason=reason) == "middle"


@pytest.mark.parametrize("reason", [Reason.FORCED, Reason.PINNED])
def test_a_binding_choice_is_not_questioned(reason):
    assert find(reason=reason) is None


def test_without_a_cascade_nobody_is():
    assert find(rule=None) is None


def test_a_model_that_tells_no_log_probabilities_is_not_judged():
    assert find(models=MODELS | {"small": model()}) is None


@pytest.mark.parametrize(
    ("band", "score", "is_judged"),
    [
        (1.0, 0.0, True),
        (0.5, 0.2, True),
        (0.5, 0.1999, False),
        (0.0, 0.4, True),
        (0.0, 0.3999, False),
        (0.5, None, True),
    ],
)
def test_the_band_lies_under_the_threshold(band, score, is_judged):
    assert (find(rule=CascadeSettings(band=band), score=score) is not None) is is_judged


def test_without_a_threshold_all_is_in_the_band():
    assert find(rule=CascadeSettings(band=0), threshold=None) == "middle"


TOOL = [{"type": "function", "function": {"name": "f"}}]


@pytest.mark.parametrize(
    ("body", "is_free"),
    [
        ({}, True),
        ({"logprobs": True, "top_logprobs": 2, "n": 1, "temperature": 0.7}, True),
        ({"tools": None, "response_format": None}, True),
        ({"tools": [], "response_format": {"type": "text"}}, True),
        ({"tools": TOOL}, False),
        ({"functions": TOOL}, False),
        ({"response_format": {"type": "json_object"}}, False),
        ({"response_format": {"type": "json_schema", "json_schema": {}}}, False),
        ({"guided_choice": ["a", "b"]}, False),
        ({"structured_outputs": {"regex": "a"}}, False),
        ({"grammar": "root ::= a"}, False),
        ({"n": 2}, False),
        ({"modalities": ["text", "audio"]}, False),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, True),
    ],
)
def test_only_one_choice_in_free_text_is_judged(body, is_free):
    assert is_judgeable(request(**body)) is is_free


def test_a_long_constraint_is_one_without_a_look():
    fields = {"grammar": msgspec.Raw(b"[" + b" " * 300 + b"]")}
    assert not is_judgeable(msgspec.structs.replace(request(), fields=fields))
    assert is_judgeable(msgspec.structs.replace(request(), fields={"grammar": msgspec.Raw(b"[ ]")}))


@pytest.mark.parametrize("operation", [Operation.COMPLETION, Operation.EMBEDDING])
def test_only_chats_are_judged(operation):
    assert not is_judgeable(request(operation))
