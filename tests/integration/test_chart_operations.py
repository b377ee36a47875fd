"""What an installation goes through: a check before it, an upgrade of the chart alone, a namespace that denies all."""

import base64
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import helm_python
import pytest

from tests.chart_pods import Pod, pods_of
from tests.chart_references import references_of
from tests.chart_wiring import matches
from tests.helm import Resource, render, value_sets

CHECKED = [name for name, values in value_sets().items() if not values.get("existingConfigMap")]
THEIR_SECRETS = {"POSTERN_REDIS_URL": "rediss://:s3cret@redis.example:6379/0"}
"""What the user's own Secrets hold, where anything but a word would be refused."""


def checked(values: Mapping[str, Any]) -> tuple[list[Resource], Pod]:
    """Return all that is rendered, and the pod that checks the configuration."""
    resources = render({**values, "configCheck": {"enabled": True}})
    [pod] = [pod for pod in pods_of(resources) if pod.name.endswith("-check")]
    return resources, pod


def hooked(resources: list[Resource], kind: str) -> dict[str, str]:
    """Return the data of the check's own Secret or ConfigMap."""
    found = [one["data"] for one in resources if one["kind"] == kind and one["metadata"]["name"].endswith("-check")]
    return found[0] if found else {}


def environ(resources: list[Resource], pod: Pod, config: str) -> dict[str, str]:
    """Return the variables that the check sees; those that the user's Secrets hold are words, or THEIR_SECRETS."""
    container = pod.spec["containers"][0]
    told = {
        one["name"]: one.get("value") or THEIR_SECRETS[one["name"]]
        for one in container.get("env", ())
        if "value" in one or one["name"] in THEIR_SECRETS
    }
    own = {name: base64.b64decode(value).decode() for name, value in hooked(resources, "Secret").items()}
    return {**dict.fromkeys(re.findall(r"[$][{](\w+)[}]", config), "s3cret"), **own, **told}


def check(values: Mapping[str, Any], folder: Path) -> subprocess.CompletedProcess[str]:
    """Run what the check's pod runs, with its files and variables."""
    resources, pod = checked(values)
    files = hooked(resources, "ConfigMap")
    for name, text in files.items():
        (folder / name).write_text(text)
    arguments = [one.replace("/etc/postern", str(folder)) for one in pod.spec["containers"][0]["args"]]
    command = [sys.executable, "-m", "gateway", *arguments]
    variables = environ(resources, pod, files["postern.yaml"])
    return subprocess.run(command, env=variables, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("name", CHECKED)
def test_the_check_before_an_installation_lets_every_sound_configuration_pass(name: str, tmp_path: Path):
    done = check(value_sets()[name], tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_check_sees_the_secrets_that_the_values_hold(tmp_path: Path):
    model = {"backend": "openai", "urls": ["${URL}"]}
    values = {"config": {"models": {"one": model}, "routes": {"auto": {"models": ["one"]}}}}
    sound = check({**values, "secrets": {"URL": "https://llm.example/v1"}}, tmp_path)
    assert sound.returncode == 0, sound.stdout + sound.stderr
    assert check({**values, "secrets": {"URL": "llm.example"}}, tmp_path).returncode == 2


@pytest.mark.parametrize("name", CHECKED)
def test_the_check_needs_nothing_that_the_release_makes_after_it(name: str):
    resources, pod = checked(value_sets()[name])
    later = {
        (one["kind"], one["metadata"]["name"])
        for one in resources
        if "helm.sh/hook" not in one["metadata"].get("annotations", {})
    }
    asked = {(one.kind, one.name) for one in references_of(resources) if one.by == pod.name}
    assert not asked & later


@pytest.mark.parametrize("name", ["redis-persistent", "triton-vllm"])
def test_a_new_chart_alone_leaves_redis_and_triton_running(name: str):
    """Their images are not the chart's: a cold cache, or weights loaded anew, would be the price of a label."""
    pods = [pod for pod in pods_of(render(value_sets()[name])) if not pod.is_hook]
    steady = [pod for pod in pods if pod.labels["app.kubernetes.io/component"] != "gateway"]
    assert steady
    for pod in steady:
        assert not {"helm.sh/chart", "app.kubernetes.io/version"} & set(pod.labels), pod.name


def test_helm_test_asks_in_a_namespace_that_denies_all():
    resources = render({})
    [pod] = [pod for pod in pods_of(resources) if pod.name == "Pod/blue-postern-test"]
    [policy] = [
        one for one in resources if one["kind"] == "NetworkPolicy" and matches(one["spec"]["podSelector"], pod.labels)
    ]
    annotations = policy["metadata"]["annotations"]
    assert (annotations["helm.sh/hook"], annotations["helm.sh/hook-weight"]) == ("test", "-1")
    names, gateway = policy["spec"]["egress"]
    assert {one["port"] for one in names["ports"]} == {53}
    [reached] = [one for one in pods_of(resources) if matches(gateway["to"][0]["podSelector"], one.labels)]
    assert [one["port"] for one in gateway["ports"]] == [reached.ports()["http"]]


@pytest.mark.parametrize(("kind", "told"), [("ClusterIP", "http"), ("NodePort", "http"), ("LoadBalancer", None)])
def test_a_clouds_load_balancer_is_not_invited_to_ask_the_root_path(kind: str, told: str | None):
    """Azure's takes `appProtocol: http` for a wish to be asked `GET /`, which a gateway answers with 404."""
    [service] = [
        one
        for one in render({"service": {"type": kind}})
        if one["kind"] == "Service" and one["metadata"]["name"] == "blue-postern"
    ]
    assert service["spec"]["ports"][0].get("appProtocol") == told


@pytest.mark.parametrize("name", ["1234", "1e3", "on"])
def test_names_that_yaml_reads_as_something_else_stay_names(name: str):
    for one in render({"fullnameOverride": "llm"}, release=name, namespace="12"):
        assert (one["metadata"]["labels"]["app.kubernetes.io/instance"], one["metadata"]["namespace"]) == (name, "12")


@pytest.mark.parametrize("release", ["1blue", "blue.green"])
def test_names_that_no_service_may_have_are_refused_before_anything_is_made(release: str):
    """Helm takes both; Kubernetes would refuse the services when half of the release is there."""
    with pytest.raises(helm_python.HelmError, match="set fullnameOverride"):
        render({}, release=release)
    assert render({"fullnameOverride": "llm"}, release=release)


@pytest.mark.parametrize("release", ["blue", "a-release-whose-name-has-all-the-fifty-three-lettersx"])
def test_keda_counts_pods_whose_names_kubernetes_cuts(release: str):
    keda = {"keda": {"enabled": True, "serverAddress": "http://prometheus:9090"}, "allowPerPodState": True}
    found = {one["kind"]: one for one in render(keda, release=release)}
    name = found["Deployment"]["metadata"]["name"]
    pattern = re.search(r'pod=~"([^"]+)"', found["ScaledObject"]["spec"]["triggers"][0]["metadata"]["query"])
    # What is made up has 5 letters, and what stands before it 58 at most.
    assert re.fullmatch(pattern[1], f"{name}-7c9d8f6b54-"[:58] + "x2vqz")


@pytest.mark.parametrize("name", ["gateway", "triton"])
def test_no_pod_goes_because_prometheus_does(name: str):
    """Without a fallback the autoscaler keeps what there is; with `replicas` it would scale down to them."""
    servers = {"llama": {"models": {"llama": {"dialect": "vllm"}}, "repository": {"url": "s3://models"}}}
    servers["llama"]["autoscaling"] = {"kind": "keda", "serverAddress": "http://prometheus:9090"}
    keda = {"keda": {"enabled": True, "serverAddress": "http://prometheus:9090"}, "allowPerPodState": True}
    config = {"models": {"llama": {"chat_template": "x"}}, "routes": {"auto": {"models": ["llama"]}}}
    values = keda if name == "gateway" else {"config": config, "triton": {"servers": servers}}
    [scaled] = [one for one in render(values) if one["kind"] == "ScaledObject"]
    assert "fallback" not in scaled["spec"]
