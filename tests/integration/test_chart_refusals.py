"""What the chart refuses: contradictions, in words; keys and values that its schema does not know."""

import json
import re
from collections.abc import Mapping
from typing import Any

import pytest

from tests.helm import CHART, refusal, render

MODELS = {"small": {"backend": "simulated"}, "large": {"backend": "simulated"}}
CONFIG = {"models": MODELS, "routes": {"auto": {"models": ["small", "large"]}}}
SEVERAL = {"allowPerPodState": True}

Values = Mapping[str, Any]


FAULTS = {
    "two scalers": (
        {"autoscaling": {"enabled": True}, "keda": {"enabled": True, "serverAddress": "http://p"}, **SEVERAL},
        "switch one off",
    ),
    "nothing to scale by": (
        {"autoscaling": {"enabled": True, "inFlightPerPod": None}, **SEVERAL},
        "set autoscaling.inFlightPerPod or autoscaling.cpuPercent",
    ),
    "more at least than at most": (
        {"autoscaling": {"enabled": True, "minReplicas": 5, "maxReplicas": 3}, **SEVERAL},
        "minReplicas 5 is above maxReplicas 3",
    ),
    "KEDA without Prometheus": ({"keda": {"enabled": True}, **SEVERAL}, "keda.serverAddress"),
    "two configurations": ({"config": CONFIG, "existingConfigMap": "mine"}, "leave one of them empty"),
    "no routes": ({"config": {"models": MODELS}}, "config.routes: is missing"),
    "no models": ({"config": {"routes": {"auto": {"models": []}}}}, "config.models: is missing"),
    "a model that is none": (
        {"config": {**CONFIG, "routes": {"auto": {"models": ["small", "lagre"]}}}},
        "config.routes.auto: lagre is none of config.models",
    ),
    "an address that is the chart's": ({"config": {**CONFIG, "server": {"port": 9}}}, "config.server.port"),
    "a grace that is the chart's": (
        {"config": {**CONFIG, "server": {"shutdown_grace_s": 9}}},
        "set drain.streamSeconds",
    ),
    "a Redis beside the values": (
        {"config": {**CONFIG, "redis": {"url": "redis://redis:6379/0"}}},
        "set the values `redis`, so that credentials",
    ),
    "a Redis that is not there": ({"config": {**CONFIG, "redis": {"timeout_s": 1}}}, "there is no Redis"),
    "several pods without Redis": ({"replicas": 2}, "allowPerPodState: true"),
    "an autoscaler without Redis": ({"autoscaling": {"enabled": True}}, "allowPerPodState: true"),
    "several processes without Redis": ({"config": {**CONFIG, "server": {"workers": 4}}}, "config.server.workers"),
    "a key without a secret": (
        {"config": {**CONFIG, "models": {**MODELS, "small": {"backend": "openai", "api_key": "${SMALL_KEY}"}}}},
        "a Secret that has the key SMALL_KEY in existingSecrets",
    ),
    "a file without a secret": (
        {"config": {**CONFIG, "models": {**MODELS, "small": {"api_key": "${file:/etc/postern-secrets/slm/key}"}}}},
        "name slm in secretFiles",
    ),
    "a route without a gateway": ({"httpRoute": {"enabled": True}}, "httpRoute.parentRefs"),
    "a budget of nothing": ({"podDisruptionBudget": {"maxUnavailable": None}}, "set maxUnavailable or minAvailable"),
    "a file in the configuration's place": (
        {"configFiles": {"postern.yaml": "models: {}"}},
        "configFiles: postern.yaml is the configuration itself",
    ),
    "a monitor without a service": (
        {"metrics": {"serviceMonitor": {"enabled": True}, "service": {"enabled": False}}},
        "metrics.service",
    ),
}


@pytest.mark.parametrize("helm", [3, 4])
@pytest.mark.parametrize("name", FAULTS)
def test_values_that_contradict_one_another_are_refused_in_words(name: str, helm: int):
    values, words = FAULTS[name]
    told = refusal(values, helm=helm)
    assert "These values do not go together" in told
    assert words in told


def test_every_fault_is_told_at_once():
    values, expected = {}, []
    for name in ("two scalers", "two configurations", "a route without a gateway"):
        values |= FAULTS[name][0]
        expected.append(FAULTS[name][1])
    told = refusal(values)
    assert [words for words in expected if words not in told] == []


@pytest.mark.parametrize(
    "source",
    [
        {"secrets": {"KEY": "x"}},
        {"existingSecrets": ["mine"]},
        {"extraEnv": [{"name": "KEY", "value": "x"}]},
        {"extraEnvFrom": [{"secretRef": {"name": "mine"}}]},
    ],
    ids=str,
)
def test_a_key_may_come_from_anywhere(source: Values):
    small = {"backend": "simulated", "upstream_model": "${KEY}"}
    values = {"config": {**CONFIG, "models": {**MODELS, "small": small}}}
    assert "${KEY}" in json.dumps(render({**values, **source}))


def test_a_dollar_asks_for_nothing():
    small = {"backend": "simulated", "upstream_model": "$${KEY}"}
    assert "$${KEY}" in json.dumps(render({"config": {**CONFIG, "models": {**MODELS, "small": small}}}))


UNKNOWN = [
    ({"replicaCount": 3}, "replicaCount"),
    ({"image": {"tags": "1"}}, "tags"),
    ({"networkPolicy": {"enable": True}}, "enable"),
    ({"metrics": {"serviceMonitor": {"enable": True}}}, "enable"),
    ({"config": {**CONFIG, "model": {}}}, "model"),
    ({"config": {**CONFIG, "routes": {"auto": {"models": ["small"], "polcy": {}}}}}, "polcy"),
    ({"config": {**CONFIG, "models": {"small": {"backend": "simulated", "contxt_tokens": 5}}}}, "contxt_tokens"),
]


@pytest.mark.parametrize("helm", [3, 4])
@pytest.mark.parametrize(("values", "name"), UNKNOWN, ids=[name for _, name in UNKNOWN])
def test_a_key_that_is_not_known_is_refused_by_name(values: Values, name: str, helm: int):
    told = refusal(values, helm=helm)
    assert re.search(f"dditional propert.*{name}", told), told


@pytest.mark.parametrize("helm", [3, 4])
@pytest.mark.parametrize(
    ("values", "name"),
    [
        ({"replicas": -1}, "replicas"),
        ({"replicas": "3"}, "replicas"),
        ({"image": {"pullPolicy": "Sometimes"}}, "IfNotPresent"),
        ({"image": {"digest": "sha256:1"}}, "digest"),
        ({"service": {"port": 70_000}}, "port"),
        ({"secrets": {"a-b": "x"}}, "a-b"),
        ({"drain": {"streamSeconds": 0}}, "streamSeconds"),
        ({"test": {"apiKeySecret": {"name": "mine"}}}, "key"),
        ({"config": {**CONFIG, "limits": {"max_in_flight": 0}}}, "max_in_flight"),
    ],
    ids=str,
)
def test_a_value_out_of_bounds_is_refused_by_name(values: Values, name: str, helm: int):
    assert name in refusal(values, helm=helm)


@pytest.mark.parametrize("helm", [3, 4])
def test_a_key_with_nothing_behind_it_is_refused_by_name(helm: int):
    """`config:` with all its lines commented out, say: Helm drops it, and a template would stumble."""
    told = refusal({"config": None}, helm=helm)
    assert re.search("config. is required|missing property .config|config is required", told), told


def find_open(node: Any, path: str = "") -> list[str]:
    """Return the paths of objects with named keys that take others too."""
    if isinstance(node, list):
        return [found for number, item in enumerate(node) for found in find_open(item, f"{path}[{number}]")]
    if not isinstance(node, dict):
        return []
    is_open = "properties" in node and isinstance(node["properties"], dict) and node.get("type") is not None
    found = [path] if is_open and node.get("additionalProperties") is not False else []
    return found + [one for name, item in node.items() for one in find_open(item, f"{path}/{name}")]


def test_every_object_with_named_keys_takes_no_others():
    schema = json.loads((CHART / "values.schema.json").read_text())
    # A parent chart's own globals come here too.
    assert find_open(schema) == ["/properties/global"]
