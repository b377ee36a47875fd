"""The `routes` section: the names clients ask for, and how each is served."""

from enum import StrEnum
from typing import Annotated

import msgspec

Share = Annotated[float, msgspec.Meta(ge=0, le=1)]


class PolicyKind(StrEnum):
    """How a route chooses among its candidates."""

    COMPLEXITY = "complexity"
    PINNED = "pinned"


class PolicySettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`complexity`: `score >= threshold` goes to the strongest model. `pinned`: always `model`."""

    kind: PolicyKind = PolicyKind.COMPLEXITY
    threshold: Share = 0.5
    router: str = "default"
    model: str | None = None
    strong_share: Share | None = None


class RouteSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A ladder of models, weakest first, and what to try when the chosen one fails."""

    models: tuple[str, ...]
    policy: PolicySettings = PolicySettings()
    fallback: tuple[str, ...] = ()
    max_attempts: Annotated[int, msgspec.Meta(ge=1, le=10)] = 3
