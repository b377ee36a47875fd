"""The built-in simulated fleet: what Postern serves where there is no model at all."""

from gateway.settings.models import (
    BackendKind,
    Capability,
    EnergySettings,
    ModelSettings,
    PriceSettings,
    SimulatedSettings,
)
from gateway.settings.root import Settings
from gateway.settings.routes import RouteSettings
from gateway.settings.service import CacheSettings, ExactCacheSettings

SMALL = "simulated-small"
LARGE = "simulated-large"


def simulated_settings() -> Settings:
    """Return a small and a large simulated model behind the route `auto`, with the exact cache on."""
    return Settings(
        models={SMALL: _small(), LARGE: _large()},
        routes={"auto": RouteSettings(models=(SMALL, LARGE), fallback=(LARGE, SMALL))},
        cache=CacheSettings(exact=ExactCacheSettings()),
    )


def _small() -> ModelSettings:
    """A 4B model on one consumer GPU, as such models are priced and paced in public."""
    return ModelSettings(
        backend=BackendKind.SIMULATED,
        price=PriceSettings(input=0.05, cached_input=0.01, output=0.10),
        energy=EnergySettings(input=0.02, output=0.2),
        context_tokens=16_384,
        capabilities=(Capability.TOOLS, Capability.JSON_SCHEMA, Capability.LOGPROBS),
        simulated=SimulatedSettings(ttft_s=0.02, tokens_per_s=400.0),
    )


def _large() -> ModelSettings:
    """A frontier model behind someone's API; some twelve times the energy, for some twenty times the parameters."""
    return ModelSettings(
        backend=BackendKind.SIMULATED,
        price=PriceSettings(input=2.50, cached_input=1.25, output=10.00),
        energy=EnergySettings(input=0.25, output=2.5),
        context_tokens=131_072,
        capabilities=(
            Capability.TOOLS,
            Capability.JSON_SCHEMA,
            Capability.VISION,
            Capability.N,
            Capability.LOGPROBS,
            Capability.EMBEDDINGS,
        ),
        simulated=SimulatedSettings(ttft_s=0.12, tokens_per_s=120.0),
    )
