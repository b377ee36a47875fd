"""The floors of the house: who may import whom, and where each library lives."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
GATEWAY = ROOT / "gateway"
FILES = sorted(GATEWAY.rglob("*.py"))
HOMES = {
    "redis": "stores",
    "prometheus_client": "telemetry",
    "onnxruntime": "classify",
    "onnxruntime_genai": "backends",
    "litestar": "api",
    "uvicorn": "api",
    "httpx2": "backends",
}

LATE = {
    "httpx2": "backends",
    "tritonclient": "backends",
    "grpc": "backends",
    "onnxruntime_genai": "backends",
    "jinja2": "backends",
    "tokenizers": "backends",
    "onnxruntime": "classify",
    "redis": "stores",
}
"""What brings much along, and is loaded with the first model, router or store that needs it."""


def imported_by(tree):
    """Every module that a file imports, wherever in it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield node.module


def test_the_import_contracts_hold():
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout
    assert "0 broken" in run.stdout


def homes_of(library):
    """The folders of the gateway in which a library is imported."""
    return {
        path.relative_to(GATEWAY).parts[0]
        for path in FILES
        if any(name.split(".")[0] == library for name in imported_by(ast.parse(path.read_text())))
    }


@pytest.mark.parametrize("library", HOMES)
def test_a_library_is_imported_in_one_folder_only(library):
    assert homes_of(library) == {HOMES[library]}


def test_httpx2_is_imported_in_one_file_only():
    found = [path.name for path in FILES if "httpx2" in imported_by(ast.parse(path.read_text()))]
    assert found == ["httpx2_client.py"]


@pytest.mark.parametrize("library", LATE)
def test_a_library_that_only_some_need_is_imported_in_one_folder_only(library):
    assert homes_of(library) <= {LATE[library]}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(GATEWAY)))
def test_nothing_is_imported_inside_a_function(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            inner = [one for one in ast.walk(node) if isinstance(one, ast.Import | ast.ImportFrom)]
            assert not inner, f"line {inner[0].lineno}"


def test_serving_never_imports_what_trains():
    code = "import sys, gateway.commands; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = {name.split(".")[0] for name in run.stdout.split()}
    assert not loaded & {"router_models", "sklearn", "onnx", "pyarrow", "pytest", "hypothesis"}
    assert "gateway" in loaded


SERVE = """
import asyncio, sys
import gateway.commands
from gateway.app import Factory, make_admin, make_data_app
from gateway.api.live import Live
from gateway.settings.simulated import simulated_settings
from gateway.telemetry.metrics import Metrics

async def main():
    factory, settings = Factory(Metrics()), simulated_settings()
    live = Live(factory.build(settings), settings)
    make_data_app(live), make_admin(factory.metrics, lambda: settings)
    task = asyncio.create_task(factory.tend())
    await asyncio.sleep(0.05)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await live.pipeline.close()
    await factory.close()

asyncio.run(main())
print(*sys.modules)
"""


def test_serving_without_such_models_loads_nothing_of_what_they_need():
    run = subprocess.run([sys.executable, "-c", SERVE], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = {name.split(".")[0] for name in run.stdout.split()}
    assert not loaded & set(LATE)
    assert "gateway" in loaded


AT_ITS_IMPORT = """
import importlib, os, sys

class Watch:
    def find_spec(name, *_):
        if name in ("onnxruntime", "onnxruntime_genai"):
            sys.exit(f"{name} {os.environ.get('ORT_DISABLE_TELEMETRY')}")

sys.meta_path.insert(0, Watch)
importlib.import_module(sys.argv[1])
"""


@pytest.mark.parametrize(
    ("module", "runtime"),
    [
        ("gateway.classify.runtime", "onnxruntime"),
        ("gateway.backends.onnx.worker", "onnxruntime_genai"),
        ("router_models.export", "onnxruntime"),
    ],
)
def test_a_runtime_is_told_to_report_to_nobody_before_it_is_imported(module, runtime):
    environ = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    command = [sys.executable, "-c", AT_ITS_IMPORT, module]
    run = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, check=False)
    assert run.stderr.strip() == f"{runtime} 1"
