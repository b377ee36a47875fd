"""Pods that rendered resources make, and whether the restricted pod security profile would let them in.

Field by field: https://kubernetes.io/docs/concepts/security/pod-security-standards/, and the admission plug-in's own
checks where the page lags behind (volumes of images have been let in since Kubernetes 1.33).
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tests.helm import Resource

WORKLOADS = ("Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "Job")
VOLUMES = {
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "image",
    "persistentVolumeClaim",
    "projected",
    "secret",
}
SECCOMP = ("RuntimeDefault", "Localhost")


@dataclass(frozen=True)
class Pod:
    """A pod as its owner would make it. `claims`: volumes that a StatefulSet adds."""

    owner: Resource
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    spec: Mapping[str, Any]
    claims: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Return what tells it apart in a test's output."""
        return f"{self.owner['kind']}/{self.owner['metadata']['name']}"

    @property
    def is_hook(self) -> bool:
        """Tell whether it lives for a moment only: `helm test`, or a check before an upgrade."""
        return "helm.sh/hook" in self.owner["metadata"].get("annotations", {})

    def containers(self) -> list[Mapping[str, Any]]:
        """Return all that run in it, whenever."""
        return [
            *self.spec.get("initContainers", ()),
            *self.spec["containers"],
            *self.spec.get("ephemeralContainers", ()),
        ]

    def ports(self) -> dict[str, int]:
        """Return its named ports."""
        return {
            port["name"]: port["containerPort"]
            for container in self.containers()
            for port in container.get("ports", ())
            if "name" in port
        }


def pods_of(resources: Iterable[Resource]) -> list[Pod]:
    """Return every pod."""
    return list(_pods(resources))


def _pods(resources: Iterable[Resource]) -> Iterator[Pod]:
    for resource in resources:
        template, claims = resource, ()
        if resource["kind"] == "CronJob":
            template = resource["spec"]["jobTemplate"]["spec"]["template"]
        elif resource["kind"] in WORKLOADS:
            template = resource["spec"]["template"]
            claims = tuple(one["metadata"]["name"] for one in resource["spec"].get("volumeClaimTemplates", ()))
        elif resource["kind"] != "Pod":
            continue
        meta = template.get("metadata", {})
        yield Pod(resource, meta.get("labels", {}), meta.get("annotations", {}), template["spec"], claims)


def baseline_faults(pod: Pod) -> list[str]:
    """Return what even the baseline profile forbids."""
    return [f"{pod.name}: {fault}" for fault in (*_forbidden_to_pods(pod), *_forbidden_to_containers(pod))]


def restricted_faults(pod: Pod) -> list[str]:
    """Return what the restricted profile forbids; it holds the baseline one."""
    found = [f"{pod.name}: {fault}" for fault in (*_missing_of_pods(pod), *_missing_of_containers(pod))]
    return baseline_faults(pod) + found


def _forbidden_to_pods(pod: Pod) -> Iterator[str]:
    context = pod.spec.get("securityContext", {})
    yield from (f"spec.{key}" for key in ("hostNetwork", "hostPID", "hostIPC") if pod.spec.get(key))
    yield from (f"volume {one['name']} is of the host" for one in pod.spec.get("volumes", ()) if "hostPath" in one)
    if context.get("sysctls"):
        yield "spec.securityContext.sysctls"
    for annotation, value in pod.annotations.items():
        if annotation.startswith("container.apparmor.security.beta.kubernetes.io/") and value == "unconfined":
            yield annotation
    yield from _forbidden_contexts("spec", context)


def _forbidden_to_containers(pod: Pod) -> Iterator[str]:
    for container in pod.containers():
        name, context = container["name"], container.get("securityContext", {})
        yield from _forbidden_contexts(name, context)
        if context.get("privileged"):
            yield f"{name}: privileged"
        if context.get("procMount", "Default") != "Default":
            yield f"{name}: procMount"
        if set(context.get("capabilities", {}).get("add", ())) - {"NET_BIND_SERVICE"}:
            yield f"{name}: adds capabilities"
        yield from (f"{name}: hostPort {port['hostPort']}" for port in container.get("ports", ()) if "hostPort" in port)
        lifecycle = container.get("lifecycle", {})
        hooks = [container.get(f"{kind}Probe", {}) for kind in ("startup", "readiness", "liveness")]
        for hook in (*hooks, lifecycle.get("preStop", {}), lifecycle.get("postStart", {})):
            if any("host" in hook.get(action, {}) for action in ("httpGet", "tcpSocket")):
                yield f"{name}: a probe of another host"


def _forbidden_contexts(name: str, context: Mapping[str, Any]) -> Iterator[str]:
    if context.get("windowsOptions", {}).get("hostProcess"):
        yield f"{name}: hostProcess"
    if context.get("seccompProfile", {}).get("type", SECCOMP[0]) not in SECCOMP:
        yield f"{name}: seccompProfile"
    if context.get("appArmorProfile", {}).get("type", SECCOMP[0]) not in SECCOMP:
        yield f"{name}: appArmorProfile"
    linux = context.get("seLinuxOptions", {})
    types = ("", "container_t", "container_init_t", "container_kvm_t", "container_engine_t")
    if linux.get("type", "") not in types or linux.get("user") or linux.get("role"):
        yield f"{name}: seLinuxOptions"


def _missing_of_pods(pod: Pod) -> Iterator[str]:
    for volume in pod.spec.get("volumes", ()):
        if not set(volume) - {"name"} <= VOLUMES:
            yield f"volume {volume['name']} is of a kind that is not let in"
    if pod.spec.get("securityContext", {}).get("runAsUser") == 0:
        yield "spec.securityContext.runAsUser is root"


def _missing_of_containers(pod: Pod) -> Iterator[str]:
    shared = pod.spec.get("securityContext", {})
    for container in pod.containers():
        name, context = container["name"], container.get("securityContext", {})
        if context.get("allowPrivilegeEscalation") is not False:
            yield f"{name}: allowPrivilegeEscalation"
        if context.get("runAsNonRoot", shared.get("runAsNonRoot")) is not True:
            yield f"{name}: runAsNonRoot"
        if context.get("runAsUser") == 0:
            yield f"{name}: runAsUser is root"
        if context.get("seccompProfile", shared.get("seccompProfile", {})).get("type") not in SECCOMP:
            yield f"{name}: no seccompProfile"
        if "ALL" not in context.get("capabilities", {}).get("drop", ()):
            yield f"{name}: capabilities are not dropped"
