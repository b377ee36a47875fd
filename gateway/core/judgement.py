"""What a classifier says of a conversation. Holds figures, takes no decisions: policies read them."""

import math
from collections.abc import Mapping
from typing import Final

import msgspec

DOMAINS: Final = (
    "biology",
    "business",
    "chemistry",
    "computer science",
    "economics",
    "engineering",
    "health",
    "history",
    "law",
    "math",
    "other",
    "philosophy",
    "physics",
    "psychology",
    "code",
    "chat",
    "writing",
    "translation",
)
"""The 14 subject areas of MMLU-Pro, and four of ours."""

_SURE: Final = 1e-6
"""How near to 0 or 1 a chance is taken at its word: its logit must stay finite."""

_ROUNDING: Final = 0.01
"""How far shares may be from adding up to 1: they are written with few decimals."""


class Judgement(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """One conversation, judged. All but the score is None where the router has no head for it.

    `weak_chance`, `strong_chance`: that a model of ability 0, of ability 1, answers well. `domain`: one of DOMAINS,
    None also where none is likely enough. `output_tokens`: expected. `signals`: measures of the judged text for drift,
    in the order in which the manifest's reference names them.
    """

    score: float
    weak_chance: float | None = None
    strong_chance: float | None = None
    domain: str | None = None
    output_tokens: int | None = None
    signals: tuple[float, ...] = ()

    def chance(self, ability: float) -> float | None:
        """Return the chance that a model of this ability answers well: between the two ends, evenly in the logit."""
        if self.weak_chance is None or self.strong_chance is None:
            return None
        if ability in {0.0, 1.0}:  # as in every ladder of two: a fifth of the time
            return _inside(self.strong_chance if ability else self.weak_chance)
        weak, strong = _logit(self.weak_chance), _logit(self.strong_chance)
        return 1 / (1 + math.exp(-(weak + ability * (strong - weak))))


def _inside(chance: float) -> float:
    return min(max(chance, _SURE), 1 - _SURE)


def _logit(chance: float) -> float:
    inside = _inside(chance)
    return math.log(inside / (1 - inside))


class Distribution(msgspec.Struct, frozen=True):
    """How a number was spread: bins by their inner edges, each from its edge on, so there is one share more than edges.

    The first and the last bin are open: no value is outside.
    """

    edges: tuple[float, ...]
    share: tuple[float, ...]

    def __post_init__(self) -> None:
        """Raise ValueError for what is no distribution; while decoding that is a msgspec.ValidationError."""
        if len(self.share) != len(self.edges) + 1:
            raise ValueError("a distribution has one share more than edges")
        if any(not low < high for low, high in zip(self.edges, self.edges[1:], strict=False)):
            raise ValueError("the edges of a distribution ascend")
        if min(self.share) < 0 or abs(sum(self.share) - 1) > _ROUNDING:
            raise ValueError("the shares of a distribution add up to 1")


class Reference(msgspec.Struct, frozen=True):
    """What scores and signals looked like in training, as the manifest tells it; signals in a judgement's order."""

    score: Distribution
    signals: Mapping[str, Distribution] = {}
