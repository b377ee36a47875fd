"""Facts about the settings of models on Triton and in the process: paths, and what one setting demands of another."""

from pathlib import Path

import pytest
import yaml

from gateway.settings.faults import SettingsError
from gateway.settings.load import parse_settings

HERE = Path("/etc/postern")
BASES = {
    "triton": {
        "backend": "triton",
        "urls": ["grpc://h:8001"],
        "triton": {"dialect": "vllm"},
        "chat_template": "llama3.jinja",
    },
    "onnx": {"backend": "onnx", "onnx": {"path": "models/qwen"}},
    "openai": {"backend": "openai", "urls": ["http://h:1/v1"]},
    "simulated": {"backend": "simulated"},
}
TRTLLM, LLMAPI = {"dialect": "trtllm"}, {"dialect": "llmapi"}
PAGE = "http://h:8002/metrics"


def load(base, **changes):
    """One model, changed; None takes a key away."""
    entry = {key: value for key, value in {**BASES[base], **changes}.items() if value is not None}
    text = yaml.safe_dump({"models": {"m": entry}, "routes": {"auto": {"models": ["m"]}}})
    return parse_settings(text, {"NAME": "mine"}, HERE).models["m"]


def only_fault(base, **changes):
    with pytest.raises(SettingsError) as caught:
        load(base, **changes)
    (fault,) = caught.value.faults
    return fault


@pytest.mark.parametrize("base", BASES)
def test_every_kind_of_backend_has_a_least_configuration(base):
    assert load(base).backend == base


@pytest.mark.parametrize(
    ("written", "found"),
    [
        ("templates/x.jinja", "/etc/postern/templates/x.jinja"),
        ("../x.jinja", "/etc/postern/../x.jinja"),
        ("/opt/x.jinja", "/opt/x.jinja"),
        ("${NAME}.jinja", "/etc/postern/mine.jinja"),
        ("~/x.jinja", "/somewhere/x.jinja"),
        ("~", "/somewhere"),
    ],
)
def test_a_path_starts_at_the_configurations_folder(written, found, monkeypatch):
    monkeypatch.setenv("HOME", "/somewhere")
    assert load("triton", chat_template=written).chat_template == found
    assert load("triton", tokenizer=written).tokenizer == found
    assert load("onnx", onnx={"path": written}).onnx.path == found


def test_what_is_no_path_is_left_as_it_is():
    assert load("openai", upstream_model="org/model").upstream_model == "org/model"


@pytest.mark.parametrize(
    ("base", "changes", "where", "problem", "remedy"),
    [
        # sections
        ("triton", {"triton": None}, "triton", "is missing", "triton: {dialect: vllm}"),
        ("onnx", {"onnx": None}, "onnx", "is missing", "onnx: {path: models/qwen}"),
        ("openai", {"triton": TRTLLM}, "triton", "is for `backend: triton` only", "leave it out"),
        ("simulated", {"onnx": {"path": "x"}}, "onnx", "is for `backend: onnx` only", "leave it out"),
        ("triton", {"onnx": {"path": "x"}}, "onnx", "is for `backend: onnx` only", "leave it out"),
        ("openai", {"chat_template": "x"}, "chat_template", "for triton and onnx only", "leave it out"),
        ("simulated", {"tokenizer": "x"}, "tokenizer", "for triton and onnx only", "leave it out"),
        ("openai", {"tool_format": "hermes"}, "tool_format", "for triton and onnx only", "leave it out"),
        # urls
        ("triton", {"urls": None}, "urls", "has no url", "grpc://127.0.0.1:8001"),
        ("triton", {"urls": ["h:8001"]}, "urls[0]", "does not start with grpc://", "grpc://HOST:8001"),
        ("triton", {"urls": ["ftp://h"]}, "urls[0]", "does not start with grpc://", "http://HOST:8000"),
        ("triton", {"urls": ["grpc://:8001"]}, "urls[0]", "has no host", "grpc://HOST:8001"),
        ("triton", {"urls": ["grpc://h:8001/v1"]}, "urls[0]", "has a path", "grpc://HOST:8001"),
        ("triton", {"urls": ["http://h:8000?x=1"]}, "urls[0]", "has a path", "http://HOST:8000"),
        ("triton", {"urls": ["grpc://u:p@h:8001"]}, "urls[0]", "a user or a password", "grpc://HOST:8001"),
        ("triton", {"urls": ["grpc://h"]}, "urls[0]", "has no port", "grpc://HOST:8001"),
        ("triton", {"urls": ["grpc://h:99999"]}, "urls[0]", "is not a url", "grpc://HOST:8001"),
        ("onnx", {"urls": ["http://h/v1"]}, "urls", "through no url", "leave it out"),
        ("openai", {"urls": ["grpc://h:8001"]}, "urls[0]", "does not start with http://", "http://HOST:PORT/v1"),
        ("triton", {"api_key": "\u201cx\u201d"}, "api_key", "no header can", "printable ASCII"),
        # metrics pages
        ("triton", {"watch": {"metrics_urls": [PAGE, PAGE]}}, "watch.metrics_urls", "2 for 1", "one page for each"),
        ("openai", {"watch": {"metrics_urls": ["h/metrics"]}}, "watch.metrics_urls[0]", "does not start", "/metrics"),
        ("openai", {"watch": {"metrics_urls": ["http://u@h/"]}}, "watch.metrics_urls[0]", "a user", "/metrics"),
        ("onnx", {"watch": {"metrics_urls": [PAGE]}}, "watch.metrics_urls", "has no replica", "leave it out"),
        # capabilities
        ("triton", {"capabilities": ["embeddings"]}, "capabilities[0]", "nothing that vllm can", "json_schema, logp"),
        ("triton", {"capabilities": ["tools", "vision"]}, "capabilities[1]", "nothing that vllm can", "leave it out"),
        ("triton", {"capabilities": ["audio"]}, "capabilities[0]", "nothing that vllm can", "leave it out"),
        ("triton", {"capabilities": ["n"]}, "capabilities[0]", "nothing that vllm can", "leave it out"),
        ("onnx", {"capabilities": ["embeddings"]}, "capabilities[0]", "nothing that onnx can", "leave it out"),
        (
            "triton",
            {"triton": TRTLLM, "capabilities": ["logprobs"]},
            "capabilities[0]",
            "nothing that trtllm can",
            "leave it out",
        ),
        (
            "triton",
            {"triton": LLMAPI, "capabilities": ["json_schema"]},
            "capabilities[0]",
            "nothing that llmapi can",
            "leave it out",
        ),
        (
            "triton",
            {"chat_template": None, "capabilities": ["logprobs", "tools"]},
            "capabilities[1]",
            "takes a chat template",
            "add `chat_template`",
        ),
        # triton's own
        ("triton", {"triton": {"dialect": "vllm", "model": ""}}, "triton.model", "does not fit", "not empty"),
        ("triton", {"triton": {"dialect": "vllm", "lora": ""}}, "triton.lora", "does not fit", "not empty"),
        ("triton", {"triton": {"dialect": "vllm", "version": "new"}}, "triton.version", "does not fit", "^[0-9]"),
        ("triton", {"triton": {**LLMAPI, "lora": "7"}}, "triton.lora", "nothing that llmapi can", "leave it out"),
        ("triton", {"triton": {**TRTLLM, "lora": "law"}}, "triton.lora", "is no number", "its id"),
        (
            "triton",
            {"triton": {"dialect": "vllm", "ca_file": "ca.pem"}},
            "triton.ca_file",
            "none is encrypted",
            "grpcs",
        ),
    ],
)
def test_a_fault_names_the_path_what_is_wrong_and_what_would_be_right(base, changes, where, problem, remedy):
    fault = only_fault(base, **changes)
    assert fault.path == f"models.m.{where}"
    assert problem in fault.problem
    assert remedy in fault.remedy


@pytest.mark.parametrize(
    ("base", "changes"),
    [
        ("triton", {"urls": ["grpcs://h", "https://h:8000/", "http://[::1]:8000", "grpc://h:8001"]}),
        ("triton", {"chat_template": None}),  # for completions only
        ("triton", {"capabilities": ["tools", "json_schema", "logprobs"]}),
        ("triton", {"triton": {"dialect": "vllm", "lora": "law"}}),
        ("triton", {"triton": {**TRTLLM, "lora": "7"}}),
        ("triton", {"urls": ["grpcs://h:8001"], "triton": {"dialect": "vllm", "ca_file": "ca.pem"}}),
        ("triton", {"watch": {"metrics_urls": []}}),
        ("triton", {"watch": {"metrics_urls": [PAGE]}}),
        ("openai", {"watch": {"metrics_urls": ["https://h:8000/metrics"]}}),
        ("onnx", {"watch": {"metrics_urls": []}}),
        ("onnx", {"capabilities": ["tools", "json_schema"], "chat_template": "x", "tool_format": "hermes"}),
        ("openai", {"capabilities": ["n", "embeddings", "audio", "vision"]}),
    ],
)
def test_what_is_allowed_is_not_refused(base, changes):
    assert load(base, **changes)
