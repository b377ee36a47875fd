"""Who can serve: capabilities, windows, and how generous an estimate must be."""

import pytest

from gateway.core.context import Reason
from gateway.core.errors import ContextLengthError, PersonalDataError, UnsupportedParameterError
from gateway.core.tokens import estimate_prompt_tokens
from gateway.routing.candidates import can_serve, find_candidates
from gateway.schema.request import Operation
from gateway.settings.engines import Dialect, TritonSettings
from gateway.settings.models import BackendKind, Capability
from tests.builders import ladder, model, request

SMALL = model(context_tokens=1000)
MIDDLE = model(context_tokens=2000, capabilities=(Capability.TOOLS,))
LARGE = model(context_tokens=4000, capabilities=(Capability.TOOLS, Capability.VISION))
MODELS = {"small": SMALL, "middle": MIDDLE, "large": LARGE}
LADDER = ladder(*MODELS)
TOOLS = {"tools": [{"type": "function"}]}
IMAGE = {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}


def dropped(tokens=10, names=LADDER, models=MODELS, **body):
    return [candidate.dropped for candidate in find_candidates(names, models, request(**body), tokens)]


def test_everyone_can_serve_a_plain_prompt():
    assert dropped() == [None, None, None]


@pytest.mark.parametrize(
    ("body", "reasons"),
    [
        (TOOLS, [Reason.CAPABILITY, None, None]),
        (IMAGE, [Reason.CAPABILITY, Reason.CAPABILITY, None]),
        (TOOLS | IMAGE, [Reason.CAPABILITY, Reason.CAPABILITY, None]),
    ],
)
def test_who_lacks_a_capability_leaves(body, reasons):
    assert dropped(**body) == reasons


@pytest.mark.parametrize(
    ("tokens", "max_tokens", "reasons"),
    [
        (1000, 0, [None, None, None]),
        (1001, 0, [Reason.CONTEXT, None, None]),
        (500, 501, [Reason.CONTEXT, None, None]),
        (4000, 0, [Reason.CONTEXT, Reason.CONTEXT, None]),
        (8000, 0, [Reason.CONTEXT, Reason.CONTEXT, None]),
        (6000, 1000, [Reason.CONTEXT, Reason.CONTEXT, None]),
    ],
)
def test_who_has_too_small_a_window_leaves_but_the_widest_stays_while_the_estimate_may_be_off(
    tokens, max_tokens, reasons
):
    assert dropped(tokens, max_tokens=max_tokens) == reasons


def test_a_missing_capability_is_told_before_a_small_window():
    assert dropped(3000, **TOOLS) == [Reason.CAPABILITY, Reason.CONTEXT, None]


@pytest.mark.parametrize(("tokens", "max_tokens"), [(8002, 0), (0, 4001), (6002, 1000)])
def test_what_fits_no_window_by_a_generous_estimate_is_refused(tokens, max_tokens):
    with pytest.raises(ContextLengthError) as caught:
        dropped(tokens, max_tokens=max_tokens)
    assert (caught.value.status, caught.value.param) == (400, "messages")
    assert "4000" in caught.value.message


def test_the_widest_window_counts_among_those_that_are_capable():
    models = {"wide": model(context_tokens=10_000), "able": MIDDLE}
    assert dropped(3000, ladder(*models), models, **TOOLS) == [Reason.CAPABILITY, None]
    with pytest.raises(ContextLengthError, match="2000"):
        dropped(6000, ladder(*models), models, **TOOLS)


def test_what_no_model_is_capable_of_is_refused_by_the_field_that_asks_for_it():
    with pytest.raises(UnsupportedParameterError) as caught:
        dropped(logprobs=True, **TOOLS)
    assert caught.value.param == "logprobs"
    with pytest.raises(UnsupportedParameterError) as caught:
        dropped(n=2, response_format={"type": "json_schema"})
    assert caught.value.param in {"n", "response_format"}


def test_capabilities_that_no_one_model_has_together_are_refused():
    models = {"tools": MIDDLE, "vision": model(capabilities=(Capability.VISION,))}
    with pytest.raises(UnsupportedParameterError, match="tools, vision"):
        dropped(10, ladder(*models), models, **TOOLS | IMAGE)


def test_one_model_alone_is_judged_without_generosity():
    assert can_serve(SMALL, request(), 1000)
    assert not can_serve(SMALL, request(), 1001)
    assert not can_serve(SMALL, request(**TOOLS), 10)


EMBEDDER = {"e": model(context_tokens=500, capabilities=(Capability.EMBEDDINGS,))}


@pytest.mark.parametrize(
    "inputs", [["word " * 300] * 20, [[7] * 400] * 20, list(range(500))], ids=["texts", "lists of ids", "one list"]
)
def test_inputs_to_embed_must_fit_the_window_one_by_one_not_together(inputs):
    asked = request(Operation.EMBEDDING, input=inputs)
    tokens = estimate_prompt_tokens(asked.conversation)
    assert [one.dropped for one in find_candidates(ladder("e"), EMBEDDER, asked, tokens)] == [None]
    assert can_serve(EMBEDDER["e"], asked, tokens)


def test_one_input_too_long_to_embed_is_refused():
    asked = request(Operation.EMBEDDING, input=["a", "word " * 5000])
    with pytest.raises(ContextLengthError):
        find_candidates(ladder("e"), EMBEDDER, asked, estimate_prompt_tokens(asked.conversation))


def test_prompts_of_a_completion_have_a_window_each_and_those_of_a_chat_share_one():
    asked = request(Operation.COMPLETION, prompt=["word " * 300] * 10)
    assert can_serve(SMALL, asked, estimate_prompt_tokens(asked.conversation))
    asked = request(messages=[{"role": "user", "content": "word " * 300}] * 10)
    assert not can_serve(SMALL, asked, estimate_prompt_tokens(asked.conversation))


HOME = {"small": model(), "middle": model(local=True, capabilities=(Capability.TOOLS,)), "large": LARGE}


def kept_home(tokens=10, **body):
    found = find_candidates(ladder(*HOME), HOME, request(**body), tokens, only_local=True)
    return [candidate.dropped for candidate in found]


def test_what_must_stay_local_leaves_the_others_out():
    assert kept_home() == [Reason.PRIVATE, None, Reason.PRIVATE]
    assert kept_home(**TOOLS) == [Reason.CAPABILITY, None, Reason.PRIVATE]


def test_what_must_stay_local_may_still_fit_by_a_generous_estimate():
    assert kept_home(16_000) == [Reason.PRIVATE, None, Reason.PRIVATE]


def test_what_must_stay_local_is_refused_where_no_local_model_can_serve_it():
    with pytest.raises(PersonalDataError) as caught:
        kept_home(**IMAGE)
    assert (caught.value.status, caught.value.code) == (400, "personal_data")
    with pytest.raises(ContextLengthError):
        kept_home(17_000)
    with pytest.raises(UnsupportedParameterError):
        kept_home(n=2)


def test_only_a_local_model_can_serve_what_must_stay_local():
    assert [can_serve(one, request(), 10, only_local=True) for one in HOME.values()] == [False, True, False]


BARE = model(
    backend=BackendKind.TRITON,
    triton=TritonSettings(dialect=Dialect.TRTLLM),
    chat_template="x",
    capabilities=(Capability.TOOLS,),
)
MIXED = {"bare": BARE, "open": model(backend=BackendKind.OPENAI, capabilities=(Capability.TOOLS,))}


def found_in(models, **body):
    return find_candidates(ladder(*models), models, request(**body), 10)


def test_who_cannot_carry_a_field_leaves_and_the_field_is_told():
    assert [one.dropped for one in found_in(MIXED)] == [None, None]
    bare, served = found_in(MIXED, logit_bias={"7": 1})
    assert (bare.dropped, bare.lacks) == (Reason.CAPABILITY, "logit_bias")
    assert (served.dropped, served.lacks) == (None, None)
    assert found_in(MIXED, n=1, logit_bias=None)[0].dropped is None


def test_who_lacks_a_capability_lacks_the_field_that_asks_for_it():
    assert [one.lacks for one in found_in(MODELS, **TOOLS)] == ["tools", None, None]


def test_a_fallback_that_cannot_carry_a_field_cannot_serve():
    assert can_serve(BARE, request(), 10)
    assert not can_serve(BARE, request(logit_bias={"7": 1}), 10)
    assert can_serve(MIXED["open"], request(logit_bias={"7": 1}), 10)


def test_a_field_that_nobody_carries_is_refused_by_its_name_with_a_way_out():
    with pytest.raises(UnsupportedParameterError) as caught:
        found_in({"weak": BARE, "strong": BARE}, logit_bias={"7": 1})
    assert (caught.value.status, caught.value.code, caught.value.param) == (400, "unsupported_parameter", "logit_bias")
    assert "'logit_bias'" in caught.value.message
    assert "'strong'" in caught.value.message
    assert "Leave it out" in caught.value.message


def test_of_two_hindrances_the_one_of_the_model_that_has_every_capability_is_told():
    able = model(backend=BackendKind.TRITON, triton=BARE.triton, capabilities=(Capability.TOOLS, Capability.LOGPROBS))
    for models in ({"able": able, "bare": BARE}, {"bare": BARE, "able": able}):
        with pytest.raises(UnsupportedParameterError) as caught:
            found_in(models, logprobs=True, seed=1, zzz=1)
        assert "'able'" in caught.value.message
    with pytest.raises(UnsupportedParameterError) as caught:
        found_in({"bare": BARE}, n=2, zzz=1)
    assert caught.value.param == "n"


def test_no_more_of_a_made_up_name_comes_back_than_is_needed():
    with pytest.raises(UnsupportedParameterError) as caught:
        found_in({"bare": BARE}, **{"z" * 10_000: 1})
    assert caught.value.param == "z" * 64
    assert len(caught.value.message) < 300
