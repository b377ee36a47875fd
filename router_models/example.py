"""One prompt with known scores: what every loader gives and every measure takes. Knows nothing of files."""

import msgspec

from gateway.schema.conversation import Conversation, Turn

# llmrouter/math and math-l5 are both cut from MATH; a subject of MMLU-Pro shares its form with every other.
FAMILIES = {"llmrouter/math": "math", "zeroeval/math-l5": "math", "zeroeval/crux": "crux",
            "zeroeval/numersense-v2": "numersense"}  # fmt: skip


class DataError(Exception):
    """The data can't be read, or is not what it says it is. The message says where, and what would be right."""


class Example(msgspec.Struct, frozen=True):
    """One prompt with the mean scores of its weak and strong sides, 0 to 1, and the win rate to learn.

    `prompt` is the text of the last user turn; `conversation` is all of them where the data has messages. Costs are USD
    of this one request, None where the data has none.
    """

    prompt: str
    bench: str
    source: str
    weak: float
    strong: float
    win: float
    domain: str | None = None
    language: str | None = None
    weak_cost_usd: float | None = None
    strong_cost_usd: float | None = None
    conversation: Conversation | None = None

    @property
    def gap(self) -> float:
        """What is gained by asking the strong side."""
        return self.strong - self.weak

    @property
    def family(self) -> str:
        """The benches that are one benchmark under several names, to be held out together."""
        return FAMILIES.get(self.bench, self.bench.split("/", 1)[0] if self.source != "llmrouter" else self.bench)

    @property
    def asked(self) -> Conversation:
        """What a router judges."""
        return self.conversation or Conversation((Turn("user", self.prompt),))


class Pair(msgspec.Struct, frozen=True):
    """The models whose scores are the weak and the strong side; several on a side are averaged."""

    weak: tuple[str, ...]
    strong: tuple[str, ...]
