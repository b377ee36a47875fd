"""The mock keeps its promises: a Triton whose models speak as the real backends do."""

import concurrent.futures
import contextlib
import itertools
import json
import queue
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc as triton_grpc

from deploy.triton import serve_cpu
from deploy.triton.serve_cpu import DIALECTS
from tests.triton_server import TritonServer, need_triton

pytestmark = [need_triton, pytest.mark.xdist_group("triton")]

NAMES = {
    "vllm": ("stream", "exclude_input_in_output"),
    "trtllm": ("stream", "exclude_input_in_output"),
    "llmapi": ("streaming", "sampling_param_exclude_input_from_output"),
}
every_dialect = pytest.mark.parametrize("dialect", DIALECTS)


def body(dialect, prompt, *, stream=False, exclude=None, max_tokens=32, **more):
    streaming, excluding = NAMES[dialect]
    limit = {
        "vllm": {"sampling_parameters": json.dumps({"max_tokens": max_tokens, **more.pop("sampling", {})})},
        "trtllm": {"max_tokens": max_tokens},
        "llmapi": {"sampling_param_max_tokens": max_tokens},
    }[dialect]
    excluded = {} if exclude is None else {excluding: exclude}
    return {"text_input": prompt, streaming: stream, **limit, **excluded, **more}


@contextlib.contextmanager
def asked(triton, dialect, prompt, *, stream=False, patience_s=30, **more):
    """Ask over HTTP; gives the open answer."""
    way = "generate_stream" if stream else "generate"
    told = json.dumps(body(dialect, prompt, stream=stream, **more)).encode()
    url = f"{triton.http_url}/v2/models/{DIALECTS[dialect]}/{way}"
    with urllib.request.urlopen(urllib.request.Request(url, told), timeout=patience_s) as answer:
        yield answer


def whole(triton, dialect, prompt, **more):
    with asked(triton, dialect, prompt, **more) as answer:
        return json.load(answer)


def stream(triton, dialect, prompt, **more):
    with asked(triton, dialect, prompt, stream=True, **more) as answer:
        return [json.loads(line[6:]) for line in answer if line.startswith(b"data: ")]


def refusal(triton, dialect, prompt, **more):
    """Return the error that is the answer."""
    with pytest.raises(urllib.error.HTTPError) as found:
        whole(triton, dialect, prompt, **more)
    with found.value as error:
        return json.load(error)["error"]


def described(triton, model):
    with urllib.request.urlopen(f"{triton.http_url}/v2/models/{model}") as answer:
        found = json.load(answer)
    return [{one["name"]: (one["datatype"], one["shape"]) for one in found[side]} for side in ("inputs", "outputs")]


def test_models_are_described_as_the_real_backends_describe_theirs(triton):
    inputs, outputs = described(triton, "vllm")
    assert inputs["text_input"] == ("BYTES", [1])
    assert inputs["sampling_parameters"] == ("BYTES", [1])
    assert {"return_finish_reason", "return_num_input_tokens", "return_num_output_tokens"} <= set(inputs)
    assert outputs["num_output_tokens"] == ("UINT32", [-1])
    inputs, outputs = described(triton, "ensemble")
    assert inputs["max_tokens"] == ("INT32", [-1, 1])
    assert inputs["seed"] == ("UINT64", [-1, 1])
    assert {"stop_words", "guided_decoding_guide_type", "lora_task_id"} <= set(inputs)
    assert outputs["num_output_tokens"] == ("INT32", [-1, 1])
    assert "finish_reason" not in outputs
    inputs, outputs = described(triton, "llmapi")
    assert inputs["sampling_param_max_tokens"] == ("INT32", [1])
    assert {"streaming", "sampling_param_stop", "return_finish_reason"} <= set(inputs)
    assert {name for name in outputs if name.startswith("num_")} == set()


@every_dialect
def test_an_answer_that_is_not_streamed_has_the_prompt_before_it_unless_excluded(triton, dialect):
    prompt = "Say [[text=Hello you]]"
    assert whole(triton, dialect, prompt)["text_output"] == f"{prompt}Hello you"
    assert whole(triton, dialect, prompt, exclude=True)["text_output"] == "Hello you"


@pytest.mark.parametrize("dialect", ["vllm", "trtllm"])
def test_streams_are_deltas(triton, dialect):
    told = stream(triton, dialect, "Say [[text=Hello you]]")
    assert "".join(one["text_output"] for one in told) == "Hello you"
    assert len(told) > 2


def test_a_stream_of_the_llm_api_repeats_the_whole_text_so_far(triton):
    told = [one["text_output"] for one in stream(triton, "llmapi", "Say [[text=Hello you]]")]
    assert told[-1] == "Hello you"
    assert all(later.startswith(earlier) for earlier, later in itertools.pairwise(told))
    assert len(told) > 2


def test_vllm_counts_what_is_new_and_tells_its_reason_last(triton):
    wishes = {"return_finish_reason": True, "return_num_output_tokens": True, "return_num_input_tokens": True}
    told = stream(triton, "vllm", "Go [[tokens=5 chunk=2]]", **wishes)
    assert [one["num_output_tokens"] for one in told] == [2, 2, 1]
    assert [one["finish_reason"] for one in told] == ["None", "None", "stop"]
    assert {one["num_input_tokens"] for one in told} == {9}
    cut = stream(triton, "vllm", "Go [[tokens=5 chunk=2]]", max_tokens=3, **wishes)
    assert [one["num_output_tokens"] for one in cut] == [2, 1]
    assert cut[-1]["finish_reason"] == "length"
    assert whole(triton, "vllm", "Go [[tokens=40]]", sampling={"max_tokens": None}, **wishes)["num_output_tokens"] == 16


def test_the_ensemble_counts_the_prompt_with_the_answer_unless_it_is_excluded(triton):
    wish = {"return_num_output_tokens": True, "return_num_input_tokens": True}
    told = whole(triton, "trtllm", "Go [[tokens=5]]", **wish)
    assert told["num_output_tokens"] == 5 + told["num_input_tokens"]
    assert whole(triton, "trtllm", "Go [[tokens=5]]", exclude=True, **wish)["num_output_tokens"] == 5
    assert [one["num_output_tokens"] for one in stream(triton, "trtllm", "Go [[tokens=3]]", **wish)] == [1, 1, 1]


def test_an_emoji_stays_whole_where_the_real_backend_keeps_it_so(triton):
    prompt = "Say [[text=a😀é]]"
    assert [one["text_output"] for one in stream(triton, "vllm", prompt)] == ["a", "", "😀", "é"]
    assert stream(triton, "llmapi", prompt)[-1]["text_output"] == "a😀é"
    assert "😀" not in "".join(one["text_output"] for one in stream(triton, "trtllm", prompt))
    assert whole(triton, "trtllm", prompt, exclude=True)["text_output"] == "a😀é"


def test_the_bls_model_repeats_the_whole_text_so_far_and_keeps_an_emoji_whole(triton):
    told = bls(triton, "Say [[text=a😀é]]", stream=True, return_num_output_tokens=True)
    assert [one["text_output"] for one in told] == ["a", "a\ufffd", "a😀", "a😀é"]
    assert [one["num_output_tokens"] for one in told] == [1, 1, 1, 1]
    assert bls(triton, "Say [[text=a😀]]")[0]["text_output"] == "Say [[text=a😀]]a😀"


def bls(triton, prompt, *, stream=False, **more):
    told = json.dumps(body("trtllm", prompt, stream=stream, **more)).encode()
    url = f"{triton.http_url}/v2/models/tensorrt_llm_bls/generate_stream"
    with urllib.request.urlopen(urllib.request.Request(url, told), timeout=30) as answer:
        return [json.loads(line[6:]) for line in answer if line.startswith(b"data: ")]


def test_stop_strings_are_held_back_by_vllm_and_left_in_by_the_ensemble(triton):
    prompt = "Say [[text=one STOP two]]"
    told = stream(triton, "vllm", prompt, sampling={"stop": ["STOP"]}, return_finish_reason=True)
    assert "".join(one["text_output"] for one in told) == "one "
    assert told[-1]["finish_reason"] == "stop"
    assert "".join(one["text_output"] for one in stream(triton, "trtllm", prompt, stop_words=["STOP"])) == "one STOP"


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"sampling": {"no_such_key": 1}}, "'NoneType' object has no attribute 'lora_name'"),
        ({"sampling": {"lora_name": "nobody"}}, "LoRA nobody is not supported"),
        ({"sampling": {"structured_outputs": json.dumps({"json": {"type": "nonsense"}})}}, "JSON schema"),
    ],
)
def test_vllm_refuses_with_the_real_words(triton, wrong, said):
    assert said in refusal(triton, "vllm", "Go", **wrong)


def test_a_schema_is_followed(triton):
    schema = {"type": "object", "properties": {"name": {"type": "string"}, "age": {"type": "integer"}}}
    guided = {"structured_outputs": json.dumps({"json": schema})}
    assert json.loads(whole(triton, "vllm", "Go", exclude=True, sampling=guided)["text_output"]) == {
        "name": "a",
        "age": 0,
    }
    guided = {"guided_decoding_guide_type": "json_schema", "guided_decoding_guide": json.dumps(schema)}
    assert json.loads(whole(triton, "trtllm", "Go", exclude=True, **guided)["text_output"]) == {"name": "a", "age": 0}


@every_dialect
def test_a_failure_mid_stream_comes_in_band(triton, dialect):
    failed = triton.count("failed", dialect=dialect)
    # Without the gap an ensemble's error overtakes the tokens before it, which are in postprocessing still.
    told = stream(triton, dialect, "Go [[tokens=9 gap=0.2 fail_at=2]]")
    assert "scripted failure" in told[-1]["error"]
    assert len(told) == 3
    assert triton.count("failed", dialect=dialect) == failed + 1


def prompt_for(phase):
    return "Go [[tokens=30 ttft=20]]" if phase == "waiting" else "Go [[tokens=30 gap=0.5]]"


class Stream:
    """A request over gRPC, as its only one on its stream."""

    def __init__(self, triton, dialect, prompt, *, stream=True, request_id="", model=None, **more):
        self._client = triton_grpc.InferenceServerClient(triton.grpc_url.removeprefix("grpc://"))
        self.answers = queue.Queue()
        self._client.start_stream(lambda result, error: self.answers.put(error or result))
        told = more or body(dialect, prompt, stream=stream)
        inputs = [tensor(name, value, is_batched=dialect == "trtllm") for name, value in told.items()]
        self._client.async_stream_infer(model or DIALECTS[dialect], inputs, request_id=request_id)

    def cancel(self):
        self._client.stop_stream(cancel_requests=True)
        self._client.close()


def tensor(name, value, *, is_batched):
    kind = {str: "BYTES", bool: "BOOL", int: "INT32", list: "INT32"}[type(value)]
    values = value if isinstance(value, list) else [value]
    array = np.asarray(values, dtype={"BYTES": object, "BOOL": bool, "INT32": np.int32}[kind])
    array = array.reshape((1, -1) if is_batched else (-1,))
    told = triton_grpc.InferInput(name, array.shape, kind)
    told.set_data_from_numpy(array)
    return told


@pytest.mark.parametrize("dialect", ["vllm", "llmapi"])
@pytest.mark.parametrize("phase", ["waiting", "generating", "unary"])
def test_a_cancel_over_grpc_is_counted_in_its_phase(triton, dialect, phase):
    before, finished = triton.count("cancelled", dialect=dialect, phase=phase), triton.count("finished")
    asked = Stream(triton, dialect, prompt_for(phase), stream=phase != "unary")
    time.sleep(0.3)
    began_s = time.monotonic()
    asked.cancel()
    triton.wait_for("cancelled", before + 1, dialect=dialect, phase=phase)
    assert began_s < triton.cancelled_at_s(dialect) < time.monotonic()
    assert triton.count("finished") == finished


@pytest.mark.parametrize("dialect", ["vllm", "llmapi"])
def test_a_client_that_leaves_over_http_is_seen_at_the_next_write(triton, dialect):
    before = triton.count("cancelled", dialect=dialect, phase="generating")
    with asked(triton, dialect, prompt_for("generating"), stream=True) as answer:
        assert answer.readline().startswith(b"data: ")
    triton.wait_for("cancelled", before + 1, dialect=dialect, phase="generating")


@pytest.mark.parametrize("way", ["generate", "generate_stream"])
def test_a_client_that_leaves_over_http_is_not_seen_before_a_write(triton, way):
    """https://github.com/triton-inference-server/server/issues/7077: nobody reads the connection until an answer."""
    before, finished = triton.count("cancelled"), triton.count("finished")
    told = json.dumps(body("vllm", "Go [[tokens=1 ttft=1]]", stream=way == "generate_stream")).encode()
    with socket.create_connection(("127.0.0.1", int(triton.http_url.rpartition(":")[2]))) as client:
        client.sendall(f"POST /v2/models/vllm/{way} HTTP/1.1\r\nContent-Length: {len(told)}\r\n\r\n".encode() + told)
        time.sleep(0.2)
    time.sleep(0.5)
    assert triton.count("cancelled") == before
    triton.wait_for("finished", finished + 1)


def test_an_ensemble_hands_no_cancel_to_a_step_that_runs(triton):
    """https://github.com/triton-inference-server/server/issues/6739: only steps that begin later get it."""
    before, finished = triton.count("cancelled"), triton.count("finished")
    asked = Stream(triton, "trtllm", "Go [[tokens=4 gap=0.2]]")
    asked.answers.get(timeout=5)
    asked.cancel()
    triton.wait_for("finished", finished + 1)
    assert triton.count("cancelled") == before


@pytest.mark.parametrize("phase", ["waiting", "generating", "unary"])
def test_a_stop_request_with_the_same_id_ends_an_ensembles_request(triton, phase):
    before, id_ = triton.count("cancelled", dialect="trtllm", phase=phase), f"one-{phase}"
    asked = Stream(triton, "trtllm", prompt_for(phase), stream=phase != "unary", request_id=id_)
    time.sleep(0.3)
    told = {"input_ids": [0], "input_lengths": 1, "request_output_len": 1, "stop": True}
    stopped = Stream(triton, "trtllm", "", request_id=id_, model="tensorrt_llm", **told)
    triton.wait_for("cancelled", before + 1, dialect="trtllm", phase=phase)
    asked.cancel()
    stopped.cancel()


def test_a_stop_request_over_http_ends_a_request_of_the_llm_api(triton):
    before = triton.count("cancelled", dialect="llmapi", phase="waiting")
    with concurrent.futures.ThreadPoolExecutor() as pool:
        ended = pool.submit(refusal, triton, "llmapi", prompt_for("waiting"), id="two")
        time.sleep(0.3)
        assert refusal(triton, "llmapi", "", id="two", stop=True) == "Request cancelled by client"
        triton.wait_for("cancelled", before + 1, dialect="llmapi", phase="waiting")
        assert ended.result() == "Request cancelled by client"


def test_gauges_show_what_runs(triton):
    with contextlib.ExitStack() as held:
        for dialect in ("vllm", "vllm", "trtllm"):
            held.enter_context(asked(triton, dialect, "Go [[tokens=9 gap=5]]", stream=True)).readline()
        time.sleep(0.3)
        assert triton.samples("vllm:num_requests_running", model="vllm") == [2]
        assert triton.samples("vllm:num_requests_waiting", model="vllm") == [0]
        assert 0 < triton.samples("vllm:kv_cache_usage_perc")[0] < 0.01
        assert triton.samples("nv_trt_llm_request_metrics", request_type="scheduled") == [1]
        assert triton.samples("nv_trt_llm_kv_cache_block_metrics", kv_cache_block_type="used") == [1]


def test_gauges_show_what_waits_and_how_full_the_cache_is():
    with TritonServer(slots=1, kv_tokens=20, models=("vllm", "ensemble")) as small, contextlib.ExitStack() as held:
        for dialect in ("vllm", "trtllm"):
            held.enter_context(asked(small, dialect, "Go [[tokens=9 gap=5]]", stream=True)).readline()
            held.callback(Stream(small, dialect, "Go [[tokens=30]]" + "x" * 60).cancel)
        small.wait_for("requests", 4)
        time.sleep(0.3)
        assert small.samples("vllm:num_requests_running") == [1]
        assert small.samples("vllm:num_requests_waiting") == [1]
        assert 0.3 < small.samples("vllm:kv_cache_usage_perc")[0] < 0.7
        assert small.samples("nv_trt_llm_request_metrics", request_type="waiting") == [1]
        assert 0.3 < small.samples("nv_trt_llm_kv_cache_block_metrics", kv_cache_block_type="fraction")[0] < 0.7


def test_an_unloaded_model_is_not_ready_until_it_is_loaded_again(triton):
    triton.unload("llmapi")
    assert refusal(triton, "llmapi", "Go") == "Request for unknown model: 'llmapi' has no available versions"
    assert not triton.is_ready()
    triton.load("llmapi")
    assert triton.is_ready()
    assert whole(triton, "llmapi", "Go [[text=back]]", exclude=True)["text_output"] == "back"


def test_a_killed_server_leaves_nothing_behind_and_comes_back_on_its_ports(triton):
    triton.kill()
    assert not triton.leftovers()
    assert not triton.is_ready()
    triton.restart()
    assert whole(triton, "vllm", "Go [[text=back]]", exclude=True)["text_output"] == "back"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_the_script_leaves_nothing_behind_however_it_ends(number):
    ports = [word for kind in ("http", "grpc", "metrics") for word in (f"--{kind}-port", "0")]
    command = [sys.executable, serve_cpu.__file__, *ports, "--models", "llmapi"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as script:
        url = script.stdout.readline().split()[-1]
        assert json.loads(page(f"{url}/v2/models/llmapi"))["name"] == "llmapi"
        (made,) = Path(f"/proc/{script.pid}/task/{script.pid}/children").read_text().split()[:1]
        prefix = next(word for word in arguments_of(made) if "shm-region-prefix-name" in word).rpartition("=")[2]
        assert list(serve_cpu.SHARED_MEMORY.glob(f"{prefix}*"))
        script.send_signal(number)
        script.wait(20)
    until_s = time.monotonic() + 5
    while list(serve_cpu.SHARED_MEMORY.glob(f"{prefix}*")) or Path(f"/proc/{made}").exists():
        assert time.monotonic() < until_s
        time.sleep(0.05)
    assert not list(Path(tempfile.gettempdir()).glob(f"{prefix.removesuffix('-')}*"))


def page(url):
    with urllib.request.urlopen(url, timeout=5) as answer:
        return answer.read()


def arguments_of(pid):
    return Path(f"/proc/{pid}/cmdline").read_text().split("\0")
