"""What to serve where no configuration is given. Knows no HTTP client: whoever calls hands in a probe."""

from collections.abc import Callable, Mapping

import msgspec

from gateway.core.secret import Secret
from gateway.settings.local import OLLAMA_LISTING, VLLM_LISTING, LocalModel, read_ollama, read_vllm
from gateway.settings.models import BackendKind, Capability, ModelSettings, PriceSettings
from gateway.settings.names import is_name
from gateway.settings.root import Settings
from gateway.settings.routes import RouteSettings
from gateway.settings.simulated import simulated_settings

Probe = Callable[[str], bytes | None]
"""GET a url; return the body of a 200, or None. Its deadline is the caller's."""

_ROUTE = "auto"
_OPENAI_WEAK = "gpt-5-mini"
_OPENAI_STRONG = "gpt-5"


def discover_settings(environ: Mapping[str, str], probe: Probe) -> Settings:
    """Return a fleet of what is at hand: OpenAI where its key is set, a local Ollama or vLLM, else the simulated one.

    Weak is the smallest local model, or else OpenAI's small one; strong is OpenAI's large one, or else the largest
    local model. One model alone makes a route of one. Nothing is cached: an operator has to ask for that.
    """
    api_key = environ.get("OPENAI_API_KEY", "").strip()
    local = _find_local(probe)
    if api_key:
        weak = {local[0].name: local[0].settings} if local else {_OPENAI_WEAK: _openai_weak(api_key)}
        return _serve({**weak, _OPENAI_STRONG: _openai_strong(api_key)})
    if local:
        return _serve({model.name: _with_tools(model.settings) for model in (local[0], local[-1])})
    return simulated_settings()


def is_simulated(settings: Settings) -> bool:
    """Say whether no answer comes from a real model."""
    return all(model.backend is BackendKind.SIMULATED for model in settings.models.values())


def _serve(models: dict[str, ModelSettings]) -> Settings:
    ladder = tuple(models)
    fallback = ladder[::-1] if len(ladder) > 1 else ()
    return Settings(models=models, routes={_ROUTE: RouteSettings(models=ladder, fallback=fallback)})


def _find_local(probe: Probe) -> list[LocalModel]:
    """Return the local models, smallest first; those whose name is taken or is none are left out."""
    taken = {_ROUTE, _OPENAI_WEAK, _OPENAI_STRONG}
    found: dict[str, LocalModel] = {}
    for model in (*read_ollama(probe(OLLAMA_LISTING)), *read_vllm(probe(VLLM_LISTING))):
        if is_name(model.name) and model.name not in taken:
            found.setdefault(model.name, model)
    return sorted(found.values(), key=lambda model: model.parameters)


def _with_tools(settings: ModelSettings) -> ModelSettings:
    """Let local models try tools where nothing better can: most do them, and no listing says which don't."""
    return msgspec.structs.replace(settings, capabilities=(Capability.TOOLS, *settings.capabilities))


def _openai_weak(api_key: str) -> ModelSettings:
    return _openai(api_key, PriceSettings(input=0.25, cached_input=0.025, output=2.00))


def _openai_strong(api_key: str) -> ModelSettings:
    return _openai(api_key, PriceSettings(input=1.25, cached_input=0.125, output=10.00))


def _openai(api_key: str, price: PriceSettings) -> ModelSettings:
    """Return one of OpenAI's models; prices and context as of https://platform.openai.com/docs/models."""
    return ModelSettings(
        backend=BackendKind.OPENAI,
        urls=("https://api.openai.com/v1",),
        api_key=Secret(api_key),
        price=price,
        context_tokens=400_000,
        capabilities=(Capability.TOOLS, Capability.JSON_SCHEMA, Capability.VISION, Capability.N),
    )
