"""Do rendered resources fit together? Each check returns what does not: names, selectors, ports, references, mounts.

What a schema can't see and a cluster tells only by pods that never start, services without endpoints, or nothing.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.chart_pods import Pod, pods_of
from tests.chart_references import references_of
from tests.helm import Resource

LABELS = {f"app.kubernetes.io/{name}" for name in ("name", "instance", "version", "component", "part-of", "managed-by")}
VERSION = "app.kubernetes.io/version"
"""A pod may do without it: another version would be another pod."""
SCALERS = ("HorizontalPodAutoscaler", "ScaledObject")
LONGEST = {"StatefulSet": 52, "ScaledObject": 54, "ConfigMap": 253}
"""Longest names, where it is not 63. A StatefulSet's pods carry its name in a label, with 11 characters more; KEDA puts
`keda-hpa-` before it, in a label too. A ConfigMap's is in no label and no address."""
NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
LABEL_VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")


@dataclass(frozen=True)
class Rendered:
    """What one set of values gives."""

    resources: Sequence[Resource]
    values: Mapping[str, Any]
    namespace: str

    @property
    def pods(self) -> list[Pod]:
        """Return every pod."""
        return pods_of(self.resources)

    def of(self, *kinds: str) -> list[Resource]:
        """Return the resources of these kinds."""
        return [one for one in self.resources if one["kind"] in kinds]

    def own(self) -> list[Resource]:
        """Return the chart's own resources: what the user adds whole is as the user wants it."""
        return [one for one in self.resources if "helm.sh/chart" in one["metadata"].get("labels", {})]


def matches(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """Tell whether a label selector means something with these labels. An empty one means all."""
    if not selector.get("matchLabels", {}).items() <= labels.items():
        return False
    for wanted in selector.get("matchExpressions", ()):
        has = labels.get(wanted["key"])
        found = {
            "In": has in wanted.get("values", ()),
            "NotIn": has not in wanted.get("values", ()),
            "Exists": has is not None,
            "DoesNotExist": has is None,
        }
        if not found[wanted["operator"]]:
            return False
    return True


def name_faults(rendered: Rendered) -> Iterator[str]:
    """Names that are given twice, too long, or not names; a namespace of no one's choosing."""
    seen = Counter(
        (one["kind"], one["metadata"].get("namespace"), one["metadata"]["name"]) for one in rendered.resources
    )
    yield from (f"{kind}/{name} twice" for (kind, _, name), times in seen.items() if times > 1)
    wanted = {rendered.namespace, None} | {text for text in _texts(rendered.values) if NAME.fullmatch(text)}
    for one in rendered.own():
        name = one["metadata"]["name"]
        longest = LONGEST.get(one["kind"], 63)
        if len(name) > longest or not NAME.fullmatch(name):
            yield f"{one['kind']}/{name} is no name of {longest} characters at most"
        if one["metadata"].get("namespace") not in wanted:
            yield f"{one['kind']}/{name} is in {one['metadata']['namespace']}"


def label_faults(rendered: Rendered) -> Iterator[str]:
    """Objects, and pods, without the recommended labels, or with values that are none."""
    if not rendered.own():
        yield "nothing carries helm.sh/chart"
    pods = [(pod.name, pod.labels) for pod in rendered.pods if pod.owner in rendered.own()]
    for name, labels in [
        *((f"{one['kind']}/{one['metadata']['name']}", one["metadata"]["labels"]) for one in rendered.own()),
        *pods,
    ]:
        missing = LABELS - set(labels) - ({VERSION} if (name, labels) in pods else set())
        if missing:
            yield f"{name} lacks {sorted(missing)}"
        yield from (f"{name}: {key}={value}" for key, value in labels.items() if not LABEL_VALUE.fullmatch(value))


def selector_faults(rendered: Rendered) -> Iterator[str]:
    """Workloads that don't select their own pods, or select another's."""
    for workload in rendered.of("Deployment", "StatefulSet"):
        selector = workload["spec"]["selector"]
        meant = {pod.name for pod in rendered.pods if matches(selector, pod.labels)}
        if meant != {f"{workload['kind']}/{workload['metadata']['name']}"}:
            yield f"{workload['metadata']['name']} selects {meant}"


def service_faults(rendered: Rendered) -> Iterator[str]:
    """Services that reach other pods than those of one component, or ports that no container has."""
    for service in rendered.of("Service"):
        name = service["metadata"]["name"]
        selected = [pod for pod in rendered.pods if matches({"matchLabels": service["spec"]["selector"]}, pod.labels)]
        if len(selected) != 1 or selected[0].is_hook:
            yield f"Service/{name} reaches {[pod.name for pod in selected]}"
        for port in service["spec"]["ports"]:
            target = port.get("targetPort", port["port"])
            for pod in selected:
                if target not in (*pod.ports(), *pod.ports().values()):
                    yield f"Service/{name}: {pod.name} has no port {target}"


def policy_faults(rendered: Rendered) -> Iterator[str]:
    """Network policies that mean no pod; peers and ports that are none; pods that no policy guards."""
    policies = rendered.of("NetworkPolicy")
    guarded: set[str] = set()
    for policy in policies:
        name, spec = policy["metadata"]["name"], policy["spec"]
        meant = [pod for pod in rendered.pods if matches(spec["podSelector"], pod.labels)]
        guarded |= {pod.name for pod in meant}
        if not meant:
            yield f"NetworkPolicy/{name} means no pod"
        if set(spec["policyTypes"]) != {"Ingress", "Egress"}:
            yield f"NetworkPolicy/{name} leaves a direction open"
        for rule in (*spec.get("ingress", ()), *spec.get("egress", ())):
            yield from _peer_faults(name, rule, rendered.pods)
        for rule in spec.get("ingress", ()):
            asked = {port["port"] for port in rule.get("ports", ())}
            yield from (
                f"NetworkPolicy/{name}: {pod.name} has no port {port}"
                for pod in meant
                for port in asked
                if port not in (*pod.ports(), *pod.ports().values())
            )
    if policies:
        lasting = {pod.name for pod in rendered.pods if not pod.is_hook and pod.owner in rendered.own()}
        yield from (f"{name} has no network policy" for name in lasting - guarded)


def _peer_faults(name: str, rule: Mapping[str, Any], pods: Sequence[Pod]) -> Iterator[str]:
    for peer in (*rule.get("from", ()), *rule.get("to", ())):
        selector = peer.get("podSelector", {})
        is_ours = "app.kubernetes.io/instance" in selector.get("matchLabels", {})
        if is_ours and "namespaceSelector" not in peer and not any(matches(selector, pod.labels) for pod in pods):
            yield f"NetworkPolicy/{name}: no pod is {selector}"


def target_faults(rendered: Rendered) -> Iterator[str]:
    """Scalers and budgets of nothing; replicas that a scaler would fight for."""
    scaled = []
    for scaler in rendered.of(*SCALERS):
        wanted = scaler["spec"]["scaleTargetRef"]
        found = [
            one for one in rendered.of(wanted.get("kind", "Deployment")) if one["metadata"]["name"] == wanted["name"]
        ]
        if not found:
            yield f"{scaler['kind']}/{scaler['metadata']['name']} scales nothing"
        scaled += [f"{one['kind']}/{one['metadata']['name']}" for one in found]
        yield from (f"{one['metadata']['name']} has replicas of its own" for one in found if "replicas" in one["spec"])
    yield from (f"{name} is scaled twice" for name, times in Counter(scaled).items() if times > 1)
    for one in rendered.of("Deployment", "StatefulSet"):
        if f"{one['kind']}/{one['metadata']['name']}" not in scaled and "replicas" not in one["spec"]:
            yield f"{one['metadata']['name']} has no replicas, and nothing scales it"
    for budget in rendered.of("PodDisruptionBudget"):
        meant = [pod for pod in rendered.pods if matches(budget["spec"]["selector"], pod.labels)]
        if len(meant) != 1:
            yield f"PodDisruptionBudget/{budget['metadata']['name']} means {[pod.name for pod in meant]}"


def monitor_faults(rendered: Rendered) -> Iterator[str]:
    """Monitors that find no service, or a port that it has not."""
    for monitor in rendered.of("ServiceMonitor"):
        selector = monitor["spec"]["selector"]
        found = [one for one in rendered.of("Service") if matches(selector, one["metadata"]["labels"])]
        has = [{port["name"] for port in one["spec"]["ports"]} for one in found]
        for endpoint in monitor["spec"]["endpoints"]:
            serving = [ports for ports in has if endpoint["port"] in ports]
            if len(serving) != 1:
                yield f"ServiceMonitor/{monitor['metadata']['name']}: {len(serving)} services have {endpoint['port']}"
        if rendered.namespace not in monitor["spec"].get("namespaceSelector", {}).get(
            "matchNames", [rendered.namespace]
        ):
            yield f"ServiceMonitor/{monitor['metadata']['name']} looks elsewhere"


def backend_faults(rendered: Rendered) -> Iterator[str]:
    """Ingresses and routes to services that are not there, or to other ports."""
    ports = {
        one["metadata"]["name"]: {key for port in one["spec"]["ports"] for key in (port.get("name"), port["port"])}
        for one in rendered.of("Service")
    }
    for ingress in rendered.of("Ingress"):
        for rule in ingress["spec"].get("rules", ()):
            for path in rule["http"]["paths"]:
                service = path["backend"]["service"]
                port = service["port"].get("name", service["port"].get("number"))
                if port not in ports.get(service["name"], ()):
                    yield f"Ingress to {service['name']}:{port}"
    for route in rendered.of("HTTPRoute"):
        for rule in route["spec"]["rules"]:
            for backend in rule.get("backendRefs", ()):
                if backend["port"] not in ports.get(backend["name"], ()):
                    yield f"HTTPRoute to {backend['name']}:{backend['port']}"


def reference_faults(rendered: Rendered) -> Iterator[str]:
    """Objects, and keys in them, that are named, but neither rendered nor among the values as there already."""
    there = {(one["kind"], one["metadata"]["name"]): one for one in rendered.resources}
    given = set(_texts(rendered.values)) | {"default"}
    for wanted in references_of(rendered.resources):
        found = there.get((wanted.kind, wanted.name))
        if found is None and wanted.name not in given:
            yield f"{wanted.by} wants {wanted.kind}/{wanted.name}, which nothing makes"
        if found is not None and wanted.key is not None:
            keys = {*found.get("data", {}), *found.get("stringData", {})}
            if wanted.key not in keys:
                yield f"{wanted.by} wants {wanted.key} of {wanted.kind}/{wanted.name}, which has {sorted(keys)}"


def container_faults(rendered: Rendered) -> Iterator[str]:
    """Mounts without volumes and the other way round, probes of unnamed ports, images that change, no requests."""
    for pod in rendered.pods:
        volumes = {*(one["name"] for one in pod.spec.get("volumes", ())), *pod.claims}
        mounted = {mount["name"] for one in pod.containers() for mount in one.get("volumeMounts", ())}
        if volumes != mounted:
            yield f"{pod.name}: volumes {sorted(volumes)}, mounted {sorted(mounted)}"
        names = [one["name"] for one in pod.containers()]
        yield from (f"{pod.name}: {name} twice" for name, times in Counter(names).items() if times > 1)
        for container in pod.containers():
            yield from (f"{pod.name}: {container['name']}: {fault}" for fault in _faults_of(container))


def _faults_of(container: Mapping[str, Any]) -> Iterator[str]:
    paths = Counter(mount["mountPath"] for mount in container.get("volumeMounts", ()))
    yield from (f"two mounts at {path}" for path, times in paths.items() if times > 1)
    variables = Counter(one["name"] for one in container.get("env", ()))
    yield from (f"{name} is set twice" for name, times in variables.items() if times > 1)
    named = {port.get("name") for port in container.get("ports", ())}
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        for action in ("httpGet", "tcpSocket", "grpc"):
            port = container.get(probe, {}).get(action, {}).get("port")
            if port is not None and port not in named:
                yield f"{probe} of {port}"
    image = container["image"]
    tag = image.rpartition("/")[2].partition("@")[0].partition(":")[2]
    if "@sha256:" not in image and tag in ("", "latest"):
        yield f"image {image} may be another tomorrow"
    resources = container.get("resources", {})
    if not {"cpu", "memory"} <= set(resources.get("requests", {})) or "memory" not in resources.get("limits", {}):
        yield f"resources {resources}"


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        for key, one in value.items():
            yield str(key)
            yield from _texts(one)
    elif isinstance(value, list):
        for one in value:
            yield from _texts(one)
    else:
        yield str(value)


CHECKS = (
    name_faults,
    label_faults,
    selector_faults,
    service_faults,
    policy_faults,
    target_faults,
    monitor_faults,
    backend_faults,
    reference_faults,
    container_faults,
)


def wiring_faults(rendered: Rendered) -> list[str]:
    """Return all that does not fit."""
    return [f"{check.__name__}: {fault}" for check in CHECKS for fault in check(rendered)]
