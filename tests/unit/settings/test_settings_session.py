"""What keeping conversations demands of a route."""

import pytest
import yaml

from gateway.settings.faults import SettingsError
from gateway.settings.load import parse_settings
from gateway.settings.routes import SessionSettings

CACHED = {"input": 3, "cached_input": 0.3}


def load(*, small=None, large=None, policy=None):
    """A route of two models with these prices."""
    fleet = {
        name: {"backend": "simulated", "price": price}
        for name, price in (("small", small or {}), ("large", CACHED if large is None else large))
    }
    auto = {"models": ["small", "large"], "policy": policy or {"kind": "session"}}
    return parse_settings(yaml.safe_dump({"models": fleet, "routes": {"auto": auto}}), {})


def faults(**given):
    with pytest.raises(SettingsError) as caught:
        load(**given)
    return [(fault.path, fault.problem) for fault in caught.value.faults]


@pytest.mark.parametrize("kind", ["session", ["session"], ["complexity", "session"]])
def test_it_has_defaults(kind):
    session = load(policy={"kind": kind}).routes["auto"].policy.session
    assert session == SessionSettings(cache_ttl_s=300.0, min_tokens=1024, margin=0.02)


def test_its_settings_are_read():
    session = load(policy={"kind": "session", "session": {"cache_ttl_s": 600, "min_tokens": 1, "margin": 0}})
    assert session.routes["auto"].policy.session == SessionSettings(600.0, 1, 0.0)


@pytest.mark.parametrize(
    ("name", "value"),
    [("cache_ttl_s", 0), ("cache_ttl_s", 86_401), ("min_tokens", 0), ("margin", -0.1), ("margin", 1.1)],
)
def test_a_value_out_of_bounds_is_refused(name, value):
    assert faults(policy={"kind": "session", "session": {name: value}}) == [
        (f"routes.auto.policy.session.{name}", "this number does not fit")
    ]


@pytest.mark.parametrize("large", [{}, {"input": 3}, {"input": 3, "cached_input": 3}, {"cached_input": 1}])
def test_where_no_cached_token_is_cheaper_there_is_nothing_to_keep(large):
    [(path, problem)] = faults(large=large)
    assert path == "routes.auto.policy.kind"
    assert problem.startswith("has no prompt cache to keep")


def test_one_model_whose_cached_tokens_are_cheaper_is_enough():
    assert load(small=CACHED, large={"input": 9})


def test_an_unsound_model_is_not_blamed_twice():
    assert faults(large={"input": -1}) == [("models.large.price.input", "this number does not fit")]


def test_its_settings_without_it_are_refused():
    assert faults(policy={"kind": "complexity", "session": {"margin": 0}}) == [
        ("routes.auto.policy.session", "is for `kind: session` only")
    ]


def test_beside_a_pinned_model_there_is_nothing_to_keep():
    assert ("routes.auto.policy.kind[1]", "has nothing to decide beside `pinned`") in faults(
        policy={"kind": ["pinned", "session"], "model": "small"}
    )
