"""The `models` section: where each model runs, what it costs and what it can do."""

from enum import StrEnum
from typing import Annotated

import msgspec
from msgspec import Meta

from gateway.core.secret import Secret
from gateway.settings.engines import FilePath, OnnxSettings, Seconds, ToolFormat, TritonSettings, WatchSettings


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


Price = Annotated[float, Meta(ge=0)]
Ability = Annotated[float, Meta(ge=0, le=1)]


class PriceSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """USD per million tokens. `cached_input: null` means cached prompt tokens cost as much as others."""

    input: Annotated[
        Price, Meta(description="USD per million prompt tokens. Default 0: own hardware bills nothing.")
    ] = 0.0
    output: Annotated[
        Price, Meta(description="USD per million completion tokens. Default 0: own hardware bills nothing.")
    ] = 0.0
    cached_input: Annotated[
        Price | None,
        Meta(description="USD per million prompt tokens read from the upstream's cache. null: they cost as `input`."),
    ] = None


class EnergySettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Wh per thousand tokens."""

    input: Annotated[Price, Meta(description="Wh per thousand prompt tokens. Default 0: not counted.")] = 0.0
    output: Annotated[Price, Meta(description="Wh per thousand completion tokens. Default 0: not counted.")] = 0.0


class TimeoutSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Seconds an upstream call may take, by phase.

    Reasons for the defaults: 2 s to connect is four lost SYNs in a cluster; a cold 70B model on a long prompt
    answers its first token within 60 s; a healthy stream never pauses for 30 s; 600 s is the official clients' own.

    `total_s` of the chosen model bounds all attempts together. An answer that is not streamed comes all at once, so
    only `total_s` bounds the wait for it: a server that hangs on one uses it up and leaves none for the fallback.
    """

    connect_s: Annotated[
        Seconds, Meta(description="Seconds to connect. Default 2: longer than a cluster's lost SYNs take.")
    ] = 2.0
    first_byte_s: Annotated[
        Seconds, Meta(description="Seconds to the first byte. Default 60: a cold 70B model on a long prompt.")
    ] = 60.0
    between_chunks_s: Annotated[
        Seconds, Meta(description="Seconds between two chunks. Default 30: a healthy stream never pauses so long.")
    ] = 30.0
    total_s: Annotated[
        Seconds, Meta(description="Seconds for the whole call. Default 600: the official clients' own total.")
    ] = 600.0


class SimulatedSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How the simulated backend behaves: seconds to the first token, then tokens per second (0: as fast as can be)."""

    ttft_s: Annotated[
        float, Meta(ge=0, le=600, description="Seconds to the first token. Default 0.05: a small model nearby.")
    ] = 0.05
    tokens_per_s: Annotated[
        float, Meta(ge=0, description="Tokens per second after it. Default 200: a small model. 0: as fast as can be.")
    ] = 200.0


class ModelSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One model, reached through one or more replicas."""

    backend: Annotated[BackendKind, Meta(description="How the model is reached. Required: there is no safe guess.")]
    urls: Annotated[
        tuple[str, ...],
        Meta(
            description="Replicas of the same model: `http://HOST:PORT/v1`; for triton `grpc://HOST:8001` or "
            "`http://HOST:8000`, with s for TLS. Default none: `simulated` and `onnx` take none."
        ),
    ] = ()
    upstream_model: Annotated[
        str | None, Meta(description="The model's name as the upstream knows it. null: this model's key.")
    ] = None
    api_key: Annotated[
        Secret | None,
        Meta(description="Bearer key for the upstream, best as `${NAME}` or `${file:PATH}`. null: none is sent."),
    ] = None
    proxy: Annotated[
        Secret | None,
        Meta(
            description="Forward proxy to reach the urls through, `http://[USER:PASSWORD@]HOST:PORT`. null: none; "
            "the environment's `HTTPS_PROXY` is not read."
        ),
    ] = None
    price: Annotated[PriceSettings, Meta(description="USD per million tokens. Default: nothing is billed.")] = (
        PriceSettings()
    )
    energy: Annotated[
        EnergySettings | None, Meta(description="Wh per thousand tokens. null: energy is not counted for this model.")
    ] = None
    context_tokens: Annotated[
        int,
        Meta(ge=1, description="Tokens of prompt and answer together. Default 8192: what small models at least take."),
    ] = 8192
    capabilities: Annotated[
        tuple[Capability, ...],
        Meta(
            description="What the model serves beyond plain text. Default none: requests that need more go elsewhere."
        ),
    ] = ()
    domains: Annotated[
        tuple[str, ...],
        Meta(
            description="What the model is a specialist in: MMLU-Pro's 14 subjects (law, health, math, ...), code, "
            "chat, writing, translation. For `kind: domain`. Default none: a generalist."
        ),
    ] = ()
    ability: Annotated[
        Ability | None,
        Meta(
            description="How able the model is, between the router's weak side, 0, and its strong side, 1; it places "
            "the model on ladders of more than two. null: even steps between its neighbours on the ladder.",
        ),
    ] = None
    local: Annotated[
        bool, Meta(description="Whether prompts with personal data may go here. Default false: nobody has said so.")
    ] = False
    triton: Annotated[
        TritonSettings | None, Meta(description="How a model on Triton is spoken to. null: not on Triton.")
    ] = None
    onnx: Annotated[
        OnnxSettings | None, Meta(description="The model that runs inside the gateway. null: it runs elsewhere.")
    ] = None
    chat_template: Annotated[
        FilePath | None,
        Meta(
            description="The model's chat template: a Jinja file, or Hugging Face's `tokenizer_config.json`. Needed "
            "for chats on triton. null: none there; onnx takes that of its folder."
        ),
    ] = None
    tokenizer: Annotated[
        FilePath | None,
        Meta(
            description="The model's `tokenizer.json`, to count tokens where the server does not tell. "
            "null: such counts are estimated, and marked so."
        ),
    ] = None
    tool_format: Annotated[
        ToolFormat | None,
        Meta(
            description="How the model writes tool calls (triton and onnx). null: told from its chat template; where "
            "that says nothing, calls stay text."
        ),
    ] = None
    watch: Annotated[WatchSettings, Meta(description="How replicas are looked after. Default: every 2 s.")] = (
        WatchSettings()
    )
    timeouts: Annotated[TimeoutSettings, Meta(description="Seconds an upstream call may take, by phase.")] = (
        TimeoutSettings()
    )
    simulated: Annotated[
        SimulatedSettings, Meta(description="How the simulated backend behaves; other backends ignore it.")
    ] = SimulatedSettings()
    max_connections: Annotated[
        int, Meta(ge=1, description="Connections to one url. Default 512: one for each request `limits` lets in.")
    ] = 512
    stream_usage: Annotated[
        bool,
        Meta(
            description="Ask for token counts at the end of a stream. Default true: costs need them. "
            "false for a server that refuses `stream_options`."
        ),
    ] = True
