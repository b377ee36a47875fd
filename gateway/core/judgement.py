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
        weak, strong = _logit(self.weak_chance), _logit(self.strong_chance)
        return 1 / (1 + math.exp(-(weak + ability * (strong - weak))))


def _logit(chance: float) -> float:
    inside = min(max(chance, _SURE), 1 - _SURE)
    return math.log(inside / (1 - inside))


class Distribution(msgspec.Struct, frozen=True):
    """A histogram: `share[k]` of the values lay between `edges[k]` and `edges[k + 1]`."""

    edges: tuple[float, ...] = ()
    share: tuple[float, ...] = ()


class Reference(msgspec.Struct, frozen=True):
    """What scores and signals looked like in training, as the manifest tells it."""

    score: Distribution = Distribution()
    signals: Mapping[str, Distribution] = {}
