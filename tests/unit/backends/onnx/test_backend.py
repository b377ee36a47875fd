import json
import shutil
import subprocess
import sys

import pytest

from gateway.backends.backend import BackendLoadError
from gateway.backends.onnx import backend
from gateway.backends.onnx.backend import onnx_backends
from gateway.settings.engines import OnnxSettings
from gateway.settings.models import BackendKind, ModelSettings
from tests.builders import call, collect, request


def settings(folder, **more):
    return ModelSettings(backend=BackendKind.ONNX, onnx=OnnxSettings(str(folder)), **more)


@pytest.fixture
def folder(tiny, tmp_path):
    return shutil.copytree(tiny, tmp_path / "model")


def problem_of(settings):
    with pytest.raises(BackendLoadError) as caught:
        onnx_backends("m", settings)
    assert caught.value.remedy
    return caught.value.key, caught.value.problem


@pytest.mark.parametrize("missing", ["genai_config.json", "model.onnx", "tokenizer.json"])
def test_a_file_that_is_not_there_is_named(folder, missing):
    (folder / missing).unlink()
    key, problem = problem_of(settings(folder))
    assert key == "onnx.path"
    assert missing in problem


@pytest.mark.parametrize("name", ["model.onnx", "model.onnx.data", "tokenizer.json"])
def test_a_pointer_in_the_place_of_a_large_file_is_named(folder, name):
    (folder / name).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 4860000000\n")
    key, problem = problem_of(settings(folder))
    assert key == "onnx.path"
    assert f"{name} is a pointer of Git LFS" in problem


@pytest.mark.parametrize("content", ["garbage", "{}", '{"model": {}}', "[" * 2000])
def test_a_configuration_that_is_none_is_a_fault_of_the_folder(folder, content):
    (folder / "genai_config.json").write_text(content)
    assert problem_of(settings(folder))[0] == "onnx.path"


def test_a_folder_that_is_not_there_is_a_fault(tmp_path):
    assert problem_of(settings(tmp_path / "nowhere"))[0] == "onnx.path"


def test_the_section_must_be_there():
    assert problem_of(ModelSettings(backend=BackendKind.ONNX))[0] == "onnx"


def test_the_extra_that_is_not_installed_is_named(folder, monkeypatch):
    monkeypatch.setattr(backend, "RUNTIME", "onnxruntime_nowhere")
    with pytest.raises(BackendLoadError, match="onnxruntime-genai") as caught:
        onnx_backends("m", settings(folder))
    assert caught.value.remedy == "make onnx, or pip install onnxruntime-genai"


def test_a_model_without_a_template_needs_one_named(folder):
    (folder / "tokenizer_config.json").unlink()
    assert problem_of(settings(folder))[0] == "chat_template"
    template = folder / "chat.jinja"
    template.write_text("{% for message in messages %}{{ message.content }}{% endfor %}")
    assert len(onnx_backends("m", settings(folder, chat_template=str(template)))) == 1


@pytest.mark.parametrize("context_tokens", [8192, 50])
async def test_an_answer_ends_within_the_smaller_of_the_two_windows(folder, context_tokens):
    limits = json.loads((folder / "genai_config.json").read_text())
    limits["model"]["context_length"] = 60
    (folder / "genai_config.json").write_text(json.dumps(limits))
    (made,) = onnx_backends("m", settings(folder, context_tokens=context_tokens))
    answer = await made.open(call(request(min_tokens=5000, temperature=0)))
    told = json.loads(await collect(answer))
    await made.close()
    assert told["usage"]["total_tokens"] == min(context_tokens, 60)
    assert told["choices"][0]["finish_reason"] == "length"


@pytest.mark.parametrize(
    ("module", "never"),
    [
        ("gateway.backends.onnx.backend", {"onnxruntime_genai"}),
        ("gateway.backends.onnx.worker", {"litestar", "httpx2", "jinja2", "prometheus_client", "redis", "grpc"}),
    ],
)
def test_the_gateway_never_imports_the_runtime_nor_the_worker_the_gateway(module, never):
    code = f"import sys, {module}; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.split(".")[0] for name in run.stdout.split()}
    assert "gateway" in loaded
    assert not loaded & never
