"""The chart, rendered by real Helms from every set of values in its `ci` folder, is what every Kubernetes takes."""

import copy
import json
import os
import re
import shutil
import subprocess

import pytest
import yaml

from tests import helm
from tests.chart_schemas import faults_in, number, versions
from tests.helm import NEWEST, OLDEST

SETS = helm.value_sets()


def targets():
    """Every set on every Kubernetes; on the newest and the oldest that it is for by both Helms."""
    for name in SETS:
        oldest = helm.oldest_for(name)
        for version in versions():
            if number(version) >= number(oldest):
                yield name, version, 4
                if version in (oldest, NEWEST):
                    yield name, version, 3


def test_the_newest_kubernetes_is_the_newest_that_there_are_schemas_of():
    assert (versions()[0], versions()[-1]) == (OLDEST, NEWEST)


@pytest.mark.parametrize(("name", "kube_version", "by_helm"), list(targets()))
def test_every_set_is_taken(name, kube_version, by_helm):
    rendered = helm.render(SETS[name], kube_version=kube_version, helm=by_helm)
    assert rendered
    assert faults_in(rendered, kube_version) == []


@pytest.mark.parametrize("by_helm", [3, 4])
@pytest.mark.parametrize("name", SETS)
def test_a_strict_lint_finds_nothing(name, by_helm):
    assert helm.lint(SETS[name], kube_version=helm.oldest_for(name), helm=by_helm) == []


@pytest.mark.parametrize("name", SETS)
def test_both_helms_render_the_same(name):
    def known(resources):
        found = {(one["kind"], one["metadata"]["name"]): copy.deepcopy(one) for one in resources}
        for (kind, _), one in found.items():
            if kind == "Secret":  # may hold a password that was made up
                one["data"] = sorted(one.get("data", ()))
        return found

    assert known(helm.render(SETS[name], helm=3)) == known(helm.render(SETS[name], helm=4))


@pytest.mark.parametrize("by_helm", [3, 4])
@pytest.mark.parametrize("name", SETS)
def test_no_whole_number_becomes_a_fraction(name, by_helm):
    # Helm holds numbers as floats: 10485760 written out by a template, in place of toYaml, is 1.048576e+07.
    assert re.findall(r"[0-9.]+e[+][0-9]+", json.dumps(helm.render(SETS[name], helm=by_helm))) == []


def promtool(*arguments):
    if shutil.which("promtool") is None:
        problem = "missing: prometheus; install: apt-get install prometheus"
        pytest.fail(problem) if os.environ.get("CI") == "true" else pytest.skip(problem)
    return subprocess.run(["promtool", "check", *arguments], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("name", SETS)
def test_prometheus_takes_the_rules(name, tmp_path):
    rules = [one for one in helm.render(SETS[name]) if one["kind"] == "PrometheusRule"]
    for place, rule in enumerate(rules):
        (tmp_path / f"{place}.yaml").write_text(yaml.safe_dump(rule["spec"]))
    if rules:
        done = promtool("rules", *tmp_path.glob("*.yaml"))
        assert done.returncode == 0, done.stdout + done.stderr


def snake(value):
    """Turn the operator's names, sourceLabels, into Prometheus' own, source_labels."""
    if isinstance(value, list):
        return [snake(one) for one in value]
    if isinstance(value, dict):
        return {re.sub("[A-Z]", lambda found: f"_{found[0].lower()}", key): snake(one) for key, one in value.items()}
    return value


@pytest.mark.parametrize("name", SETS)
def test_prometheus_takes_the_monitors(name, tmp_path):
    jobs = []
    for monitor in (one for one in helm.render(SETS[name]) if one["kind"] == "ServiceMonitor"):
        for endpoint in monitor["spec"]["endpoints"]:
            job = snake({key: value for key, value in endpoint.items() if key in ("honorLabels", "interval")})
            job = {{"interval": "scrape_interval"}.get(key, key): value for key, value in job.items()}
            job["job_name"] = f"{monitor['metadata']['name']}/{endpoint['port']}"
            job["metrics_path"] = endpoint["path"]
            job["relabel_configs"] = snake(endpoint.get("relabelings", []))
            job["metric_relabel_configs"] = snake(endpoint.get("metricRelabelings", []))
            jobs.append(job)
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump({"scrape_configs": jobs}))
    if jobs:
        done = promtool("config", tmp_path / "prometheus.yml")
        assert done.returncode == 0, done.stdout + done.stderr


def test_each_part_of_the_chart_has_a_set_that_switches_it_on():
    rendered = [one for values in SETS.values() for one in helm.render(values)]
    templates = helm.CHART / "templates"
    kinds = {
        line.split()[1]
        for path in templates.rglob("*.yaml")
        for line in path.read_text().splitlines()
        if line.startswith("kind: ")
    }
    assert kinds - {one["kind"] for one in rendered} == set()


def mend(change):
    """Give the resources of a set, with one of them spoilt."""
    resources = copy.deepcopy(helm.render(SETS["triton-vllm"]))
    change({one["kind"]: one for one in resources})
    return resources


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda by: by["StatefulSet"]["spec"]["template"]["spec"].update(runAsUser=1), "runAsUser"),
        (lambda by: by["Deployment"]["spec"]["template"]["spec"]["containers"][0].update(port=1), "port"),
        (lambda by: by["Service"]["spec"]["ports"][0].update(port="80"), "not of type 'integer'"),
        (lambda by: by["PodDisruptionBudget"].update(apiVersion="policy/v1beta1"), "has no poddisruptionbudget"),
        (lambda by: by["ScaledObject"]["spec"].update(maxReplicas=1), "/spec/maxReplicas: unknown field"),
        (lambda by: by["ScaledObject"]["spec"].update(maxReplicaCount="3"), "/spec/maxReplicaCount"),
        (lambda by: by["ServiceMonitor"]["spec"]["endpoints"][0].update(ports=1), "/spec/endpoints/0/ports"),
        (lambda by: by["ServiceMonitor"]["spec"].pop("selector"), "selector"),
    ],
)
def test_what_a_cluster_would_refuse_or_drop_in_silence_is_seen(spoil, told):
    [fault] = faults_in(mend(spoil))
    assert told in fault


def test_a_field_of_a_newer_kubernetes_is_seen_on_an_older_one():
    rendered = helm.render(SETS["triton-image-volume"])
    assert faults_in(rendered, "1.33") == []
    assert any("'image' was unexpected" in fault for fault in faults_in(rendered, "1.30"))


def test_helm_itself_refuses_a_kubernetes_that_is_too_old():
    with pytest.raises(subprocess.CalledProcessError) as caught:
        helm.render({}, kube_version="1.28", helm=3)
    assert "chart requires kubeVersion" in caught.value.stderr
