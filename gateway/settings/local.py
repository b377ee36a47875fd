"""The models of a local Ollama or vLLM, as their listings tell them. Knows no HTTP client: listings are handed in.

Sources: https://github.com/ollama/ollama/blob/main/docs/api.md (GET /api/tags), and vLLM's `GET /v1/models`
(https://docs.vllm.ai/en/stable/serving/openai_compatible_server.html), whose cards carry `max_model_len`.
"""

import math
import re
from typing import Annotated, TypeVar

import msgspec

from gateway.settings.models import BackendKind, Capability, ModelSettings

OLLAMA_URL = "http://127.0.0.1:11434"
VLLM_URL = "http://127.0.0.1:8000"
OLLAMA_LISTING = f"{OLLAMA_URL}/api/tags"
VLLM_LISTING = f"{VLLM_URL}/v1/models"

_OLLAMA_CONTEXT_TOKENS = 4096  # what Ollama loads a model with unless told otherwise, whatever the model could take
_PARAMETERS = re.compile(
    r"(?<![A-Za-z0-9.])(?:(\d{1,3})x)?(\d{1,6}(?:\.\d{1,6})?)\s*([KMBT])(?![A-Za-z0-9])", re.IGNORECASE
)
_SCALE = {"K": 1e3, "M": 1e6, "B": 1e9, "T": 1e12}
_UNKNOWN_CONTEXT_TOKENS = 8192
_EMBEDDERS = re.compile("bert|embed", re.IGNORECASE)


_Listing = TypeVar("_Listing")


class LocalModel(msgspec.Struct, frozen=True):
    """A model found on this machine; `parameters` is infinity where nobody says how many there are."""

    name: str
    parameters: float
    settings: ModelSettings


class _OllamaDetails(msgspec.Struct, frozen=True):
    family: str | None = None
    parameter_size: str | None = None


class _OllamaModel(msgspec.Struct, frozen=True):
    name: str
    details: _OllamaDetails | None = None


class _OllamaListing(msgspec.Struct, frozen=True):
    models: list[_OllamaModel] | None = None


class _VllmModel(msgspec.Struct, frozen=True):
    id: str
    max_model_len: Annotated[int, msgspec.Meta(ge=1)] | None = None


class _VllmListing(msgspec.Struct, frozen=True):
    data: list[_VllmModel] | None = None


def read_ollama(body: bytes | None) -> list[LocalModel]:
    """Return the chat models of Ollama's listing; none where the body is something else's."""
    listing = _decode(body, _OllamaListing)
    found = []
    for model in (listing.models if listing else None) or ():
        details = model.details or _OllamaDetails()
        if _EMBEDDERS.search(f"{details.family} {model.name}"):
            continue  # embedding models are the smallest of all, and cannot chat
        size = details.parameter_size or model.name
        settings = _settings(OLLAMA_URL, _OLLAMA_CONTEXT_TOKENS, (Capability.JSON_SCHEMA,))
        found.append(LocalModel(model.name, count_parameters(size), settings))
    return found


def read_vllm(body: bytes | None) -> list[LocalModel]:
    """Return the chat models of vLLM's listing; sizes are read from the names, for it tells none."""
    listing = _decode(body, _VllmListing)
    served = (Capability.JSON_SCHEMA, Capability.LOGPROBS, Capability.N)
    return [
        LocalModel(
            model.id,
            count_parameters(model.id),
            _settings(VLLM_URL, model.max_model_len or _UNKNOWN_CONTEXT_TOKENS, served),
        )
        for model in (listing.data if listing else None) or ()
        if not _EMBEDDERS.search(model.id)
    ]


def count_parameters(text: str) -> float:
    """Read a size such as `3.2B`, `137M`, `8x7B` or `Llama-3.1-70B-Instruct`; infinity where there is none.

    A model of unknown size counts as large: it is then the strong one, and gets what is too hard for a small one.
    """
    match = _PARAMETERS.search(text)
    return int(match[1] or 1) * float(match[2]) * _SCALE[match[3].upper()] if match else math.inf


def _settings(url: str, context_tokens: int, capabilities: tuple[Capability, ...]) -> ModelSettings:
    return ModelSettings(
        backend=BackendKind.OPENAI,
        urls=(f"{url}/v1",),
        context_tokens=context_tokens,
        capabilities=capabilities,
        local=True,
    )


def _decode(body: bytes | None, listing: type[_Listing]) -> _Listing | None:
    """Return the listing, or None: whatever answers on these ports need not be Ollama or vLLM."""
    try:
        return msgspec.json.decode(body, type=listing) if body else None
    except ValueError:  # msgspec's DecodeError, and text that is not UTF-8
        return None
