"""A model's folder as a backend: what can be found wrong before a worker is started, and how it is put together.

Imports no runtime: the worker does, in its own process.
"""

import os
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import msgspec

from gateway.backends.backend import Backend, BackendLoadError
from gateway.backends.chat.template import load_template
from gateway.backends.chat.tokens import load_tokenizer
from gateway.backends.engine_backend import EngineBackend
from gateway.backends.http1_pool import Commons
from gateway.backends.onnx.engine import OnnxEngine
from gateway.settings.models import ModelSettings

RUNTIME: Final = "onnxruntime_genai"
KEY: Final = "onnx.path"
CONFIG: Final = "genai_config.json"
REMEDY: Final = "name a folder in the form of onnxruntime-genai: deploy/onnx/README.md tells where to get one"
POINTER: Final = b"version https://git-lfs"
"""How a file begins that a clone without Git LFS has in the place of a large one, such as a model on Hugging Face."""


class _Decoder(msgspec.Struct):
    filename: str


class _Model(msgspec.Struct):
    decoder: _Decoder


class _Config(msgspec.Struct):
    model: _Model


def onnx_backends(name: str, settings: ModelSettings, _: Commons | None = None) -> list[Backend]:
    """Return the one backend of a model inside the gateway. Raises BackendLoadError."""
    if settings.onnx is None:
        raise BackendLoadError("onnx", "is missing", "`backend: onnx` needs it, such as `onnx: {path: models/qwen}`")
    if find_spec(RUNTIME) is None:
        raise BackendLoadError("backend", "onnx needs onnxruntime-genai", "make onnx, or pip install onnxruntime-genai")
    _check_files(Path(settings.onnx.path))
    template = load_template(settings.chat_template or settings.onnx.path)
    counter = load_tokenizer(settings.tokenizer or settings.onnx.path)
    return [
        EngineBackend(name, settings, OnnxEngine(name, settings.onnx, settings.timeouts.total_s), template, counter)
    ]


def _check_files(folder: Path) -> None:
    """See that what the runtime reads is there."""
    if not folder.is_dir():
        raise BackendLoadError(KEY, f"{folder} is no folder", REMEDY)
    _check_fetched(folder)
    try:
        config = msgspec.json.decode((folder / CONFIG).read_bytes(), type=_Config)
    except OSError as exc:
        raise BackendLoadError(KEY, f"{folder} holds no {CONFIG} that can be read", REMEDY) from exc
    except msgspec.DecodeError as exc:
        raise BackendLoadError(KEY, f"{folder / CONFIG} is not the runtime's ({exc})", REMEDY) from exc
    for wanted in (config.model.decoder.filename, "tokenizer.json"):
        if not (folder / wanted).is_file():
            raise BackendLoadError(KEY, f"{folder} holds no {wanted}", REMEDY)


def _check_fetched(folder: Path) -> None:
    """See that the folder holds the large files themselves."""
    for path in sorted(folder.glob("*")):
        if path.is_file() and os.access(path, os.R_OK):
            with path.open("rb") as file:
                head = file.read(len(POINTER))
            if head == POINTER:
                raise BackendLoadError(KEY, f"{path} is a pointer of Git LFS, not the file", "fetch it: git lfs pull")
