"""What the chart renders fits together: names, labels, selectors, ports, references, mounts."""

import copy

import pytest

from tests import helm
from tests.chart_pods import pods_of
from tests.chart_wiring import Rendered, matches, wiring_faults

SETS = helm.value_sets()
NAMESPACE = "team-a"
LONGEST_RELEASE = "a-release-whose-name-has-all-the-fifty-three-lettersx"


def rendered(name, **changes):
    return Rendered(helm.render(SETS[name], **changes), SETS[name], NAMESPACE)


@pytest.mark.parametrize("by_helm", [3, 4])
@pytest.mark.parametrize("name", SETS)
def test_everything_fits_together(name, by_helm):
    assert wiring_faults(rendered(name, helm=by_helm)) == []


@pytest.mark.parametrize("name", SETS)
def test_the_longest_release_name_fits_too(name):
    assert len(LONGEST_RELEASE) == 53
    assert wiring_faults(rendered(name, release=LONGEST_RELEASE)) == []


@pytest.mark.parametrize("name", [name for name, values in SETS.items() if not values.get("fullnameOverride")])
def test_two_releases_stand_beside_each_other(name):
    blue, green = (rendered(name, release=release) for release in ("blue", "green"))
    given = {one["metadata"]["name"] for one in blue.resources if one not in blue.own()}
    names = [{(one["kind"], one["metadata"]["name"]) for one in two.own()} for two in (blue, green)]
    assert not {found for found in names[0] & names[1] if found[1] not in given}
    for workload in blue.of("Deployment", "StatefulSet"):
        assert not [pod.name for pod in green.pods if matches(workload["spec"]["selector"], pod.labels)]
    for service in blue.of("Service"):
        selector = {"matchLabels": service["spec"]["selector"]}
        assert not [pod.name for pod in green.pods if matches(selector, pod.labels)]
    for policy in blue.of("NetworkPolicy", "PodDisruptionBudget"):
        selector = policy["spec"].get("podSelector") or policy["spec"]["selector"]
        assert not [pod.name for pod in green.pods if matches(selector, pod.labels)]


@pytest.mark.parametrize("name", SETS)
def test_a_gateway_has_time_for_its_longest_stream(name):
    for pod in rendered(name).pods:
        if pod.labels["app.kubernetes.io/component"] != "gateway" or pod.is_hook:
            continue
        text = [
            one["data"]["postern.yaml"] for one in rendered(name).resources if "postern.yaml" in one.get("data", {})
        ]
        if not text:
            return
        [line] = [line for line in text[0].splitlines() if "shutdown_grace_s" in line]
        assert pod.spec["terminationGracePeriodSeconds"] > float(line.split(":")[1])


def test_a_changed_configuration_makes_new_pods_and_nothing_else_does():
    def told(values):
        [pod] = [pod for pod in pods_of(helm.render(values)) if pod.name == "Deployment/blue-postern"]
        return pod.annotations

    values = copy.deepcopy(SETS["redis-external-tls"]) | {"restartOnConfigChange": True}
    before = told(values)
    assert told(values | {"service": {"port": 8080}}) == before
    values["config"]["models"]["small"]["context_tokens"] = 4096
    assert told(values) != before


def by_kind(resources):
    return {one["kind"]: one for one in resources}


def pod_of(by, kind="Deployment"):
    return by[kind]["spec"]["template"]["spec"]


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda by: by["Service"]["metadata"].update(name="a" * 64), "name_faults: Service/aaa"),
        (lambda by: by["StatefulSet"]["metadata"].update(name="a" * 53), "of 52 characters"),
        (lambda by: by["Service"]["metadata"].update(namespace="default"), "is in default"),
        (lambda by: by["Service"]["metadata"]["labels"].pop("app.kubernetes.io/version"), "label_faults"),
        (lambda by: by["Service"]["metadata"]["labels"].update(x="-"), "label_faults"),
        (lambda by: by["StatefulSet"]["spec"]["template"]["metadata"]["labels"].clear(), "selector_faults"),
        (lambda by: by["StatefulSet"]["spec"]["selector"].clear(), "selector_faults"),
        (lambda by: by["Service"]["spec"]["selector"].pop("app.kubernetes.io/component"), "service_faults"),
        (lambda by: by["Service"]["spec"]["ports"][0].update(targetPort="web"), "has no port web"),
        (lambda by: by["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"].update(x="y"), "means no pod"),
        (lambda by: by["NetworkPolicy"]["spec"].update(policyTypes=["Ingress"]), "leaves a direction open"),
        (lambda by: by["NetworkPolicy"]["spec"]["ingress"][0]["ports"][0].update(port="web"), "has no port web"),
        (
            lambda by: by["NetworkPolicy"]["spec"]["ingress"][0]["from"][0]["podSelector"]["matchLabels"].update(x="y"),
            "policy_faults",
        ),
        (lambda by: by["ScaledObject"]["spec"]["scaleTargetRef"].update(name="x"), "scales nothing"),
        (lambda by: by["StatefulSet"]["spec"].update(replicas=1), "has replicas of its own"),
        (lambda by: by["Deployment"]["spec"].pop("replicas"), "has no replicas"),
        (lambda by: by["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"].update(x="y"), "target_faults"),
        (lambda by: by["ServiceMonitor"]["spec"]["endpoints"][0].update(port="web"), "monitor_faults"),
        (lambda by: by["ServiceMonitor"]["spec"]["selector"]["matchLabels"].update(x="y"), "monitor_faults"),
        (lambda by: by["ServiceMonitor"]["spec"].update(namespaceSelector={"matchNames": ["x"]}), "looks elsewhere"),
        (lambda by: by["StatefulSet"]["spec"].update(serviceName="x"), "Service/x, which nothing makes"),
        (lambda by: pod_of(by).update(serviceAccountName="x"), "ServiceAccount/x, which nothing makes"),
        (lambda by: pod_of(by).update(imagePullSecrets=[{"name": "x"}]), "Secret/x, which nothing makes"),
        (
            lambda by: pod_of(by)["containers"][0].setdefault("envFrom", []).append({"configMapRef": {"name": "x"}}),
            "ConfigMap/x, which nothing makes",
        ),
        (
            lambda by: pod_of(by, "StatefulSet")["containers"][0]["env"].append(
                {"name": "X", "valueFrom": {"secretKeyRef": {"name": "blue-postern-redis", "key": "user"}}}
            ),
            "wants user of Secret/blue-postern-redis",
        ),
        (lambda by: pod_of(by)["volumes"].append({"name": "x", "secret": {"secretName": "x"}}), "Secret/x"),
        (
            lambda by: pod_of(by)["volumes"].append({"name": "x", "persistentVolumeClaim": {"claimName": "x"}}),
            "PersistentVolumeClaim/x",
        ),
        (lambda by: pod_of(by)["containers"][0]["volumeMounts"].pop(), "container_faults"),
        (lambda by: pod_of(by)["containers"][0].update(image="postern"), "may be another tomorrow"),
        (lambda by: pod_of(by)["containers"][0].update(image="host:5000/postern:latest"), "may be another tomorrow"),
        (lambda by: pod_of(by)["containers"][0].update(resources={}), "resources"),
        (lambda by: pod_of(by)["containers"][0]["readinessProbe"].update(httpGet={"port": 8080}), "readinessProbe of"),
        (
            lambda by: pod_of(by)["containers"][0]["volumeMounts"].append({"name": "tmp", "mountPath": "/tmp"}),
            "two mounts at /tmp",
        ),
    ],
)
def test_what_does_not_fit_is_seen(spoil, told):
    resources = copy.deepcopy(helm.render(SETS["triton-vllm"]))
    # Of each kind the last is spoilt: the gateway's Deployment, and Triton's of all others.
    by = by_kind(resources)
    by["Deployment"] = next(
        one for one in resources if (one["kind"], one["metadata"]["name"]) == ("Deployment", "blue-postern")
    )
    spoil(by)
    found = wiring_faults(Rendered(resources, SETS["triton-vllm"], NAMESPACE))
    assert [fault for fault in found if told in fault]


def test_the_same_name_twice_is_seen():
    resources = helm.render(SETS["minimal"])
    found = wiring_faults(Rendered([*resources, resources[0]], {}, NAMESPACE))
    assert [fault for fault in found if "twice" in fault]
