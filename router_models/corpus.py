"""The prompts written for training: kinds of requests with judged labels, and questions by subject.

Owns where they lie (`prompts/`) and their form. None is from a benchmark, and no figure is measured on them: their
labels are our judgement, made from the means that measured prompts of a like kind have.
"""

from pathlib import Path
from typing import Annotated

import msgspec

from gateway.core.judgement import DOMAINS

PROMPTS = Path(__file__).parent / "prompts"

Chance = Annotated[float, msgspec.Meta(ge=0, le=1)]


class Written(msgspec.Struct, frozen=True):
    """One written prompt: the judged chances of a good answer, how long one is, and what it is about."""

    prompt: str
    kind: str
    weak: Chance
    strong: Chance
    output_tokens: Annotated[int, msgspec.Meta(ge=1)]
    domain: str
    language: str = "en"

    @property
    def gap(self) -> float:
        """What is gained by asking the strong side."""
        return self.strong - self.weak

    @property
    def win(self) -> float:
        """The chance that strong is right where weak is not: between errors that coincide, and independent ones."""
        return (max(self.gap, 0.0) + self.strong * (1.0 - self.weak)) / 2


def load_kinds(folder: Path = PROMPTS) -> list[Written]:
    """Read the prompts by kind, files in the order of their names."""
    files = sorted((folder / "kinds").glob("*.jsonl"))
    decoder = msgspec.json.Decoder(Written)
    return [decoder.decode(line) for file in files for line in file.read_bytes().splitlines() if line.strip()]


def load_domains(folder: Path = PROMPTS) -> list[tuple[str, str]]:
    r"""Read (prompt, domain) of the questions by subject; a file a domain, a line a prompt, `\\n` for a line's end."""
    questions = []
    for domain in DOMAINS:
        file = folder / "domains" / f"{domain.replace(' ', '_')}.txt"
        lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
        questions += [(line.replace("\\n", "\n"), domain) for line in lines if line.strip()]
    return questions
