"""The chart's own logic: the gateway's configuration, how a pod goes, what is refused in words, what rolls pods.

The matrix of Kubernetes versions and the security of every pod are tests of their own.
"""

import base64
import gzip
import json
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import helm_python
import pytest
import yaml

from deploy import chart
from gateway.settings.load import load_settings
from gateway.settings.root import Settings
from gateway.settings.simulated import simulated_settings
from gateway.telemetry import names
from tests import helm
from tests.helm import CHART, notes, render, value_sets

MODELS = {"small": {"backend": "simulated"}, "large": {"backend": "simulated"}}
CONFIG = {"models": MODELS, "routes": {"auto": {"models": ["small", "large"]}}}
SEVERAL = {"allowPerPodState": True}
MARGIN_S = 15

Values = Mapping[str, Any]


def only(resources: list[dict[str, Any]], kind: str, name: str) -> dict[str, Any]:
    """Return the one resource of this kind whose name ends so."""
    found = [one for one in resources if one["kind"] == kind and one["metadata"]["name"].endswith(name)]
    assert len(found) == 1, [(one["kind"], one["metadata"]["name"]) for one in resources]
    return found[0]


def deployment(values: Values, **changes: Any) -> dict[str, Any]:
    return only(render(values, **changes), "Deployment", "blue-postern")["spec"]


def pod(values: Values, **changes: Any) -> dict[str, Any]:
    return deployment(values, **changes)["template"]["spec"]


def container(values: Values, **changes: Any) -> dict[str, Any]:
    return pod(values, **changes)["containers"][0]


def files(values: Values) -> dict[str, str]:
    return only(render(values), "ConfigMap", "-config")["data"]


def config(values: Values) -> dict[str, Any]:
    """Return the configuration as the gateway's own reader of YAML sees it."""
    return yaml.safe_load(files(values)["postern.yaml"])


def environ(values: Values) -> dict[str, str]:
    """Return a value for each variable that the pod has, or may have by a Secret that the configuration asks of."""
    secret = {"POSTERN_REDIS_URL": "rediss://:s3cret@redis.example:6379/0"}
    named = {one["name"]: one.get("value") or secret.get(one["name"], "s3cret") for one in container(values)["env"]}
    return {**dict.fromkeys(re.findall(r"[$][{](\w+)[}]", files(values)["postern.yaml"]), "s3cret"), **named}


def settings(values: Values, folder: Path) -> Settings:
    """Return what the gateway makes of the rendered configuration."""
    for name, text in files(values).items():
        (folder / name).write_text(text)
    return load_settings(folder / "postern.yaml", environ(values))


def with_models(**changes: Any) -> dict[str, Any]:
    return {"config": {**CONFIG, "models": {"small": {"backend": "simulated", **changes}, "large": MODELS["large"]}}}


def test_nothing_set_serves_the_built_in_simulated_models(tmp_path: Path):
    found, built_in = settings({}, tmp_path), simulated_settings()
    assert (found.models, found.routes, found.cache) == (built_in.models, built_in.routes, built_in.cache)


def test_the_gateway_listens_where_services_and_probes_ask(tmp_path: Path):
    server = settings({"config": CONFIG, "listenAddress": "::"}, tmp_path).server
    assert (server.host, server.port, server.admin_host, server.admin_port) == ("::", 8080, "::", 8081)
    rendered = render({"listenAddress": "::"})
    spec = container({"listenAddress": "::"})
    assert {one["name"]: one["containerPort"] for one in spec["ports"]} == {"http": 8080, "admin": 8081}
    # The image's own POSTERN_HOST would win over the configuration.
    assert {"name": "POSTERN_HOST", "value": "::"} in spec["env"]
    assert {"name": "POSTERN_ADMIN_HOST", "value": "::"} in spec["env"]
    assert only(rendered, "Service", "blue-postern")["spec"]["ports"][0]["targetPort"] == "http"
    assert only(rendered, "Service", "-metrics")["spec"]["ports"][0]["targetPort"] == "admin"


@pytest.mark.parametrize("helm", [3, 4])
def test_what_yaml_and_helm_read_otherwise_arrives_as_it_was_meant(helm: int):
    meant = {
        **CONFIG,
        "models": {**MODELS, "small": {"backend": "simulated", "capabilities": ["tools", False]}},
        "cache": {"exact": {"max_bytes": 1_073_741_824, "ttl_s": 86_400}},
        "feedback": None,
        "routes": {"auto": {"models": ["small", "large"], "policy": {"threshold": 0.30}}},
    }
    text = only(render({"config": meant}, helm=helm), "ConfigMap", "-config")["data"]["postern.yaml"]
    found = yaml.safe_load(text)
    assert found["models"]["small"]["capabilities"] == ["tools", "n"]  # a bare n is false to Helm
    assert found["cache"]["exact"]["max_bytes"] == 1_073_741_824
    assert isinstance(found["cache"]["exact"]["max_bytes"], int)
    assert found["feedback"] is None
    assert "feedback" in found
    assert found["routes"]["auto"]["policy"]["threshold"] == 0.30


def test_files_lie_beside_the_configuration():
    template = "{% for m in messages %}{{ m.content }}{% endfor %}"
    data = files({"config": CONFIG, "configFiles": {"chat.jinja": template}})
    assert data["chat.jinja"] == template
    assert set(data) == {"chat.jinja", "postern.yaml"}


def test_a_configuration_of_ones_own_is_read_by_its_key_and_has_files_beside_it():
    values = {"existingConfigMap": "mine", "existingConfigMapKey": "gateway.yaml", "configFiles": {"chat.jinja": "x"}}
    sources = pod(values)["volumes"][0]["projected"]["sources"]
    assert [one["configMap"]["name"] for one in sources] == ["mine", "blue-postern-config"]
    assert container(values)["args"][:3] == ["serve", "--config", "/etc/postern/gateway.yaml"]
    assert set(files(values)) == {"chat.jinja"}


def test_no_volume_is_mounted_by_sub_path_as_those_are_never_renewed():
    mounts = container({"config": CONFIG, "configFiles": {"chat.jinja": "x"}})["volumeMounts"]
    assert [one for one in mounts if one["name"] == "config"] == [
        {"name": "config", "mountPath": "/etc/postern", "readOnly": True}
    ]


@pytest.mark.parametrize(
    ("values", "stream_s"),
    [
        pytest.param({}, 600, id="nothing set: the gateway's own longest answer"),
        pytest.param({"existingConfigMap": "mine"}, 600, id="a configuration that can't be read"),
        pytest.param(with_models(timeouts={"total_s": 900.5}), 901, id="a model that takes longer"),
        pytest.param(with_models(timeouts={"total_s": 60}), 600, id="of several models the longest"),
        pytest.param({"drain": {"streamSeconds": 30}}, 30, id="set by hand"),
        pytest.param({"drain": {"preStopSeconds": 0}}, 600, id="no pause"),
        pytest.param({"drain": {"preStopSeconds": 45, "streamSeconds": 7200}}, 7200, id="hours"),
    ],
)
def test_a_pod_may_take_as_long_to_go_as_its_longest_stream_takes(values: Values, stream_s: int):
    pause_s = values.get("drain", {}).get("preStopSeconds", 15)
    spec = pod(values)
    assert spec["terminationGracePeriodSeconds"] == pause_s + stream_s + MARGIN_S
    assert ("lifecycle" in spec["containers"][0]) == (pause_s > 0)
    if "existingConfigMap" not in values:
        assert config(values)["server"]["shutdown_grace_s"] == stream_s


def test_the_pause_before_sigterm_needs_no_shell():
    pause = {"drain": {"preStopSeconds": 7}}
    old = container(pause, kube_version="1.29")["lifecycle"]["preStop"]
    new = container(pause, kube_version="1.30")["lifecycle"]["preStop"]
    assert (old, new) == ({"exec": {"command": ["postern", "pause", "7"]}}, {"sleep": {"seconds": 7}})


def test_a_process_that_hangs_is_not_waited_for_as_long_as_streams_take():
    spec = pod({})
    for name in ("startupProbe", "livenessProbe"):
        # The pause comes first here too.
        assert 15 < spec["containers"][0][name]["terminationGracePeriodSeconds"] <= 60


def test_capacity_never_falls_while_pods_are_replaced():
    assert deployment({})["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
    assert deployment({"strategy": {"type": "Recreate"}})["strategy"] == {"type": "Recreate"}


def annotations(values: Values) -> dict[str, str]:
    return deployment(values)["template"]["metadata"]["annotations"]


@pytest.mark.parametrize(
    ("change", "rolls"),
    [
        pytest.param({"config": {**CONFIG, "limits": {"max_in_flight": 9}}}, True, id="configuration"),
        pytest.param({"configFiles": {"chat.jinja": "new"}}, True, id="file"),
        pytest.param({"secrets": {"KEY": "new"}}, True, id="secret"),
        pytest.param(
            {"redis": {"mode": "internal", "internal": {"auth": {"password": "new"}}}}, True, id="password of Redis"
        ),
        pytest.param({"drain": {"streamSeconds": 5}}, True, id="what the chart adds to the configuration"),
        pytest.param({"replicas": 1, "service": {"port": 8000}}, False, id="what no pod reads"),
    ],
)
def test_pods_are_replaced_when_what_they_read_changes(change: Values, rolls: bool):
    redis = {"mode": "internal", "internal": {"auth": {"password": "old"}}}
    before = {"config": CONFIG, "secrets": {"KEY": "old"}, "configFiles": {"chat.jinja": "old"}, "redis": redis}
    assert (annotations({**before, **change}) != annotations(before)) == rolls


def test_pods_may_stay_and_take_a_configuration_over_by_themselves():
    stays = {"restartOnConfigChange": False}
    other = {**CONFIG, "limits": {"max_in_flight": 9}}
    assert annotations({"config": CONFIG, **stays}) == annotations({"config": other, **stays})
    assert annotations({"secrets": {"A": "1"}, **stays}) != annotations({"secrets": {"A": "2"}, **stays})


@pytest.mark.parametrize(
    "scaler",
    [{"autoscaling": {"enabled": True}}, {"keda": {"enabled": True, "serverAddress": "http://prometheus:9090"}}],
    ids=["autoscaling", "keda"],
)
def test_who_scales_alone_says_how_many_pods_there_are(scaler: Values):
    assert "replicas" not in deployment({**scaler, **SEVERAL})
    assert deployment({"replicas": 0})["replicas"] == 0


def test_the_autoscaler_asks_for_requests_in_flight_a_pod():
    values = {"autoscaling": {"enabled": True, "inFlightPerPod": 40, "cpuPercent": 60}, **SEVERAL}
    spec = only(render(values), "HorizontalPodAutoscaler", "blue-postern")["spec"]
    in_flight, cpu = spec["metrics"]
    assert in_flight["pods"]["metric"]["name"] == "postern_in_flight"
    assert in_flight["pods"]["target"] == {"type": "AverageValue", "averageValue": "40"}
    assert cpu["resource"]["target"]["averageUtilization"] == 60
    assert spec["behavior"]["scaleDown"]["stabilizationWindowSeconds"] >= 300


def test_keda_counts_this_release_and_none_beside_it():
    values = {"keda": {"enabled": True, "serverAddress": "http://prometheus:9090"}, **SEVERAL}
    trigger = only(render(values), "ScaledObject", "blue-postern")["spec"]["triggers"][0]
    query = trigger["metadata"]["query"]
    pattern = re.search(r'pod=~"([^"]+)"', query)[1]
    assert 'namespace="team-a"' in query
    assert re.fullmatch(pattern, "blue-postern-7c9d8f6b5-x2vqz")
    others = ["green-postern-7c9d8f6b5-x2vqz", "blue-postern-redis-7c9d8f6b5-x2vqz", "blue-postern-triton-a-0"]
    assert not [name for name in others if re.fullmatch(pattern, name)]


@pytest.mark.skipif(shutil.which("promtool") is None, reason="apt-get install prometheus")
def test_prometheus_understands_what_scalers_ask_it(tmp_path: Path):
    keda = {"keda": {"enabled": True, "serverAddress": "http://prometheus:9090"}, **SEVERAL}
    query = only(render(keda), "ScaledObject", "blue-postern")["spec"]["triggers"][0]["metadata"]["query"]
    # What README.md tells prometheus-adapter, with its blanks filled in.
    block = re.search(r"```yaml\n(  rules:.+?)```", (CHART / "README.md").read_text(), re.DOTALL)[1]
    (rule,) = yaml.safe_load(block)["rules"]["custom"]
    assert rule["name"]["as"] == names.IN_FLIGHT
    blanks = {"<<.Series>>": names.IN_FLIGHT, "<<.LabelMatchers>>": 'namespace="a",pod=~"b|c"', "<<.GroupBy>>": "pod"}
    asked = rule["metricsQuery"]
    for blank, text in blanks.items():
        asked = asked.replace(blank, text)
    rules = [{"record": f"one:{n}", "expr": expr} for n, expr in enumerate((query, rule["seriesQuery"], asked))]
    file = tmp_path / "rules.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "scalers", "rules": rules}]}))
    done = subprocess.run(["promtool", "check", "rules", file], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def egress_ports(values: Values) -> set[int]:
    rules = only(render(values), "NetworkPolicy", "blue-postern")["spec"]["egress"]
    return {one["port"] for rule in rules for one in rule["ports"]}


@pytest.mark.parametrize(
    ("model", "ports"),
    [
        pytest.param({"backend": "openai", "urls": ["https://api.example/v1"]}, {443}, id="https"),
        pytest.param({"backend": "openai", "urls": ["http://phi.models/v1"]}, {80}, id="http"),
        pytest.param(
            {"backend": "openai", "urls": ["http://a:9001/v1", "http://[::1]:9002/v1"]}, {9001, 9002}, id="own"
        ),
        pytest.param(
            {"backend": "triton", "urls": ["grpc://gpu:8001"], "triton": {"dialect": "vllm"}}, {8001, 8002}, id="Triton"
        ),
        pytest.param(
            {"backend": "openai", "urls": ["http://a:1/v1"], "watch": {"metrics_urls": ["http://a:2/m"]}},
            {1, 2},
            id="watch",
        ),
        pytest.param(
            {"backend": "openai", "urls": ["https://a/v1"], "proxy": "http://u:${P}@proxy:3128"},
            {443, 3128},
            id="proxy",
        ),
        pytest.param(
            {"backend": "openai", "urls": ["http://${HOST}/v1"]}, {80, 443, 8000, 8001}, id="only the environment knows"
        ),
        pytest.param({"backend": "openai", "urls": ["http://${HOST}:7000/v1"]}, {7000}, id="all but the host is known"),
        pytest.param({"backend": "simulated"}, set(), id="no upstream"),
    ],
)
def test_pods_may_reach_the_ports_of_their_upstreams_and_no_others(model: Values, ports: set[int]):
    values = {
        "config": {"models": {"one": model}, "routes": {"auto": {"models": ["one"]}}},
        "extraEnvFrom": [{"secretRef": {"name": "mine"}}],
    }
    assert egress_ports(values) == {53} | ports


def test_ports_may_be_said_and_a_collector_of_traces_is_reached():
    assert egress_ports({"config": CONFIG, "networkPolicy": {"upstreamPorts": [7000]}}) == {53, 7000}
    tracing = {"endpoint": "http://collector:4999/v1/traces"}
    assert egress_ports({"config": {**CONFIG, "tracing": tracing}}) == {53, 4999}
    by_environment = {"extraEnv": [{"name": "OTEL_EXPORTER_OTLP_ENDPOINT", "value": "http://collector:4318"}]}
    assert egress_ports({"config": CONFIG, **by_environment}) == {53, 4318}


def test_nobody_reaches_where_clouds_hand_out_credentials():
    model = {"backend": "openai", "urls": ["http://phi.models/v1"]}
    values = {"config": {"models": {"one": model}, "routes": {"auto": {"models": ["one"]}}}}
    rules = only(render(values), "NetworkPolicy", "blue-postern")["spec"]["egress"]
    blocks = [peer["ipBlock"] for rule in rules for peer in rule.get("to", []) if "ipBlock" in peer]
    assert blocks
    assert all("169.254.0.0/16" in one["except"] for one in blocks if one["cidr"] == "0.0.0.0/0")


def test_the_admin_port_is_for_monitoring_alone():
    rules = only(render({}), "NetworkPolicy", "blue-postern")["spec"]["ingress"]
    admin = [rule for rule in rules if any(one["port"] == "admin" for one in rule["ports"])]
    assert [rule["from"] for rule in admin] == [
        [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}]
    ]


def test_the_test_pod_may_ask_though_clients_are_named():
    values = {"networkPolicy": {"clients": [{"podSelector": {"matchLabels": {"app": "shop"}}}]}}
    rendered = render(values)
    peers = only(rendered, "NetworkPolicy", "blue-postern")["spec"]["ingress"][0]["from"]
    labels = only(rendered, "Pod", "-test")["metadata"]["labels"]
    assert any(one["podSelector"]["matchLabels"].items() <= labels.items() for one in peers)


def test_a_stream_through_ingress_nginx_is_neither_gathered_nor_cut():
    values = {**with_models(timeouts={"total_s": 900}), "ingress": {"enabled": True, "hosts": ["llm.example"]}}
    values["config"] = {**values["config"], "limits": {"max_body_bytes": 20_971_520}}
    found = only(render(values), "Ingress", "blue-postern")["metadata"]["annotations"]
    own = {name.rpartition("/")[2]: value for name, value in found.items()}
    assert (own["proxy-buffering"], own["proxy-read-timeout"], own["proxy-body-size"]) == ("off", "900", "20971520")


def test_secrets_are_told_to_kubernetes_only():
    values = {"secrets": {"KEY": "s3cret"}, **with_models(upstream_model="${KEY}")}
    rendered = render(values)
    assert only(rendered, "Secret", "-secrets")["data"] == {"KEY": base64.b64encode(b"s3cret").decode()}
    shown = json.dumps([one for one in rendered if one["kind"] != "Secret"])
    assert "s3cret" not in shown


def test_secrets_may_be_files_which_running_pods_see_rotated():
    key = "/etc/postern-secrets/slm/key"
    values = {**with_models(api_key=f"${{file:{key}}}"), "secretFiles": ["other", "slm"]}
    spec = pod(values)
    mounts = {one["mountPath"]: one for one in spec["containers"][0]["volumeMounts"]}
    found = mounts[str(Path(key).parent)]
    assert "subPath" not in found
    (volume,) = [one for one in spec["volumes"] if one["name"] == found["name"]]
    assert volume["secret"]["secretName"] == "slm"
    assert key in files(values)["postern.yaml"]


def test_the_check_before_an_installation_is_a_hook_with_the_same_files():
    values = {**value_sets()["keda"], "configCheck": {"enabled": True}, "serviceAccount": {"automount": True}}
    rendered = render(values)
    job = only(rendered, "Job", "-check")
    spec = job["spec"]["template"]["spec"]
    assert job["metadata"]["annotations"]["helm.sh/hook"] == "pre-install,pre-upgrade"
    assert "serviceAccountName" not in spec
    assert spec["automountServiceAccountToken"] is False
    hooked = only(rendered, "ConfigMap", "-check")
    assert hooked["data"] == files(values)
    assert hooked["metadata"]["annotations"]["helm.sh/hook-weight"] == "-1"


def test_images_come_by_tag_by_digest_or_from_a_mirror():
    digest = "sha256:" + "0" * 64
    assert container({})["image"] == "ghcr.io/postern/postern:0.1.0"
    assert container({"image": {"tag": "1.2"}})["image"] == "ghcr.io/postern/postern:1.2"
    assert container({"image": {"tag": "1.2", "digest": digest}})["image"] == f"ghcr.io/postern/postern@{digest}"
    assert container({"global": {"imageRegistry": "mirror.example"}})["image"].startswith("mirror.example/postern/")
    assert pod({"imagePullSecrets": ["a", {"name": "b"}]})["imagePullSecrets"] == [{"name": "a"}, {"name": "b"}]


def test_a_label_of_the_users_takes_no_selectors_place():
    values = {"commonLabels": {"team": "a", "app.kubernetes.io/name": "other"}, "podLabels": {"team": "b"}}
    spec = deployment(values)
    labels = spec["template"]["metadata"]["labels"]
    assert spec["selector"]["matchLabels"].items() <= labels.items()
    assert (labels["team"], labels["app.kubernetes.io/name"]) == ("b", "postern")


def test_pods_spread_by_themselves_and_as_they_are_told():
    assert [one["topologyKey"] for one in pod({})["topologySpreadConstraints"]] == [
        "topology.kubernetes.io/zone",
        "kubernetes.io/hostname",
    ]
    told = {"topologyKey": "rack", "maxSkew": 2, "whenUnsatisfiable": "DoNotSchedule"}
    (one,) = pod({"topologySpreadConstraints": [told]})["topologySpreadConstraints"]
    assert one.items() >= told.items()
    assert one["labelSelector"]["matchLabels"] == deployment({})["selector"]["matchLabels"]
    assert "topologySpreadConstraints" not in pod({"topologySpreadConstraints": []})


def test_dashboards_and_rules_are_the_files_themselves():
    on = {"metrics": {"dashboards": {"enabled": True}, "prometheusRule": {"enabled": True}}}
    rendered = render(on)
    boards = {
        name: text
        for one in rendered
        if one["kind"] == "ConfigMap" and "-dashboard-" in one["metadata"]["name"]
        for name, text in one["data"].items()
    }
    assert boards == {path.name: path.read_text() for path in (CHART / "files" / "dashboards").glob("*.json")}
    rules = [group for one in rendered if one["kind"] == "PrometheusRule" for group in one["spec"]["groups"]]
    assert boards
    assert rules
    paths = sorted((CHART / "files" / "rules").glob("*.yaml"))
    assert rules == [group for path in paths for group in yaml.safe_load(path.read_text())["groups"]]


def test_rules_may_be_left_out_and_added_and_go_where_the_operator_looks():
    own = {"name": "own", "rules": [{"record": "one", "expr": "1"}]}
    rule = {
        "enabled": True,
        "namespace": "monitoring",
        "exclude": ["alerts"],
        "extraGroups": [own],
        "labels": {"a": "b"},
    }
    boards = {"enabled": True, "namespace": "monitoring", "labels": {"board": "yes"}}
    rendered = render({"metrics": {"prometheusRule": rule, "dashboards": boards}})
    found = only(rendered, "PrometheusRule", "blue-postern")
    recording = yaml.safe_load((CHART / "files" / "rules" / "recording.yaml").read_text())["groups"]
    assert found["spec"]["groups"] == [*recording, own]
    assert (found["metadata"]["namespace"], found["metadata"]["labels"]["a"]) == ("monitoring", "b")
    money = only(rendered, "ConfigMap", "-dashboard-money")["metadata"]
    assert money["namespace"] == "monitoring"
    assert (money["labels"]["board"], money["labels"]["grafana_dashboard"]) == ("yes", "1")


def test_alerts_may_be_left_out_one_by_one_and_link_to_ones_own_runbooks():
    paths = sorted((CHART / "files" / "rules").glob("*.yaml"))
    names = {r.get("alert") for path in paths for g in yaml.safe_load(path.read_text())["groups"] for r in g["rules"]}
    unwanted = min(names - {None})
    rule = {"enabled": True, "excludeAlerts": [unwanted], "runbookBaseUrl": "https://wiki.example.org/postern/"}
    found = only(render({"metrics": {"prometheusRule": rule}}), "PrometheusRule", "blue-postern")
    rules = [rule for group in found["spec"]["groups"] for rule in group["rules"]]
    assert {rule.get("alert") for rule in rules} == names - {unwanted}
    urls = [rule["annotations"]["runbook_url"] for rule in rules if "alert" in rule]
    assert all(url.startswith("https://wiki.example.org/postern/") and "//" not in url[8:] for url in urls)


def test_of_a_budgets_two_bounds_the_one_that_is_set_stands():
    def spec(budget: Values) -> dict[str, Any]:
        found = only(render({"podDisruptionBudget": budget}), "PodDisruptionBudget", "blue-postern")["spec"]
        return {name: found[name] for name in ("minAvailable", "maxUnavailable") if name in found}

    assert spec({}) == {"maxUnavailable": 1}
    assert spec({"minAvailable": "50%"}) == {"minAvailable": "50%"}
    assert spec({"minAvailable": 0}) == {"minAvailable": 0}


def test_a_service_holds_what_its_type_may_have():
    given = {"nodePort": 30080, "loadBalancerClass": "nlb", "externalTrafficPolicy": "Local"}

    def spec(kind: str) -> dict[str, Any]:
        return only(render({"service": {**given, "type": kind}}), "Service", "blue-postern")["spec"]

    assert spec("LoadBalancer").items() >= {"loadBalancerClass": "nlb", "externalTrafficPolicy": "Local"}.items()
    assert spec("NodePort")["ports"][0]["nodePort"] == 30080
    assert "loadBalancerClass" not in spec("NodePort")
    assert not {"loadBalancerClass", "externalTrafficPolicy"} & set(spec("ClusterIP"))
    assert "nodePort" not in spec("ClusterIP")["ports"][0]


MOST_BYTES_OF_A_SECRET = 1_048_576
MOST_BYTES_OF_ANNOTATIONS = 262_144


def test_helms_record_of_a_release_fits_into_a_secret():
    values = value_sets()["production"]
    loaded = helm_python.Chart.load(CHART)
    parts = [loaded.files, loaded.templates, loaded.values, loaded.schema, render(values)]
    record = base64.b64encode(gzip.compress(json.dumps(parts).encode()))
    assert len(record) < MOST_BYTES_OF_A_SECRET / 2


def test_every_object_fits_into_the_annotation_that_kubectl_apply_keeps_of_it():
    for one in render(value_sets()["production"]):
        assert len(json.dumps(one)) < MOST_BYTES_OF_ANNOTATIONS, one["metadata"]["name"]


def test_two_installations_are_two_jobs():
    values = {
        "metrics": {"serviceMonitor": {"enabled": True, "relabelings": [{"targetLabel": "x", "replacement": "y"}]}}
    }
    endpoint = only(render(values), "ServiceMonitor", "blue-postern")["spec"]["endpoints"][0]
    assert [one["targetLabel"] for one in endpoint["relabelings"]] == ["job", "x"]
    assert endpoint["relabelings"][0]["replacement"] == "blue-postern"


def test_notes_tell_what_is_off():
    told = notes({})
    assert "two simulated ones make up every answer" in told
    assert "Nothing scrapes the metrics" in told
    whole = notes(value_sets()["production"])
    assert "authorization: Bearer" in whole
    assert "simulated" not in whole
    assert "Nothing scrapes" not in whole
    cut = notes({**with_models(timeouts={"total_s": 900}), "drain": {"streamSeconds": 60}})
    assert "small may take 900 s" in cut


def test_a_parent_chart_may_hold_it(tmp_path: Path):
    """With a condition, and with globals of its own, both of which Helm hands down."""
    helm.install()
    (tmp_path / "charts").mkdir()
    (tmp_path / "charts" / "postern").symlink_to(CHART)
    dependency = {"name": "postern", "version": "0.1.0", "condition": "postern.enabled"}
    parent = {"apiVersion": "v2", "name": "parent", "version": "0.1.0", "dependencies": [dependency]}
    (tmp_path / "Chart.yaml").write_text(yaml.safe_dump(parent))
    given = {"global": {"region": "eu", "imageRegistry": "mirror"}, "postern": {"enabled": True, "config": CONFIG}}
    (tmp_path / "values.yaml").write_text(yaml.safe_dump(given))
    command = [helm.HELM_3, "template", "blue", tmp_path, "--kube-version", "1.31"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert "mirror/postern/postern:0.1.0" in done.stdout


def test_every_value_is_set_by_some_example():
    def paths(values: Values, above: tuple[str, ...] = ()) -> set[tuple[str, ...]]:
        found = {(*above, name) for name in values}
        return found.union(*(paths(v, (*above, name)) for name, v in values.items() if isinstance(v, dict)))

    known = set(chart.read_descriptions((CHART / "values.yaml").read_text())) - {("enabled",)}  # a parent chart's
    given = set().union(*(paths(values) for values in value_sets().values()))
    assert {".".join(path) for path in known - given if path[0] not in ("redis", "triton")} == set()


def test_the_documents_are_up_to_date(capsys: pytest.CaptureFixture[str]):
    assert chart.main(["--check"]) == 0, capsys.readouterr().out
