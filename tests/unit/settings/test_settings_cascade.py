"""What a cascade demands of a route."""

import pytest
import yaml

from gateway.settings.faults import SettingsError
from gateway.settings.load import parse_settings
from gateway.settings.routes import CascadeSettings


def load(*, capabilities=("logprobs",), policy=None, models=("small", "large"), **route):
    """A route of two models, of which the weaker has these capabilities."""
    fleet = {
        "small": {"backend": "simulated", "capabilities": list(capabilities)},
        "middle": {"backend": "simulated"},
        "large": {"backend": "simulated", "capabilities": ["logprobs"]},
    }
    auto = {"models": list(models), "policy": policy or {"kind": "cascade"}, **route}
    return parse_settings(yaml.safe_dump({"models": fleet, "routes": {"auto": auto}}), {})


def faults(**given):
    with pytest.raises(SettingsError) as caught:
        load(**given)
    return [(fault.path, fault.problem) for fault in caught.value.faults]


@pytest.mark.parametrize("kind", ["cascade", ["cascade"], ["complexity", "cascade"]])
def test_a_cascade_has_defaults(kind):
    assert load(policy={"kind": kind}).routes["auto"].policy.cascade == CascadeSettings()


def test_its_settings_are_read():
    cascade = {"tokens": 8, "quantile": 0.5, "min_confidence": 0.6, "band": 0.5, "wait_s": 1}
    assert load(policy={"kind": "cascade", "cascade": cascade}).routes["auto"].policy.cascade.tokens == 8


@pytest.mark.parametrize(
    ("name", "value"),
    [("tokens", 0), ("tokens", 257), ("quantile", 1.1), ("min_confidence", -0.1), ("band", 2), ("wait_s", 0)],
)
def test_a_value_out_of_bounds_is_refused(name, value):
    assert faults(policy={"kind": "cascade", "cascade": {name: value}}) == [
        (f"routes.auto.policy.cascade.{name}", "this number does not fit")
    ]


@pytest.mark.parametrize("models", [("small", "large"), ("large",), ("small", "middle", "large")])
def test_without_a_weaker_model_that_tells_log_probabilities_it_is_refused(models):
    [(path, problem)] = faults(capabilities=("tools",), models=models)
    assert path == "routes.auto.policy.kind"
    assert problem.startswith("can judge no answer")


def test_one_weaker_model_that_tells_them_is_enough():
    assert load(models=("small", "middle", "large"))


def test_an_unsound_model_is_not_blamed_twice():
    assert faults(capabilities=("nonsense",)) == [("models.small.capabilities[0]", "is none of the choices")]


def test_it_needs_an_attempt_for_the_stronger_model():
    assert faults(max_attempts=1) == [("routes.auto.policy.kind", "leaves no attempt to the stronger model")]
    assert load(max_attempts=2)


def test_its_settings_are_for_a_cascade_only():
    assert faults(policy={"kind": "complexity", "cascade": {"tokens": 8}}) == [
        ("routes.auto.policy.cascade", "is for `kind: cascade` only")
    ]
    assert load(policy={"kind": "complexity", "cascade": {}})


def test_a_bound_that_moves_cannot_be_set():
    held = {"kind": "cascade", "cascade": {"escalate_share": 0.2}}
    assert load(policy=held)
    assert faults(policy={**held, "cascade": {"escalate_share": 0.2, "min_confidence": 0.5}}) == [
        ("routes.auto.policy.cascade.min_confidence", "moves by itself, as `escalate_share` is set")
    ]


def test_a_pinned_route_has_nothing_to_judge():
    assert ("routes.auto.policy.kind[0]", "has nothing to decide beside `pinned`") in faults(
        policy={"kind": ["cascade", "pinned"], "model": "small"}
    )
