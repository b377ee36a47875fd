"""Loads prompts with the scores models had on them. Holds no data: files are read by path, never copied.

Two forms. A folder with `routing_pool.parquet` (columns source, bench, id, prompt, weak, strong, scores), or a JSONL
file of your own, one prompt a line:

    {"prompt": "Prove that ...", "weak": 0.2, "strong": 0.9, "bench": "mine"}

`weak` and `strong` are mean scores from 0 to 1 of the models you call weak and strong; `bench` is optional.
"""

from collections import Counter
from pathlib import Path
from typing import Annotated

import msgspec
from pyarrow import parquet

from router_models.sides import STRONG_SIDE, WEAK_SIDE, side_scores, win_rate

POOL_NAME = "routing_pool.parquet"
# The pool writes its means with three decimals or more.
MEAN_TOLERANCE = 2e-3

Score = Annotated[float, msgspec.Meta(ge=0, le=1)]


class DataError(Exception):
    """The data can't be read, or is not what it says it is. The message says where."""


class Example(msgspec.Struct, frozen=True):
    """One prompt with the mean scores of its weak and strong sides, and the win rate to learn."""

    prompt: str
    bench: str
    source: str
    weak: float
    strong: float
    win: float

    @property
    def gap(self) -> float:
        """What is gained by asking the strong side."""
        return self.strong - self.weak

    @property
    def family(self) -> str:
        """The benches that are one benchmark under several names, to be held out together."""
        return FAMILIES.get(self.bench, self.bench.split("/", 1)[0] if self.source != "llmrouter" else self.bench)


# llmrouter/math and math-l5 are both cut from MATH; a subject of MMLU-Pro shares its form with every other.
FAMILIES = {"llmrouter/math": "math", "zeroeval/math-l5": "math", "zeroeval/crux": "crux",
            "zeroeval/numersense-v2": "numersense"}  # fmt: skip


class _Line(msgspec.Struct, frozen=True):
    prompt: str
    weak: Score
    strong: Score
    bench: str = "own"


def load(path: Path) -> list[Example]:
    """Read a pool folder, a parquet file or a JSONL file. Raises DataError with the row or line at fault."""
    if path.is_dir():
        path = path / POOL_NAME
    if not path.is_file():
        raise DataError(f"{path}: no such file; give a folder with {POOL_NAME}, a .parquet or a .jsonl file")
    return _load_pool(path) if path.suffix == ".parquet" else _load_jsonl(path)


def _load_jsonl(path: Path) -> list[Example]:
    decoder = msgspec.json.Decoder(_Line)
    examples = []
    for number, raw in enumerate(path.read_bytes().splitlines(), start=1):
        if not raw.strip():
            continue
        try:
            line = decoder.decode(raw)
        except msgspec.DecodeError as error:
            raise DataError(f"{path}:{number}: {error}") from error
        # Only means are known: the strong side wins where it is right and the weak side is not, taken as independent.
        win = line.strong * (1.0 - line.weak)
        examples.append(Example(line.prompt, line.bench, "own", line.weak, line.strong, win))
    if not examples:
        raise DataError(f"{path}: no examples")
    return examples


def _load_pool(path: Path) -> list[Example]:
    rows = parquet.read_table(path).to_pylist()
    decoder = msgspec.json.Decoder(dict[str, float])
    examples = []
    for row in rows:
        source = row["source"]
        if source not in WEAK_SIDE or source not in STRONG_SIDE:
            raise DataError(f"{path}: row {row['id']}: source {source!r} has no sides in sides.py")
        weak, strong = side_scores(source, decoder.decode(row["scores"]))
        means = (sum(weak) / len(weak), sum(strong) / len(strong))
        if max(abs(means[0] - row["weak"]), abs(means[1] - row["strong"])) > MEAN_TOLERANCE:
            raise DataError(f"{path}: row {row['bench']} {row['id']}: the sides' means are not the columns' means")
        bench = "vicuna80" if source == "vicuna80" else row["bench"]
        examples.append(Example(row["prompt"], bench, source, *means, win_rate(weak, strong)))
    return examples


def weigh(examples: list[Example]) -> list[float]:
    """Weigh rows so that a family of benches counts by the square root of its size, mean 1.

    Equal rows would let one benchmark's style decide everything; equal families would hand a tenth of the model to 65
    rows.
    """
    rows = Counter(example.family for example in examples)
    weights = [rows[example.family] ** -0.5 for example in examples]
    mean = sum(weights) / len(weights)
    return [weight / mean for weight in weights]
