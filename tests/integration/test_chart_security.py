"""Every pod of the chart is let in by the restricted pod security profile, and asks for no more than it needs."""

import copy

import pytest

from tests import helm
from tests.chart_pods import pods_of, restricted_faults

SETS = helm.value_sets()


def made(name):
    return pods_of(helm.render(SETS[name]))


@pytest.mark.parametrize("by_helm", [3, 4])
@pytest.mark.parametrize("name", SETS)
def test_every_pod_is_restricted(name, by_helm):
    pods = pods_of(helm.render(SETS[name], helm=by_helm))
    assert pods
    assert [fault for pod in pods for fault in restricted_faults(pod)] == []


@pytest.mark.parametrize("name", SETS)
def test_only_triton_writes_to_its_root(name):
    # Its backends write beside their code, and vLLM and TensorRT-LLM compile kernels into their packages' folders.
    writable = {
        container["name"]
        for pod in made(name)
        for container in pod.containers()
        if not container["securityContext"].get("readOnlyRootFilesystem")
        and not pod.labels["app.kubernetes.io/component"].startswith("triton-")
    }
    assert writable == set()


@pytest.mark.parametrize("name", SETS)
def test_no_pod_may_ask_kubernetes_anything_unless_the_values_say_so(name):
    wanted = {
        server.get("serviceAccountName", "")
        for server in SETS[name].get("triton", {}).get("servers", {}).values()
        if server
    } - {""}
    if SETS[name].get("serviceAccount", {}).get("automount"):
        return
    for pod in made(name):
        told = pod.spec.get("automountServiceAccountToken")
        assert told is False or pod.spec["serviceAccountName"] in wanted, pod.name
    assert not [one for one in helm.render(SETS[name]) if one["kind"] in ("Role", "ClusterRole", "ClusterRoleBinding")]


@pytest.mark.parametrize("name", SETS)
def test_no_password_stands_outside_of_a_secret(name):
    held = [
        value
        for one in helm.render(SETS[name])
        if one["kind"] == "Secret"
        for value in (*one.get("data", {}).values(), *one.get("stringData", {}).values())
    ]
    rest = str([one for one in helm.render(SETS[name]) if one["kind"] != "Secret"])
    assert not [value for value in held if value in rest]


def spoilt(change):
    """Give the faults of a pod that would be let in but for this change."""
    [pod] = [pod for pod in made("triton-image") if pod.name.endswith("triton-copied")]
    spec = copy.deepcopy(pod.spec)
    change(spec, spec["containers"][0], spec["initContainers"][0])
    changed = type(pod)(pod.owner, pod.labels, pod.annotations, spec)
    return restricted_faults(changed)


@pytest.mark.parametrize(
    "change",
    [
        lambda pod, main, init: pod.update(hostNetwork=True),
        lambda pod, main, init: pod.update(hostPID=True),
        lambda pod, main, init: pod.update(hostIPC=True),
        lambda pod, main, init: pod["securityContext"].update(runAsUser=0),
        lambda pod, main, init: pod["securityContext"].update(sysctls=[{"name": "kernel.msgmax", "value": "1"}]),
        lambda pod, main, init: pod["securityContext"].update(seLinuxOptions={"type": "spc_t"}),
        lambda pod, main, init: pod["securityContext"].update(appArmorProfile={"type": "Unconfined"}),
        lambda pod, main, init: main["securityContext"].update(windowsOptions={"hostProcess": True}),
        lambda pod, main, init: main["securityContext"].update(privileged=True),
        lambda pod, main, init: main["securityContext"].update(procMount="Unmasked"),
        lambda pod, main, init: main["securityContext"].update(runAsNonRoot=False),
        lambda pod, main, init: main["securityContext"].update(runAsUser=0),
        lambda pod, main, init: main["securityContext"].update(seccompProfile={"type": "Unconfined"}),
        lambda pod, main, init: main["securityContext"].update(allowPrivilegeEscalation=True),
        lambda pod, main, init: main["securityContext"]["capabilities"].update(drop=["NET_RAW"]),
        lambda pod, main, init: main["securityContext"]["capabilities"].update(add=["SYS_ADMIN"]),
        lambda pod, main, init: init["securityContext"].pop("allowPrivilegeEscalation"),
        lambda pod, main, init: init["securityContext"].pop("capabilities"),
        lambda pod, main, init: main["ports"][0].update(hostPort=8000),
        lambda pod, main, init: main["livenessProbe"]["httpGet"].update(host="10.0.0.1"),
        lambda pod, main, init: pod["volumes"].append({"name": "host", "hostPath": {"path": "/"}}),
        lambda pod, main, init: pod["volumes"].append({"name": "disk", "nfs": {"server": "a", "path": "/"}}),
    ],
)
def test_what_the_profile_forbids_is_seen(change):
    assert spoilt(lambda *_: None) == []
    assert spoilt(change) != []


def test_a_profile_that_is_missing_is_seen():
    def change(pod, main, init):
        pod["securityContext"].pop("seccompProfile")
        pod["securityContext"].pop("runAsNonRoot")

    told = " ".join(spoilt(change))
    assert "triton: no seccompProfile" in told
    assert "repository: runAsNonRoot" in told
