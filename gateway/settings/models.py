"""The `models` section: where each model runs, what it costs and what it can do."""

from enum import StrEnum
from typing import Annotated

import msgspec

from gateway.core.secret import Secret


class Capability(StrEnum):
    """What a request may ask of a model beyond plain text."""

    TOOLS = "tools"
    JSON_SCHEMA = "json_schema"
    VISION = "vision"
    AUDIO = "audio"
    LOGPROBS = "logprobs"
    N = "n"
    EMBEDDINGS = "embeddings"


class BackendKind(StrEnum):
    """How a model is reached."""

    OPENAI = "openai"
    TRITON = "triton"
    ONNX = "onnx"
    SIMULATED = "simulated"


Price = Annotated[float, msgspec.Meta(ge=0)]
Seconds = Annotated[float, msgspec.Meta(gt=0, le=86_400)]


class PriceSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """USD per million tokens. `cached_input: null` means cached prompt tokens cost as much as others."""

    input: Price = 0.0
    output: Price = 0.0
    cached_input: Price | None = None


class EnergySettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Wh per thousand tokens."""

    input: Price = 0.0
    output: Price = 0.0


class TimeoutSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Seconds an upstream call may take, by phase.

    Reasons for the defaults: 2 s to connect is four lost SYNs in a cluster; a cold 70B model on a long prompt
    answers its first token within 60 s; a healthy stream never pauses for 30 s; 600 s is the official clients' own total.
    """

    connect_s: Seconds = 2.0
    first_byte_s: Seconds = 60.0
    between_chunks_s: Seconds = 30.0
    total_s: Seconds = 600.0


class SimulatedSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How the simulated backend behaves: seconds to the first token, then tokens per second (0: as fast as can be)."""

    ttft_s: Annotated[float, msgspec.Meta(ge=0, le=600)] = 0.05
    tokens_per_s: Annotated[float, msgspec.Meta(ge=0)] = 200.0


class ModelSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One model, reached through one or more replicas."""

    backend: BackendKind
    urls: tuple[str, ...] = ()
    upstream_model: str | None = None
    api_key: Secret | None = None
    price: PriceSettings = PriceSettings()
    energy: EnergySettings | None = None
    context_tokens: Annotated[int, msgspec.Meta(ge=1)] = 8192
    capabilities: tuple[Capability, ...] = ()
    domains: tuple[str, ...] = ()
    local: bool = False
    timeouts: TimeoutSettings = TimeoutSettings()
    simulated: SimulatedSettings = SimulatedSettings()
    max_connections: Annotated[int, msgspec.Meta(ge=1)] = 512
    stream_usage: bool = True
    """Ask for token counts at the end of a stream. false for a server that refuses `stream_options`."""
