"""deploy/compose.yaml: sound by its specification, closed where it should be, and connected when it runs."""

import json
import os
import re
import shutil
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import jsonschema
import pytest
import yaml

from tests.namespaces import ROOT, find_problem, run_isolated
from tests.triton_server import need_triton

FILE = ROOT / "deploy" / "compose.yaml"
FOLDER = FILE.parent
SPECIFICATION = files("check_jsonschema") / "builtin_schemas" / "vendor" / "compose-spec.json"
VARIABLE = re.compile(r"\$\{(?P<name>\w+)(:-(?P<default>[^}]*))?\}")
PROFILES = ("simulated", "ollama")


def read(environ):
    """Return the file as compose reads it: variables filled in, anchors resolved."""
    text = VARIABLE.sub(lambda found: environ.get(found["name"]) or found["default"] or "", FILE.read_text())
    return yaml.safe_load(text)


COMPOSE = read({})
SERVICES = COMPOSE["services"]
OLLAMA = read({"COMPOSE_PROFILES": "ollama"})["services"]
each_service = pytest.mark.parametrize("name", SERVICES)


def mounts(service):
    """Return the folders and files that a service is given: source, target, and how."""
    parts = [one.split(":") for one in service.get("volumes", [])]
    return [(FOLDER / source, target, rest) for source, target, *rest in parts if source.startswith(".")]


def test_it_is_sound_by_the_compose_specification():
    jsonschema.Draft202012Validator(json.loads(SPECIFICATION.read_text())).validate(COMPOSE)


def test_what_the_specification_does_not_know_would_be_found():
    broken = read({})
    broken["services"]["gateway"]["read_onyl"] = True
    with pytest.raises(jsonschema.ValidationError, match="read_onyl"):
        jsonschema.Draft202012Validator(json.loads(SPECIFICATION.read_text())).validate(broken)


@each_service
def test_every_service_is_read_only_without_rights_and_bounded(name):
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not service.keys() & {"privileged", "cap_add", "network_mode", "pid", "ipc", "devices"}
    assert service["deploy"]["resources"]["limits"].keys() == {"cpus", "memory", "pids"}
    assert service["logging"]["options"]["max-size"]


@each_service
def test_every_port_is_on_loopback_alone(name):
    assert all(re.fullmatch(r"127\.0\.0\.1:(\d+):\1", port) for port in SERVICES[name].get("ports", []))


def test_the_admin_port_is_not_published():
    assert SERVICES["gateway"]["ports"] == ["127.0.0.1:8080:8080"]


@each_service
def test_everything_mounted_is_there_and_only_volumes_are_written(name):
    for source, _, how in mounts(SERVICES[name]):
        assert source.resolve().exists(), source
        assert how == ["ro"]
    named = [one.split(":")[0] for one in SERVICES[name].get("volumes", []) if not one.startswith(".")]
    assert set(named) <= COMPOSE["volumes"].keys()


@each_service
def test_whoever_is_waited_for_exists_and_says_when_it_is_ready(name):
    for other, how in SERVICES[name].get("depends_on", {}).items():
        if how["condition"] == "service_healthy":
            assert SERVICES[other]["healthcheck"]["test"][0] == "CMD"
        if "profiles" in SERVICES[other] and "profiles" not in SERVICES[name]:
            assert how["required"] is False


@each_service
def test_images_are_pinned_to_a_version_or_built_here(name):
    service = SERVICES[name]
    if "build" in service:
        context = (FOLDER / service["build"]["context"]).resolve()
        assert context == ROOT
        assert (context / service["build"]["dockerfile"]).is_file()
    else:
        assert re.search(r":v?\d+\.\d+", service["image"])


def test_no_service_says_a_password_or_logs_anyone_in_by_the_usual_one():
    assert not re.search(r"(?i)password\s*:", FILE.read_text())
    assert SERVICES["grafana"]["environment"]["GF_AUTH_DISABLE_LOGIN_FORM"] == "true"
    assert SERVICES["grafana"]["environment"]["GF_AUTH_BASIC_ENABLED"] == "false"
    assert SERVICES["grafana"]["environment"]["GF_AUTH_ANONYMOUS_ORG_ROLE"] == "Viewer"


def test_what_only_the_gateway_talks_to_has_no_way_out():
    assert COMPOSE["networks"]["backends"]["internal"] is True
    assert {name for name, one in SERVICES.items() if one.get("networks") == ["backends"]} == {"redis", "triton"}


def test_the_profile_chooses_the_configuration_and_its_model():
    assert SERVICES["gateway"]["environment"]["POSTERN_CONFIG"].endswith("/simulated.yaml")
    assert OLLAMA["gateway"]["environment"]["POSTERN_CONFIG"].endswith("/ollama.yaml")
    assert OLLAMA["gateway"]["environment"]["OLLAMA_MODEL"] == OLLAMA["ollama-pull"]["entrypoint"][-1]


@pytest.mark.parametrize("name", PROFILES)
def test_every_configuration_of_the_gateway_is_sound_and_names_only_services(name):
    path = FOLDER / "compose" / f"{name}.yaml"
    environ = os.environ | {"OLLAMA_MODEL": "any"}
    command = [sys.executable, "-m", "gateway", "check-config", path]
    done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("auto: small < large")
    hosts = set(re.findall(r"\w+://([\w.-]+):\d+", path.read_text()))
    assert hosts <= SERVICES.keys()


@pytest.mark.parametrize("name", PROFILES)
def test_the_gateway_finds_its_configuration_where_it_is_mounted(name):
    given = SERVICES["gateway"] if name == "simulated" else OLLAMA["gateway"]
    config = Path(given["environment"]["POSTERN_CONFIG"])
    folders = {Path(target): source for source, target, _ in mounts(given)}
    assert (folders[config.parent] / config.name).is_file()
    # Relative to the configuration, a template must be at the same place inside as it is here.
    for template in re.findall(r"chat_template: (\S+)", (folders[config.parent] / config.name).read_text()):
        inside = Path(os.path.normpath(config.parent / template))
        assert any(
            (source / inside.relative_to(target)).is_file()
            for target, source in folders.items()
            if inside.is_relative_to(target)
        )


def lay_out_prometheus(folder):
    """Copy what the Prometheus container is given to where it would see it, below `folder`."""
    for source, target, _ in mounts(SERVICES["prometheus"]):
        place = folder / target.removeprefix("/etc/prometheus/")
        shutil.copytree(source, place) if source.is_dir() else shutil.copy(source, place)
    return folder / "prometheus.yml"


@pytest.mark.skipif(shutil.which("promtool") is None, reason="apt-get install prometheus")
def test_prometheus_takes_its_configuration_and_finds_the_rules(tmp_path):
    config = lay_out_prometheus(tmp_path)
    done = subprocess.run(["promtool", "check", "config", config], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"[1-9]\d* rules found", done.stdout)
    asked = yaml.safe_load(config.read_text())
    hosts = {
        target.split(":")[0]
        for job in asked["scrape_configs"]
        for one in job["static_configs"]
        for target in one["targets"]
    }
    assert hosts - {"127.0.0.1"} <= SERVICES.keys()


def test_grafana_is_given_its_source_and_dashboards():
    folders = {target: source for source, target, _ in mounts(SERVICES["grafana"])}
    provisioning = folders["/etc/grafana/provisioning"]
    source = yaml.safe_load((provisioning / "datasources/prometheus.yaml").read_text())["datasources"][0]
    assert (source["type"], source["url"], source["isDefault"]) == ("prometheus", "http://prometheus:9090", True)
    provider = yaml.safe_load((provisioning / "dashboards/postern.yaml").read_text())["providers"][0]
    dashboards = folders[provider["options"]["path"]]
    found = [json.loads(path.read_text()) for path in dashboards.glob("*.json")]
    assert len({one["uid"] for one in found}) == len(found) > 0
    home = Path(SERVICES["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"])
    assert (folders[str(home.parent)] / home.name).is_file()


problem = find_problem("redis-server", "redis-cli", "prometheus")


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """Start it all without containers, and look."""
    provisioned = FOLDER / "grafana/provisioning/datasources/prometheus.yaml"
    config = f"{FOLDER}/compose/{Path(SERVICES['gateway']['environment']['POSTERN_CONFIG']).name}"
    told = {
        "folder": str(tmp_path_factory.mktemp("composed")),
        "services": {name: {"command": one.get("command")} for name, one in SERVICES.items()},
        "prometheus_files": [(str(source.resolve()), target) for source, target, _ in mounts(SERVICES["prometheus"])],
        "gateway_environ": SERVICES["gateway"]["environment"] | {"POSTERN_CONFIG": config},
        "grafana_source": yaml.safe_load(provisioned.read_text())["datasources"][0]["url"],
    }
    return run_isolated("tests.composed", told, 180)


@pytest.mark.timeout(240)
@pytest.mark.skipif(problem is not None, reason=problem or "")
@pytest.mark.xdist_group("triton")
@need_triton
class TestRunning:
    def test_the_simulated_model_answers_what_is_easy_and_triton_what_is_hard(self, ran):
        easy, hard = ran["easy"], ran["hard"]
        assert (easy["status"], easy["headers"]["x-postern-model"], easy["headers"]["x-postern-cache"]) == (
            200,
            "small",
            "miss",
        )
        assert (hard["status"], hard["headers"]["x-postern-model"], hard["headers"]["x-postern-tier"]) == (
            200,
            "large",
            "strong",
        )
        assert json.loads(hard["body"])["usage"]["completion_tokens"] == 8

    def test_what_was_asked_before_comes_out_of_redis(self, ran):
        assert ran["again"]["headers"]["x-postern-cache"] == "hit"
        assert ran["keys"] >= 2

    def test_prometheus_reaches_every_target(self, ran):
        assert {job for job, *_ in ran["targets"].values()} == {"postern", "triton", "prometheus"}
        assert [one for one in ran["targets"].values() if one[1:] != ["up", ""]] == []

    def test_prometheus_has_counted_both_tiers_and_evaluates_every_rule(self, ran):
        assert {one["metric"]["tier"] for one in ran["counted"]} >= {"weak", "strong"}
        assert [one for one in ran["rules"] if one[1:] != ["ok", ""]] == []
        assert len(ran["rules"]) > 10

    def test_grafana_s_source_answers(self, ran):
        assert len(json.loads(ran["source"]["body"])["data"]["result"]) == 3

    def test_the_gateway_has_nothing_to_complain_of(self, ran):
        assert not re.search(r'"level":"(warning|error)"', ran["log"])
