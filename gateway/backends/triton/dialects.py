"""The seam of the dialects: whose inputs and outputs a model has; how a task becomes the one, and the other pieces.

Pure: no transport, no waiting. A model is checked against its dialect's signature before it is asked.
"""

from collections.abc import Mapping
from typing import Protocol

import msgspec

from gateway.backends.engine import Task
from gateway.backends.triton.responses import AnswerReader
from gateway.backends.triton.wire import Datatype, Input, ModelFacts


class Signature(msgspec.Struct, frozen=True):
    """The inputs that a model must have to be spoken to in a dialect, and the one output.

    `needs_decoupled`: its own configuration must say so, else it can't stream. An ensemble's says nothing.
    """

    inputs: Mapping[str, Datatype]
    output: str = "text_output"
    needs_decoupled: bool = True


class Stop(msgspec.Struct, frozen=True):
    """A request that ends the one of the same id. `model`: the one to ask; empty, the one that was asked."""

    inputs: tuple[Input, ...]
    model: str = ""


class Dialect(Protocol):
    """Inputs and outputs of one of Triton's backends for language models."""

    signature: Signature

    def is_streaming(self, task: Task, *, is_heard: bool) -> bool:
        """Tell whether the model is asked to answer in several responses. `is_heard`: see `Transport`."""
        ...

    def encode(self, task: Task, facts: ModelFacts, *, is_streaming: bool) -> tuple[Input, ...]:
        """Return the inputs for a task; conveniences that this model lacks are left out."""
        ...

    def find_stop(self, facts: ModelFacts, *, is_heard: bool) -> Stop | None:
        """Return what ends a request that was left; None where leaving it is enough, or nothing else helps."""
        ...

    def reader(self, task: Task, facts: ModelFacts) -> AnswerReader:
        """Return what reads the responses to a task."""
        ...


class Draft:
    """Inputs being put together for a model."""

    def __init__(self, facts: ModelFacts) -> None:
        self._facts = facts
        self._inputs: list[Input] = []

    def add(self, name: str, datatype: Datatype, *values: str | float | None) -> None:
        """Add an input, unless its value is None."""
        told = tuple(value for value in values if value is not None)
        if told:
            self._inputs.append(Input(name, datatype, told))

    def offer(self, name: str) -> None:
        """Switch something on where the model has it: older servers lack finish reasons and token counts."""
        if name in self._facts.inputs:
            self._inputs.append(Input(name, Datatype.BOOL, (True,)))

    def done(self) -> tuple[Input, ...]:
        """Return all of them."""
        return tuple(self._inputs)


def find_mismatch(signature: Signature, facts: ModelFacts) -> str | None:
    """Return what is expected and what was found where a model is not of a dialect, None where it is."""
    found = {name: shape.datatype for name, shape in facts.inputs.items()}
    missing = {name: kind for name, kind in signature.inputs.items() if found.get(name) != kind}
    if missing:
        return f"expected the inputs {_list(signature.inputs)}, found {_list(found)}"
    if signature.output not in facts.outputs:
        return f"expected the output {signature.output}, found {', '.join(sorted(facts.outputs)) or 'none'}"
    if signature.needs_decoupled and not facts.is_decoupled:
        return "expected model_transaction_policy {decoupled: true}, without which it can't stream, found false"
    return None


def find_lacking(inputs: tuple[Input, ...], facts: ModelFacts) -> str | None:
    """Return the first input of a request that the model lacks, None where it has them all."""
    return next((given.name for given in inputs if given.name not in facts.inputs), None)


def positive(top_k: int | None) -> int | None:
    """Return a top_k that bounds anything: 0 and -1 mean all tokens, which each server says in its own way."""
    return top_k if top_k is not None and top_k > 0 else None


def _list(inputs: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {kind}" for name, kind in sorted(inputs.items())) or "none"
