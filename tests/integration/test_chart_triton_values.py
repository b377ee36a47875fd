"""What the values of `triton` make: the gateway's models, GPUs, memory, volumes, and what is refused."""

import copy

import pytest
import yaml

from tests import helm
from tests.chart_pods import pods_of
from tests.chart_wiring import Rendered, wiring_faults

SETS = helm.value_sets()
ONE = {"models": {"llama": {"dialect": "vllm"}}, "repository": {"url": "s3://models/all"}}
LONGEST_RELEASE = "a-release-whose-name-has-all-the-fifty-three-lettersx"
ROUTES = {"auto": {"models": ["llama"]}}


def values_of(**told):
    return {"config": {"models": {}, "routes": ROUTES}, "triton": {"servers": {"llama": ONE | told}}}


def only(resources, kind):
    [found] = [
        one
        for one in resources
        if one["kind"] == kind and one["metadata"]["labels"]["app.kubernetes.io/component"].startswith("triton-")
    ]
    return found


def pod_of(values, name="llama"):
    [pod] = [pod for pod in pods_of(helm.render(values)) if pod.name.endswith(f"-triton-{name}")]
    return pod


def config_of(values, **changes):
    resources = helm.render(values, **changes)
    [text] = [one["data"]["postern.yaml"] for one in resources if "postern.yaml" in one.get("data", {})]
    return yaml.safe_load(text)


def notes_of(values):
    return " ".join(helm.notes(values).split())  # as they are wrapped


@pytest.mark.parametrize("release", ["blue", LONGEST_RELEASE])
def test_the_gateway_asks_every_pod_by_its_own_name(release):
    values = values_of(replicas=3)
    resources = helm.render(values, release=release)
    workload, service = only(resources, "StatefulSet"), only(resources, "Service")
    assert workload["spec"]["serviceName"] == service["metadata"]["name"]
    assert service["spec"]["clusterIP"] == "None"
    name = workload["metadata"]["name"]
    assert config_of(values, release=release)["models"]["llama"] == {
        "backend": "triton",
        "urls": [f"grpc://{name}-{pod}.{name}.team-a.svc.cluster.local:8001" for pod in range(3)],
        "triton": {"dialect": "vllm", "model": "llama"},
    }


def test_pods_that_autoscaling_may_bring_are_known_already():
    scaled = {"kind": "keda", "maxReplicas": 5, "serverAddress": "http://prometheus:9090"}
    values = values_of(autoscaling=scaled)
    assert len(config_of(values)["models"]["llama"]["urls"]) == 5
    assert "replicas" not in only(helm.render(values), "StatefulSet")["spec"]


def test_what_the_configuration_says_itself_wins_and_the_rest_is_filled_in():
    values = values_of()
    values["config"]["models"] = {
        "llama": {"price": {"input": 1}, "triton": {"lora": "poet"}, "urls": ["grpc://own:8001"]}
    }
    found = config_of(values)["models"]["llama"]
    assert found["urls"] == ["grpc://own:8001"]
    assert found["triton"] == {"dialect": "vllm", "model": "llama", "lora": "poet"}
    assert found["price"] == {"input": 1}


def test_models_without_a_dialect_are_loaded_and_waited_for_but_no_models_of_the_gateways():
    config = config_of(SETS["triton-trtllm"])
    assert set(config["models"]) == {"large", "small"}
    pod = pod_of(SETS["triton-trtllm"], "large")
    loaded = {arg.partition("=")[2] for arg in pod.spec["containers"][0]["args"] if arg.startswith("--load-model")}
    assert loaded == {"ensemble", "preprocessing", "tensorrt_llm", "postprocessing"}
    assert set(pod.spec["containers"][0]["readinessProbe"]["exec"]["command"][2:]) == loaded


@pytest.mark.parametrize("resource", ["nvidia.com/gpu", "nvidia.com/mig-3g.40gb"])
def test_gpus_are_limits_and_requests_alike(resource):
    resources = pod_of(values_of(gpu={"resource": resource, "count": 2})).spec["containers"][0]["resources"]
    assert (resources["limits"][resource], resources["requests"][resource]) == (2, 2)


def test_no_gpu_is_asked_for_where_there_is_none():
    resources = pod_of(SETS["triton-cpu"], "mock").spec["containers"][0]["resources"]
    assert not [key for part in resources.values() for key in part if "/" in key]


def test_shared_memory_is_memory_of_a_size_within_the_limit():
    pod = pod_of(values_of(sharedMemory="8Gi"))
    [volume] = [one for one in pod.spec["volumes"] if one["name"] == "shm"]
    assert volume["emptyDir"] == {"medium": "Memory", "sizeLimit": "8Gi"}
    [mount] = [one for one in pod.spec["containers"][0]["volumeMounts"] if one["name"] == "shm"]
    assert mount["mountPath"] == "/dev/shm"
    assert not [one for one in pod_of(values_of(sharedMemory=None)).spec["volumes"] if one["name"] == "shm"]


def test_models_may_load_as_long_as_they_are_given_and_a_pod_ends_in_its_grace():
    [container] = pod_of(values_of(startupSeconds=3600, terminationGracePeriodSeconds=120)).spec["containers"]
    probe = container["startupProbe"]
    assert probe["periodSeconds"] * probe["failureThreshold"] == 3600
    assert "--exit-timeout-secs=105" in container["args"]


def test_triton_lets_in_the_gateway_and_prometheus_and_no_one_else():
    rules = only(helm.render(values_of()), "NetworkPolicy")["spec"]["ingress"]
    asked = [(sorted(port["port"] for port in rule["ports"]), list(rule["from"][0])) for rule in rules]
    assert asked == [(["grpc", "http", "metrics"], ["podSelector"]), (["metrics"], ["namespaceSelector"])]
    assert rules[0]["from"][0]["podSelector"]["matchLabels"]["app.kubernetes.io/component"] == "gateway"


def test_an_empty_server_takes_nothing_from_another():
    values = values_of()
    values["triton"]["defaults"] = {"repository": {"url": "gs://elsewhere/all"}, "nodeSelector": {"pool": "gpu"}}
    values["triton"]["servers"]["other"] = {
        "models": {"other": {"dialect": "llmapi"}},
        "nodeSelector": {"disk": "fast"},
    }
    assert pod_of(values).spec["nodeSelector"] == {"pool": "gpu"}
    assert pod_of(values, "other").spec["nodeSelector"] == {"pool": "gpu", "disk": "fast"}
    assert "--model-repository=gs://elsewhere/all" in pod_of(values, "other").spec["containers"][0]["args"]
    assert "--model-repository=s3://models/all" in pod_of(values).spec["containers"][0]["args"]


def test_servers_of_long_names_stay_apart():
    values = values_of()
    names = ["a-server-of-20-lette", "a-server-of-20-letts"]
    values["triton"]["servers"] = {
        name: ONE | {"models": {f"model-{number}": {"dialect": "vllm"}}} for number, name in enumerate(names)
    }
    values["config"]["routes"] = {"auto": {"models": ["model-0", "model-1"]}}
    resources = helm.render(values, release=LONGEST_RELEASE)
    assert wiring_faults(Rendered(resources, values, "team-a")) == []


@pytest.mark.parametrize("by_helm", [3, 4])
@pytest.mark.parametrize(
    ("told", "why"),
    [
        ({"models": {}}, "models: is empty"),
        ({"repository": {"url": ""}}, "repository: where is it?"),
        ({"repository": {"url": "s3://a/b", "files": {"llama/config.pbtxt": ""}}}, "files and url name two"),
        ({"repository": {"url": "", "files": {"config.pbtxt": ""}}}, "write it as MODEL/config.pbtxt"),
        ({"sharedMemory": "32Gi"}, "leaves nothing of it"),
        ({"autoscaling": {"kind": "keda"}}, "autoscaling.serverAddress"),
        ({"autoscaling": {"kind": "hpa", "minReplicas": 5}}, "minReplicas 5 is above maxReplicas 4"),
        ({"autoscaling": {"kind": "hpa", "waitingPerPod": None}}, "nothing to scale by"),
        ({"gpus": 1}, "gpus"),
        ({"image": {"tag": "latest"}}, "tag"),
        ({"models": {"llama": {"dialect": "openai"}}}, "dialect"),
        ({"gpu": {"resource": "gpu"}}, "resource"),
        ({"autoscaling": {"kind": "keda", "minReplicas": 0}}, "minReplicas"),
    ],
)
def test_what_would_not_do_is_refused(told, why, by_helm):
    assert why in helm.refusal(values_of(**told), by_helm)


def test_two_servers_with_one_models_name_are_refused():
    values = values_of()
    values["triton"]["servers"]["other"] = copy.deepcopy(ONE)
    assert "is a model of triton.servers.llama already" in helm.refusal(values)


def test_models_without_a_route_are_refused():
    assert "no route to them" in helm.refusal({"triton": {"servers": {"llama": ONE}}})


def test_a_model_that_nothing_reaches_is_refused():
    values = values_of()
    values["config"]["models"]["lama"] = {"price": {"input": 1}}
    assert "config.models.lama.backend: is missing" in helm.refusal(values)


def test_a_volume_of_an_image_is_refused_where_there_is_none():
    with pytest.raises(Exception, match=r"came with Kubernetes 1\.33"):
        helm.render(SETS["triton-image-volume"], kube_version="1.32")


def test_notes_tell_what_to_wait_for_and_what_may_surprise():
    told = notes_of(values_of(terminationGracePeriodSeconds=60))
    assert "rollout status statefulset/blue-postern-triton-llama" in told
    assert "Answers of llama may take 600 s" in told
    assert "may take" not in notes_of(values_of())
    assert "each rendering makes up another" in notes_of({"redis": {"mode": "internal"}})
    given = {"auth": {"existingSecret": "mine"}, "persistence": {"enabled": True}}
    assert "Redis" not in notes_of({"redis": {"mode": "internal", "internal": given}})
    own = values_of() | {"config": {}, "existingConfigMap": "mine"}
    assert '"urls":["grpc://blue-postern-triton-llama-0' in notes_of(own).replace(" ", "")
