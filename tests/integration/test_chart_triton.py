"""What the chart has Triton do, by a real Triton on the CPU: its arguments, its probes, how it goes, its queries."""

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest
import yaml
from openai import AsyncOpenAI

from deploy.triton.serve_cpu import CpuTriton, Options
from tests import helm
from tests.chart_pods import pods_of
from tests.prometheus import Prometheus, need_prometheus
from tests.running import RunningGateway
from tests.triton_server import need_triton

pytestmark = [need_triton, pytest.mark.xdist_group("chart-triton")]

SETS = helm.value_sets()
POD_UID = "0c1d7a5e-2b0e-4c53-9a55-7d3b6c8f9e10"
MODELS = ("ensemble", "llmapi", "vllm")
LONGER = '{"max_tokens": 100}'


def container_of(values, server):
    [pod] = [pod for pod in pods_of(helm.render(values)) if pod.name.endswith(f"-triton-{server}")]
    [container] = pod.spec["containers"]
    return container


def script(name):
    [config] = [one for one in helm.render(SETS["triton-cpu"]) if one["metadata"]["name"].endswith("-mock-scripts")]
    return config["data"][name]


class ChartTriton(CpuTriton):
    """Triton, started as the chart would: only what differs in a container stands beside the rendered arguments."""

    def __init__(self, container, models=MODELS) -> None:
        self.container = container
        super().__init__(Options(models=models))

    def _command(self) -> list[str]:
        ours = super()._command()
        kept = ("--backend", "--http-port", "--grpc-port", "--metrics-port", "--http-address", "--allow-gpu")
        placed = [
            arg.replace("=/repository", f"={self._folder / 'models'}").replace("$(POD_UID)", POD_UID)
            for arg in self.container["args"]
        ]
        assert placed.pop(0) == "tritonserver"
        return [ours[0], *placed, *(arg for arg in ours if arg.startswith(kept))]

    def run(self, command) -> int:
        """Run one of the container's commands, `python3 /opt/postern/NAME.py ...`, where Triton is."""
        interpreter, path, *arguments = command
        assert (interpreter, path.rpartition("/")[0]) == ("python3", "/opt/postern")
        text = script(path.rpartition("/")[2]).replace("127.0.0.1:8000", f"127.0.0.1:{self.http_port}")
        done = subprocess.run(
            [sys.executable, "-c", text, *arguments],
            env=os.environ | {"POD_UID": POD_UID},
            capture_output=True,
            timeout=60,
            check=False,
        )
        return done.returncode

    def ask(self, path, body=None, **headers) -> int:
        """Return the status of a page."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{self.http_port}{path}", data, headers)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status
        except urllib.error.HTTPError as refused:
            refused.close()
            return refused.code


@contextlib.contextmanager
def running(container, models=MODELS) -> Iterator[ChartTriton]:
    server = ChartTriton(container, models)
    try:
        server.start()
        yield server
    finally:
        server.close()


@pytest.fixture(scope="module")
def triton() -> Iterator[ChartTriton]:
    with running(container_of(SETS["triton-cpu"], "mock")) as server:
        yield server


def test_triton_takes_the_arguments_and_its_probes_succeed(triton):
    probes = [triton.container[f"{kind}Probe"] for kind in ("startup", "readiness")]
    assert [triton.run(probe["exec"]["command"]) for probe in probes] == [0, 0]
    assert triton.ask(triton.container["livenessProbe"]["httpGet"]["path"]) == 200


def test_a_pod_of_one_model_is_asked_by_one_page(triton):
    [single] = [
        container_of(SETS["triton-image"], "copied")[f"{kind}Probe"]["httpGet"]["path"] for kind in ("readiness",)
    ]
    assert triton.ask(single.replace("/copied/", "/vllm/")) == 200
    assert triton.ask(single) != 200


def test_ready_means_the_listed_models_whatever_else_is_unloaded(triton):
    told = {"postern-pod": POD_UID}
    command = triton.container["readinessProbe"]["exec"]["command"]
    assert triton.ask("/v2/repository/models/llmapi/unload", {}, **told) == 200
    try:
        until_s = time.monotonic() + 30
        while triton.run(command) == 0:
            assert time.monotonic() < until_s
        assert triton.run([word for word in command if word != "llmapi"]) == 0
    finally:
        assert triton.ask("/v2/repository/models/llmapi/load", {}, **told) == 200
    assert triton.run(command) == 0


@pytest.mark.parametrize("headers", [{}, {"postern-pod": "guessed"}])
@pytest.mark.parametrize(
    "path",
    ["/v2/repository/models/vllm/unload", "/v2/repository/models/vllm/load", "/v2/repository/index", "/v2/logging"],
)
def test_who_is_not_the_pod_itself_can_load_and_unload_nothing(triton, path, headers):
    assert triton.ask(path, {}, **headers) == 403
    assert triton.ask("/v2/models/vllm/ready") == 200


def test_the_same_holds_over_grpc(triton):
    grpcclient = pytest.importorskip("tritonclient.grpc")
    with grpcclient.InferenceServerClient(f"127.0.0.1:{triton.grpc_port}") as client:
        assert client.is_model_ready("vllm")
        assert client.get_model_metadata("vllm").name == "vllm"
        with pytest.raises(Exception, match=r"(?i)restricted|expecting header"):
            client.unload_model("vllm")


def test_a_pod_that_goes_answers_what_it_has_begun_and_takes_nothing_new():
    container = container_of(SETS["triton-cpu"], "mock")
    with running(container, ("vllm",)) as server:
        answered: list[str] = []
        has_begun = threading.Event()
        url = f"http://127.0.0.1:{server.http_port}/v2/models/vllm/generate_stream"
        body = {"text_input": "[[tokens=80 gap=0.1]]", "stream": True, "sampling_parameters": LONGER}

        def read() -> None:
            request = urllib.request.Request(url, json.dumps(body).encode())
            with urllib.request.urlopen(request, timeout=30) as stream:
                for line in stream:
                    if line.startswith(b"data:"):
                        answered.append(line.decode())
                        has_begun.set()

        reader = threading.Thread(target=read)
        reader.start()
        assert has_begun.wait(20)
        assert server.run(container["lifecycle"]["preStop"]["exec"]["command"]) == 0
        until_s = time.monotonic() + 20
        while server.ask("/v2/models/vllm/ready") == 200:
            assert time.monotonic() < until_s
        assert server.ask("/v2/models/vllm/generate", {"text_input": "[[tokens=1]]"}) != 200
        assert reader.is_alive()
        server.process.terminate()  # what the kubelet does once preStop has ended
        reader.join(30)
        assert len(answered) >= 80
        assert '"error"' not in "".join(answered)
        assert server.process.wait(20) is not None


def near(server: ChartTriton, values) -> dict:
    """Give the gateway's configuration that the chart renders, its pods' names replaced by where this Triton is."""
    [files] = [one["data"] for one in helm.render(values) if "postern.yaml" in one.get("data", {})]
    text = re.sub(
        r"grpc://blue-postern-triton-mock-0[^:]+:8001", f"grpc://127.0.0.1:{server.grpc_port}", files["postern.yaml"]
    )
    config = yaml.safe_load(text)
    for model in config["models"].values():
        model["watch"] = {"interval_s": 0.5, "metrics_urls": [f"http://127.0.0.1:{server.metrics_port}/metrics"]}
    del config["server"]
    return config


async def test_the_gateway_of_the_chart_serves_the_models_of_the_charts_triton_until_it_goes(tmp_path):
    values = SETS["triton-cpu"]
    container = container_of(values, "mock")
    with running(container) as server:
        (tmp_path / "chat.jinja").write_text(values["configFiles"]["chat.jinja"])
        async with RunningGateway(near(server, values), tmp_path) as gateway:
            async with AsyncOpenAI(base_url=gateway.url, api_key="none", max_retries=0) as client:
                for model in MODELS:
                    messages = [{"role": "user", "content": "[[tokens=3]]"}]
                    answer = await client.chat.completions.create(model=model, messages=messages, max_tokens=10)
                    assert answer.choices[0].message.content
            assert server.run(container["lifecycle"]["preStop"]["exec"]["command"]) == 0
            for model in MODELS:
                await gateway.wait_for("replica_not_ready", 30, model=model)


def test_a_pod_that_is_killed_before_it_is_ready_goes_all_the_same(triton):
    assert triton.run(["python3", "/opt/postern/drain.py", "nothing"]) == 0


def test_triton_reads_a_repository_that_stands_in_the_values(tmp_path):
    # The mocked model's files in a ConfigMap, laid out as the kubelet mounts its folders.
    server = ChartTriton(container_of(SETS["triton-cpu"], "mock"), ("vllm",))
    try:
        folder = server._folder / "models" / "vllm"
        files = {
            str(path.relative_to(folder.parent)): path.read_text()
            for path in sorted(folder.rglob("*"), key=str)
            if path.is_file()
        } | {f"vllm/1/mock/{path.name}": path.read_text() for path in (folder / "1" / "mock").glob("*.py")}
        told = {"models": {"vllm": {"dialect": "vllm"}}, "repository": {"files": files}, "gpu": {"count": 0}}
        values = {
            "config": {"models": {}, "routes": {"auto": {"models": ["vllm"]}}},
            "triton": {"servers": {"mock": told}},
        }
        resources = helm.render(values)
        [config] = [one for one in resources if one["metadata"]["name"].endswith("-mock-models")]
        server.container = container_of(values, "mock")
        for model in (server._folder / "models").iterdir():
            shutil.rmtree(model)
        [pod] = [pod for pod in pods_of(resources) if pod.name.endswith("-triton-mock")]
        [volume] = [one for one in pod.spec["volumes"] if one["name"] == "repository"]
        for item in volume["configMap"]["items"]:
            path = tmp_path / item["path"]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(config["data"][item["key"]])
        for mount in server.container["volumeMounts"]:
            if mount["name"] == "repository":
                target = mount["mountPath"].replace("/repository", str(server._folder / "models"))
                shutil.copytree(tmp_path / mount["subPath"], target)
        server.start()
        assert server.ask("/v2/models/vllm/generate", {"text_input": "[[tokens=2]] Hello", "stream": False}) == 200
    finally:
        server.close()


def queries():
    values = SETS["triton-vllm"]
    [scaled] = [one for one in helm.render(values) if one["kind"] == "ScaledObject"]
    return {trigger["name"]: trigger["metadata"]["query"] for trigger in scaled["spec"]["triggers"]}


@pytest.fixture
def prometheus(triton, tmp_path) -> Iterator[Prometheus]:
    """Start a Prometheus that scrapes Triton as the ServiceMonitor would have it."""
    labels = {"namespace": "team-a", "service": "blue-postern-triton-llama"}
    page = f"http://127.0.0.1:{triton.metrics_port}/metrics"
    with Prometheus(tmp_path, {"triton": [page]}, labels=labels) as started:
        yield started


def value_of(prometheus, query) -> float:
    [number] = prometheus.numbers(query)
    return number


@need_prometheus
def test_what_scales_triton_are_numbers_while_it_works_and_while_it_rests(triton, prometheus):
    def ask() -> None:
        triton.ask("/v2/models/llmapi/generate", {"text_input": "[[tokens=3 gap=0.05]]", "stream": False})

    assert {name: value_of(prometheus, query) for name, query in queries().items()} == {"queue": 0, "waiting": 0}
    until_s = time.monotonic() + 30
    while value_of(prometheus, queries()["queue"]) == 0:
        assert time.monotonic() < until_s, "no request was seen to have waited"
        askers = [threading.Thread(target=ask) for _ in range(8)]
        for asker in askers:
            asker.start()
        for asker in askers:
            asker.join()
        time.sleep(0.5)
    assert 0 < value_of(prometheus, queries()["queue"]) < 60_000
    assert value_of(prometheus, queries()["waiting"]) >= 0


@need_prometheus
def test_an_engines_own_queue_counts(prometheus):
    # A Triton on the CPU has no vLLM: its gauge is put in the place of one that there is.
    query = queries()["waiting"].replace("vllm:num_requests_waiting", "up")
    until_s = time.monotonic() + 20
    while value_of(prometheus, query) != 1:
        assert time.monotonic() < until_s
        time.sleep(0.2)
