"""From a model's metadata and configuration, as JSON of either transport, to what a dialect must know of it."""

from collections.abc import Mapping
from typing import Any

import msgspec

from gateway.backends.triton.wire import Fault, ModelFacts, TensorShape, WireError


class _Tensor(msgspec.Struct, frozen=True):
    name: str
    datatype: str
    # Whole numbers of 64 bits: protobuf's JSON has them as texts.
    shape: list[int] = []


class _Metadata(msgspec.Struct, frozen=True):
    inputs: list[_Tensor] = []
    outputs: list[_Tensor] = []


class _Policy(msgspec.Struct, frozen=True):
    decoupled: bool = False


class _Parameter(msgspec.Struct, frozen=True):
    string_value: str = ""


class _Step(msgspec.Struct, frozen=True):
    model_name: str
    input_map: dict[str, str] = {}


class _Ensemble(msgspec.Struct, frozen=True):
    step: list[_Step] = []


class _Config(msgspec.Struct, frozen=True):
    model_transaction_policy: _Policy = _Policy()
    parameters: dict[str, _Parameter] = {}
    ensemble_scheduling: _Ensemble = _Ensemble()


def facts_of(metadata: Mapping[str, Any], config: Mapping[str, Any]) -> ModelFacts:
    """Return what a model says of itself. Raises WireError where it is not what Triton's protocol says."""
    try:
        told = msgspec.convert(metadata, _Metadata, strict=False)
        settings = msgspec.convert(config, _Config, strict=False)
    except msgspec.ValidationError as exc:
        raise WireError(Fault.TOLD, f"metadata of another kind: {exc}") from exc
    return ModelFacts(
        {tensor.name: TensorShape(tensor.datatype, len(tensor.shape)) for tensor in told.inputs},
        {tensor.name: TensorShape(tensor.datatype, len(tensor.shape)) for tensor in told.outputs},
        settings.model_transaction_policy.decoupled,
        {name: parameter.string_value for name, parameter in settings.parameters.items()},
        {step.model_name: frozenset(step.input_map) for step in settings.ensemble_scheduling.step},
    )
