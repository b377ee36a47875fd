"""What rendered resources name that must be there: ConfigMaps, Secrets, claims, service accounts, and keys in them."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tests.chart_pods import Pod, pods_of
from tests.helm import Resource


@dataclass(frozen=True)
class Reference:
    """One thing that is asked for. `key`: None where the whole of it is."""

    by: str
    kind: str
    name: str
    key: str | None = None


def references_of(resources: Iterable[Resource]) -> Iterator[Reference]:
    """Yield what is asked for and may not be missing."""
    listed = list(resources)
    for pod in pods_of(listed):
        yield from _of_pod(pod)
        yield from _of_volumes(pod)
        for container in pod.containers():
            yield from _of_environment(pod.name, container)
    for resource in listed:
        if resource["kind"] == "Ingress":
            for tls in resource["spec"].get("tls", ()):
                yield Reference(f"Ingress/{resource['metadata']['name']}", "Secret", tls["secretName"])
        if resource["kind"] == "StatefulSet":
            name = resource["metadata"]["name"]
            yield Reference(f"StatefulSet/{name}", "Service", resource["spec"]["serviceName"])


def _of_pod(pod: Pod) -> Iterator[Reference]:
    if "serviceAccountName" in pod.spec:
        yield Reference(pod.name, "ServiceAccount", pod.spec["serviceAccountName"])
    for secret in pod.spec.get("imagePullSecrets", ()):
        yield Reference(pod.name, "Secret", secret["name"])


def _of_volumes(pod: Pod) -> Iterator[Reference]:
    for volume in pod.spec.get("volumes", ()):
        if "persistentVolumeClaim" in volume:
            claim = volume["persistentVolumeClaim"]["claimName"]
            yield Reference(pod.name, "PersistentVolumeClaim", claim)
        for source in (volume, *volume.get("projected", {}).get("sources", ())):
            yield from _of_source(pod.name, source)


def _of_source(by: str, source: Mapping[str, Any]) -> Iterator[Reference]:
    for kind, field in (("ConfigMap", "configMap"), ("Secret", "secret")):
        told = source.get(field)
        if told is None or told.get("optional"):
            continue
        name = told.get("name") or told["secretName"]
        yield Reference(by, kind, name)
        for item in told.get("items", ()):
            yield Reference(by, kind, name, item["key"])


def _of_environment(by: str, container: Mapping[str, Any]) -> Iterator[Reference]:
    for variable in container.get("env", ()):
        for kind, field in (("ConfigMap", "configMapKeyRef"), ("Secret", "secretKeyRef")):
            told = variable.get("valueFrom", {}).get(field)
            if told and not told.get("optional"):
                yield Reference(by, kind, told["name"], told["key"])
    for source in container.get("envFrom", ()):
        for kind, field in (("ConfigMap", "configMapRef"), ("Secret", "secretRef")):
            told = source.get(field)
            if told and not told.get("optional"):
                yield Reference(by, kind, told["name"])
