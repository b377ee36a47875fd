"""Are rendered resources what a cluster takes? By Kubernetes' own schemas, and by those of the custom resources."""

import functools
import json
import subprocess
from collections.abc import Iterable
from importlib.resources import files

import kubernetes_validate
from jsonschema import Draft202012Validator
from referencing import Registry
from referencing import Resource as Schema
from referencing.jsonschema import DRAFT202012

from tests import helm
from tests.helm import NEWEST, OLDEST, PACKAGES, Resource

CUSTOM_GROUPS = ("monitoring.coreos.com", "keda.sh", "gateway.networking.k8s.io")
SCHEMAS = files("kubernetes_validate") / "kubernetes-json-schema"


def versions() -> list[str]:
    """Return the versions of Kubernetes that the chart is for, as `1.29`, the oldest first."""
    known = {kubernetes_validate.utils.major_minor(version) for version in kubernetes_validate.utils.all_versions()}
    return sorted((version for version in known if number(version) >= number(OLDEST)), key=number)


def number(version: str) -> tuple[int, ...]:
    """Return a version as what can be compared."""
    return tuple(map(int, version.split(".")))


def faults_in(resources: Iterable[Resource], kube_version: str = NEWEST) -> list[str]:
    """Return what this version of Kubernetes would not take, unknown fields included."""
    builtin, custom = [], []
    for resource in resources:
        is_custom = resource["apiVersion"].split("/")[0] in CUSTOM_GROUPS
        (custom if is_custom else builtin).append(json.dumps(resource, sort_keys=True))
    found = [fault for resource in builtin for fault in _builtin_faults(resource, kube_version)]
    return found + [fault for resource in _unseen(custom) for fault in resource]


@functools.cache
def _builtin_faults(resource: str, kube_version: str) -> tuple[str, ...]:
    wanted = json.loads(resource)
    name = f"{wanted['kind']}/{wanted['metadata']['name']}"
    # The group without its domain, as the files are named: networking.k8s.io/v1 is networking-v1.
    group, _, version = wanted["apiVersion"].rpartition("/")
    kind = "-".join(filter(None, (wanted["kind"].lower(), group.split(".")[0], version)))
    validator = _validator(kind, kube_version)
    if validator is None:
        return (f"{name}: Kubernetes {kube_version} has no {kind}",)
    return tuple(f"{name}: {error.json_path}: {error.message[:300]}" for error in validator.iter_errors(wanted))


@functools.cache
def _validator(kind: str, kube_version: str) -> Draft202012Validator | None:
    file = SCHEMAS / f"v{kube_version}.0-local-strict" / f"{kind}.json"
    if not file.is_file():
        return None
    return Draft202012Validator(json.loads(file.read_text()), registry=_definitions(kube_version))


@functools.cache
def _definitions(kube_version: str) -> Registry:
    text = (SCHEMAS / f"v{kube_version}.0-local-strict" / "_definitions.json").read_text()
    definitions = Schema.from_contents(json.loads(text), DRAFT202012)
    # Crawled here once; else each validator goes through all of its 1.8 MB for itself, 18 times the work.
    return Registry().with_resource("_definitions.json", definitions).crawl()


_CUSTOM: dict[str, list[str]] = {}
"""What is known of a custom resource: one process of Node a resource would cost more than all else."""


def _unseen(custom: list[str]) -> list[list[str]]:
    unseen = [resource for resource in dict.fromkeys(custom) if resource not in _CUSTOM]
    if unseen:
        helm.install()
        asked = f"[{','.join(unseen)}]"
        done = subprocess.run(
            ["node", "custom_resources.mjs"], cwd=PACKAGES, input=asked, capture_output=True, text=True, check=True
        )
        for resource, faults in zip(unseen, json.loads(done.stdout), strict=True):
            wanted = json.loads(resource)
            name = f"{wanted['kind']}/{wanted['metadata']['name']}"
            _CUSTOM[resource] = [f"{name}: {fault}" for fault in faults]
    return [_CUSTOM[resource] for resource in custom]
