"""Redis of the chart's own, started for real by what is rendered, and the urls of Redis elsewhere."""

import base64
import http.server
import json
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import helm_python
import pytest
import redis
import yaml
from click.testing import CliRunner

from gateway.commands import main
from gateway.stores.address import read_address
from tests import helm
from tests.chart_pods import pods_of
from tests.integration.redis_server import free_port, need_redis

PASSWORD = "made-up_of.what~urls_hold-0"
EXTERNAL = {"mode": "external"}


def config_of(values):
    [text] = [one["data"]["postern.yaml"] for one in helm.render(values) if "postern.yaml" in one.get("data", {})]
    return yaml.safe_load(text)


def gateway_of(values):
    [pod] = [pod for pod in pods_of(helm.render(values)) if pod.name == "Deployment/blue-postern"]
    return pod


def container_of(values):
    [pod] = [pod for pod in pods_of(helm.render(values)) if pod.name == "Deployment/blue-postern-redis"]
    return pod.spec["containers"][0]


class ChartRedis:
    """The container's own command and probes, its folders in one of the test's."""

    def __init__(self, folder: Path, values) -> None:
        self.port = free_port()
        self.container = container_of(values)
        [config] = [one["data"] for one in helm.render(values) if "redis.conf" in one.get("data", {})]
        (folder / "data").mkdir()
        text = config["redis.conf"].replace("port 6379", f"port {self.port}").replace("/data", str(folder / "data"))
        (folder / "redis.conf").write_text(text)
        shell, flag, script = self.container["command"]
        self.process = subprocess.Popen(
            [shell, flag, script.replace("/etc/redis/redis.conf", str(folder / "redis.conf"))],
            env=os.environ | {"REDISCLI_AUTH": PASSWORD},
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )

    def probe(self, kind="readinessProbe", password=PASSWORD) -> int:
        shell, flag, script = self.container[kind]["exec"]["command"]
        script = script.replace("redis-cli ", f"redis-cli -p {self.port} ")
        done = subprocess.run(
            [shell, flag, script], env=os.environ | {"REDISCLI_AUTH": password}, capture_output=True, check=False
        )
        return done.returncode

    def client(self, **options) -> redis.Redis:
        return redis.Redis(port=self.port, password=PASSWORD, decode_responses=True, **options)


@pytest.fixture
def start(tmp_path) -> Iterator:
    started = []

    def run(values) -> ChartRedis:
        folder = tmp_path / str(len(started))
        folder.mkdir()
        server = ChartRedis(folder, values)
        started.append(server)
        until_s = time.monotonic() + 10
        while server.probe():
            assert time.monotonic() < until_s
            assert server.process.poll() is None
            time.sleep(0.05)
        return server

    yield run
    for server in started:
        # All of them: a shell that stays would leave its Redis behind.
        os.killpg(server.process.pid, signal.SIGTERM)
        server.process.wait(10)


@need_redis
def test_redis_takes_the_configuration_and_the_password_and_shows_it_to_no_one(start):
    values = {"redis": {"mode": "internal", "internal": {"resources": {"limits": {"memory": "512Mi"}}}}}
    server = start(values)
    assert server.probe("startupProbe") == 0
    assert server.probe(password="another") != 0
    with pytest.raises(redis.AuthenticationError):
        redis.Redis(port=server.port).ping()
    with server.client() as client:
        told = {key: client.config_get(key)[key] for key in ("maxmemory", "maxmemory-policy", "save", "appendonly")}
    assert told == {
        "maxmemory": str(512 * 1024 * 1024 * 3 // 4),
        "maxmemory-policy": "allkeys-lfu",
        "save": "",
        "appendonly": "no",
    }
    assert PASSWORD not in Path(f"/proc/{server.process.pid}/cmdline").read_text()
    # It is what the container starts itself: a signal reaches it and no shell.
    assert Path(f"/proc/{server.process.pid}/comm").read_text().strip() == "redis-server"


@need_redis
def test_redis_with_persistence_writes_its_file_and_reads_it_again(start, tmp_path):
    values = {"redis": {"mode": "internal", "internal": {"persistence": {"enabled": True}, "extraConfig": "hz 20"}}}
    server = start(values)
    with server.client() as client:
        client.set("kept", "yes")
        assert client.config_get("maxmemory")["maxmemory"] == str(256 * 1024 * 1024 // 2)
        assert client.config_get("hz")["hz"] == "20"
    assert shutil.which("redis-server")
    assert list((tmp_path / "0" / "data").rglob("*.aof"))


@pytest.mark.parametrize(
    ("limit", "percent", "maxmemory"),
    [("1Gi", None, 805306368), ("1.5Gi", None, 1207959552), ("2G", 50, 1000000000), ("100000k", 10, 10000000)],
)
def test_maxmemory_follows_the_limit(limit, percent, maxmemory):
    told = {"resources": {"limits": {"memory": limit}}, "maxmemoryPercent": percent}
    resources = helm.render({"redis": {"mode": "internal", "internal": told}})
    [text] = [one["data"]["redis.conf"] for one in resources if "redis.conf" in one.get("data", {})]
    assert f"maxmemory {maxmemory}\n" in text


def test_the_gateway_reaches_it_by_its_service_and_its_password():
    values = {"redis": {"mode": "internal"}}
    url = config_of(values)["redis"]["url"]
    address = read_address(url.replace("${POSTERN_REDIS_PASSWORD}", PASSWORD))
    [service] = [
        one["metadata"]["name"]
        for one in helm.render(values)
        if one["kind"] == "Service" and one["spec"]["ports"][0]["name"] == "redis"
    ]
    assert (address.host, address.port, address.password.reveal()) == (service, 6379, PASSWORD)
    [variable] = [
        one for one in gateway_of(values).spec["containers"][0]["env"] if one["name"] == "POSTERN_REDIS_PASSWORD"
    ]
    asked = [one["valueFrom"]["secretKeyRef"] for one in (variable, container_of(values)["env"][0])]
    assert asked[0] == asked[1] == {"name": "blue-postern-redis", "key": "password"}


@pytest.mark.parametrize(
    ("secret", "told"),
    [
        ("redis://user:p%40ss@redis.example.com:6379/3", {}),
        ("rediss://:secret@redis.example.com:6380/0", {}),
        ("rediss://:secret@redis.example.com:6380/0", {"ca": {"existingSecret": "ca"}}),
        ("rediss://:secret@redis.example.com:6380/0", {"options": {"ssl_check_hostname": "false"}}),
        ("redis+sentinel://:secret@one:26379,two:26379/mymaster/0", {}),
        ("redis+cluster://:secret@one:6379", {}),
    ],
)
def test_the_gateway_takes_every_kind_of_url_from_a_secret(secret, told, tmp_path):
    config = config_of({"redis": EXTERNAL | {"external": {"existingSecret": "redis"} | told}})
    assert "secret" not in str(config["redis"])
    (tmp_path / "postern.yaml").write_text(yaml.safe_dump(config))
    command = ["check-config", str(tmp_path / "postern.yaml")]
    done = CliRunner().invoke(main, command, env={"POSTERN_REDIS_URL": secret})
    assert done.exit_code == 0, done.output


def test_certificates_are_where_the_url_says():
    told = {"existingSecret": "redis", "ca": {"existingSecret": "ca", "key": "root.pem"}}
    values = {"redis": EXTERNAL | {"external": told | {"clientCertificate": {"existingSecret": "mine"}}}}
    url = config_of(values)["redis"]["url"]
    pod = gateway_of(values)
    [volume] = [one for one in pod.spec["volumes"] if one["name"] == "redis-certificates"]
    [mount] = [one for one in pod.spec["containers"][0]["volumeMounts"] if one["name"] == "redis-certificates"]
    files = {
        f"{mount['mountPath']}/{item['path']}"
        for source in volume["projected"]["sources"]
        for item in source["secret"]["items"]
    }
    assert files == {part.partition("=")[2] for part in url.partition("?")[2].split("&")}


@pytest.mark.parametrize(
    ("told", "why"),
    [
        ({}, "Name a Secret that holds the url in existingSecret"),
        ({"url": "redis://one:6379", "existingSecret": "redis"}, "leave one of them empty"),
        ({"url": "redis://:secret@one:6379"}, "put the url into a Secret"),
        ({"url": "redis+cluster://one:6379", "ca": {"existingSecret": "ca"}}, "no TLS to sentinels and clusters yet"),
        ({"existingSecret": "a", "ca": {"existingSecret": "a", "existingConfigMap": "b"}}, "redis.external.ca"),
        ({"url": "http://one:6379"}, "url"),
        ({"urls": []}, "urls"),
    ],
)
@pytest.mark.parametrize("by_helm", [3, 4])
def test_what_can_be_no_redis_is_refused(told, why, by_helm):
    assert why in helm.refusal({"redis": EXTERNAL | {"external": told}}, by_helm)


@pytest.mark.parametrize(
    ("told", "why"),
    [
        ({"auth": {"password": "a b"}}, "password"),
        ({"auth": {"password": "a", "existingSecret": "b"}}, "leave one of them empty"),
        ({"image": {"tag": "latest"}}, "tag"),
        ({"resources": {"limits": None}}, "maxmemory is reckoned from it"),
        ({"resources": {"limits": {"memory": "lots"}}}, "is no quantity of memory"),
        ({"maxmemoryPercent": 100}, "maxmemoryPercent"),
    ],
)
def test_a_redis_that_would_not_do_is_refused(told, why):
    assert why in helm.refusal({"redis": {"mode": "internal", "internal": told}})


class Cluster(http.server.BaseHTTPRequestHandler):
    """What Helm asks an API server while it renders: which kinds there are, and one Secret."""

    secrets: dict[str, dict[str, str]]

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        name = path.rpartition("/")[2]
        kinds = [{"name": "secrets", "namespaced": True, "kind": "Secret", "verbs": ["get"]}]
        known = {
            "/version": {"major": "1", "minor": "37", "gitVersion": "v1.37.0"},
            "/api": {"kind": "APIVersions", "versions": ["v1"]},
            "/apis": {"kind": "APIGroupList", "apiVersion": "v1", "groups": []},
            "/api/v1": {"kind": "APIResourceList", "groupVersion": "v1", "resources": kinds},
        }
        if path == f"/api/v1/namespaces/team-a/secrets/{name}" and name in self.secrets:
            known[path] = {"apiVersion": "v1", "kind": "Secret", "data": self.secrets[name]}
        missing = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404}
        body = json.dumps(known.get(path, missing)).encode()
        self.send_response(200 if path in known else 404)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def password_in(secrets: dict[str, dict[str, str]]) -> str:
    """Return the password that the chart renders where the cluster holds these Secrets."""
    handler = type("Holding", (Cluster,), {"secrets": secrets})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        with (
            helm_python.Config(namespace="team-a", kube_apiserver=f"http://127.0.0.1:{server.server_port}") as config,
            helm_python.Chart.load(helm.CHART) as chart,
        ):
            rendered = config.render(chart, {"redis": {"mode": "internal"}}, name="blue", namespace="team-a")
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    [text] = [text for path, text in rendered.items() if path.endswith("templates/redis/secret.yaml")]
    return base64.b64decode(yaml.safe_load(text)["data"]["password"]).decode()


def test_a_password_that_was_made_up_is_kept_over_upgrades():
    first = password_in({})
    assert len(first) == 32
    assert first.isalnum()
    assert password_in({}) != first
    assert password_in({"blue-postern-redis": {"password": base64.b64encode(first.encode()).decode()}}) == first


def test_a_password_that_was_made_up_rolls_no_gateway():
    # Renderers without a cluster make up another each time; gateways had better not restart with each of them.
    values = {"redis": {"mode": "internal"}}
    assert gateway_of(values).annotations == gateway_of(values | {"commonLabels": {"x": "y"}}).annotations
