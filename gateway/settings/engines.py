"""What `models` entries need whose backend speaks to a bare model: Triton's own protocol, or a model in the process.

Chats are rendered here with the model's own template, tool calls read back, tokens counted; hence the files.
"""

from enum import StrEnum
from typing import Annotated

import msgspec
from msgspec import Meta

Seconds = Annotated[float, Meta(gt=0, le=86_400)]
ThreadCount = Annotated[int, Meta(ge=1, le=1024)]
Name = Annotated[str, Meta(min_length=1)]
Version = Annotated[str, Meta(pattern="^[0-9]+$")]
FilePath = Annotated[str, Meta(min_length=1, extra={"is_path": True})]
"""A path; a relative one starts at the configuration's own folder, so that it means the same from anywhere."""


class Dialect(StrEnum):
    """Whose inputs and outputs a model on Triton has."""

    VLLM = "vllm"
    TRTLLM = "trtllm"
    LLMAPI = "llmapi"


class ToolFormat(StrEnum):
    """How a family of models writes its tool calls."""

    LLAMA3 = "llama3"
    MISTRAL = "mistral"
    HERMES = "hermes"


class TritonSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a model on Triton is spoken to."""

    dialect: Annotated[
        Dialect,
        Meta(
            description="Inputs and outputs of the model: `vllm` (vLLM backend), `trtllm` (TensorRT-LLM ensemble or "
            "BLS), `llmapi` (TensorRT-LLM's LLM API). Required; checked against the model's metadata at start."
        ),
    ]
    model: Annotated[
        Name | None,
        Meta(description="The model's name in Triton's repository. null: `upstream_model`, or this model's key."),
    ] = None
    version: Annotated[
        Version | None, Meta(description="The version asked for. null: Triton's policy chooses, mostly the newest.")
    ] = None
    lora: Annotated[
        Name | None,
        Meta(description="LoRA adapter: a name (vllm), or a number (trtllm, its lora_task_id). null: the base model."),
    ] = None
    ca_file: Annotated[
        FilePath | None,
        Meta(description="PEM file that `grpcs://` and `https://` trust. null: what the machine trusts."),
    ] = None


class OnnxSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A small model in ONNX form (onnxruntime-genai), run in a worker process of the gateway's own."""

    path: Annotated[
        FilePath,
        Meta(description="Folder of the model: genai_config.json, model.onnx, tokenizer.json. Required."),
    ]
    threads: Annotated[
        ThreadCount | None, Meta(description="Threads that compute. null: the container's CPU limit, or all cores.")
    ] = None
    max_batch: Annotated[
        int, Meta(ge=1, le=256, description="Requests generated for side by side. Default 8: more slow each other.")
    ] = 8
    max_waiting: Annotated[
        int,
        Meta(ge=0, le=100_000, description="Requests that may wait beside those. Default 32; more get a 503 at once."),
    ] = 32


class WatchSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How replicas are looked after: readiness, and the queue and KV-cache gauges of their metrics page."""

    interval_s: Annotated[
        Seconds, Meta(description="Seconds between two looks. Default 2: a queue of LLM requests changes in seconds.")
    ] = 2.0
    metrics_urls: Annotated[
        tuple[str, ...] | None,
        Meta(
            description="Prometheus pages of the replicas, in the order of `urls`. null: port 8002 of each Triton; "
            "nothing for other backends (vLLM: http://HOST:8000/metrics). []: nothing is read."
        ),
    ] = None
