"""Names and what stands behind them."""

import pytest

from gateway.core.context import Reason
from gateway.core.errors import ModelNotFoundError
from gateway.routing.routes import build_routes
from gateway.schema.request import Operation
from gateway.settings.engines import Dialect, OnnxSettings, TritonSettings
from gateway.settings.models import BackendKind, Capability
from gateway.settings.root import Settings
from gateway.settings.routes import CascadeSettings, PolicyKind, PolicySettings, RouteSettings
from tests.builders import facts, model, price

SETTINGS = Settings(
    models={
        "small": model(),
        "embedder": model(capabilities=(Capability.EMBEDDINGS,)),
        "large": model(capabilities=(Capability.EMBEDDINGS,)),
    },
    routes={
        "auto": RouteSettings(models=("small", "embedder", "large"), fallback=("large",), max_attempts=2),
        "plain": RouteSettings(models=("small",)),
        "fixed": RouteSettings(models=("small", "large"), policy=PolicySettings(kind=PolicyKind.PINNED, model="large")),
    },
)
TABLE = build_routes(SETTINGS)


def choose(name, operation=Operation.CHAT, score=0.0):
    route = TABLE.resolve(name, operation)
    return route.policy.choose(route.ladder, facts(score))


def test_a_route_is_found_with_its_ladder_its_router_and_its_fallback():
    route = TABLE.resolve("auto", Operation.CHAT)
    assert (route.ladder.models, route.ladder.is_pinned) == (("small", "embedder", "large"), False)
    assert (route.router, route.fallback, route.max_attempts) == ("default", ("large",), 2)


@pytest.mark.parametrize("operation", Operation)
def test_a_model_is_pinned_under_its_own_name(operation):
    route = TABLE.resolve("small", operation)
    assert (route.ladder.models, route.ladder.is_pinned, route.router, route.fallback) == (("small",), True, None, ())
    assert choose("small", operation).reason is Reason.PINNED


def test_a_pinned_route_needs_no_router():
    assert TABLE.resolve("fixed", Operation.CHAT).router is None
    assert choose("fixed").model == "large"


def test_embeddings_stay_with_the_first_model_that_makes_them_whatever_the_score():
    assert {choose("auto", Operation.EMBEDDING, score).model for score in (0.0, 0.5, 1.0, None)} == {"embedder"}
    route = TABLE.resolve("auto", Operation.EMBEDDING)
    assert (route.ladder.name, route.ladder.is_pinned, route.fallback, route.router) == ("auto", True, (), None)


def test_a_route_none_of_whose_models_embeds_still_resolves():
    assert choose("plain", Operation.EMBEDDING).model == "small"


@pytest.mark.parametrize("operation", Operation)
def test_an_unknown_name_is_not_found_and_not_repeated(operation):
    with pytest.raises(ModelNotFoundError) as caught:
        TABLE.resolve("my-secret-name", operation)
    assert (caught.value.status, caught.value.code, caught.value.param) == (404, "model_not_found", "model")
    assert "my-secret-name" not in caught.value.message
    assert "6" in caught.value.message


def private_routes(kind):
    able = (Capability.EMBEDDINGS,)
    models = {"far": model(capabilities=able), "near": model(capabilities=able, local=True), "small": model(local=True)}
    auto = RouteSettings(models=("small", "far", "near"), policy=PolicySettings(kind=kind))
    far = RouteSettings(models=("small", "far"), policy=PolicySettings(kind=kind))
    return build_routes(Settings(models=models, routes={"auto": auto, "abroad": far}))


def test_a_private_route_pins_embeddings_to_a_local_model_where_there_is_one():
    table = private_routes((PolicyKind.PRIVATE, PolicyKind.COMPLEXITY))
    found = [table.resolve(name, Operation.EMBEDDING) for name in ("auto", "abroad", "near")]
    assert [route.ladder.models for route in found] == [("near",), ("far",), ("near",)]
    assert [route.is_private for route in found] == [True, True, False]


@pytest.mark.parametrize(("kind", "is_private"), [(PolicyKind.PRIVATE, True), (PolicyKind.COMPLEXITY, False)])
def test_a_route_is_private_where_its_policy_says_so_and_a_model_by_its_own_name_never_is(kind, is_private):
    table = private_routes(kind)
    assert table.resolve("auto", Operation.CHAT).is_private is is_private
    assert table.resolve("auto", Operation.EMBEDDING).ladder.models == (("near",) if is_private else ("far",))
    assert table.resolve("abroad", Operation.CHAT).is_private is is_private
    assert not table.resolve("near", Operation.CHAT).is_private


def fleet_of(**cascade):
    kind = PolicyKind.CASCADE if cascade else PolicyKind.COMPLEXITY
    policy = PolicySettings(kind=kind, cascade=CascadeSettings(**cascade))
    routes = {"auto": RouteSettings(models=("small", "large"), policy=policy)}
    return build_routes(Settings(models=SETTINGS.models, routes=routes)).resolve("auto", Operation.CHAT).fleet


def test_answers_that_another_rule_let_go_on_are_not_of_the_same_fleet():
    assert fleet_of(min_confidence=0.1) == fleet_of(min_confidence=0.1)
    assert len({fleet_of(), fleet_of(min_confidence=0.1), fleet_of(min_confidence=0.9), fleet_of(tokens=4)}) == 4


TRITON = TritonSettings(dialect=Dialect.VLLM)
ON_TRITON = {"backend": BackendKind.TRITON, "urls": ("grpc://h",), "triton": TRITON, "chat_template": "a"}
IN_PROCESS = {"backend": BackendKind.ONNX, "onnx": OnnxSettings(path="a")}


@pytest.mark.parametrize(
    ("base", "change", "is_same"),
    [
        (ON_TRITON, {"triton": TritonSettings(dialect=Dialect.VLLM, model="other")}, False),
        (ON_TRITON, {"triton": TritonSettings(dialect=Dialect.VLLM, lora="law")}, False),
        (ON_TRITON, {"chat_template": "b"}, False),
        (IN_PROCESS, {"onnx": OnnxSettings(path="b")}, False),
        (IN_PROCESS, {"onnx": OnnxSettings(path="a", threads=1)}, True),
        (ON_TRITON, {"price": price(1, 2)}, True),
    ],
)
def test_another_model_behind_a_name_never_answers_from_the_others_cache(base, change, is_same):
    fleets = [
        build_routes(Settings(models={"m": model(**settings)}, routes={"auto": RouteSettings(models=("m",))}))
        .resolve("auto", Operation.CHAT)
        .fleet
        for settings in (base, base | change)
    ]
    assert (fleets[0] == fleets[1]) == is_same
