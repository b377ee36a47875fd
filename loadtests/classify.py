"""What a judgement costs by the length of its prompt, in turns with another commit, and whether both say the same.

    python -m loadtests.classify                          this tree alone
    python -m loadtests.classify --against v0.4 --rounds 7
    python -m loadtests.classify --against HEAD~9 --data prompts.jsonl      {"prompt": ...} a line

Each turn is a process of its own that imports one tree, so that neither warms the other's caches; within a turn many
texts follow one another, so that no text is warm when its time comes. `p50` and `p99` are wall time, `cpu` the mean of
the thread's own clock, which a busy machine moves less.
"""

import argparse
import io
import json
import os
import random
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
TOKENS = (20, 200, 2000, 8000)
CHARS_A_TOKEN = 4
TEXTS = 200
PASSES = 6
ROUTER = Path("router_models/artifacts/default")
HERE = "this tree"


def compose(prompts: list[str], seed: int = 7) -> dict[str, list[str]]:
    """Return texts of each length, made of prompts put one behind the other."""
    rng = random.Random(seed)
    texts: dict[str, list[str]] = {}
    for tokens in TOKENS:
        texts[str(tokens)] = []
        for _ in range(TEXTS):
            text = rng.choice(prompts)
            while len(text) < tokens * CHARS_A_TOKEN:
                text += "\n\n" + rng.choice(prompts)
            texts[str(tokens)].append(text[: tokens * CHARS_A_TOKEN])
    return texts


def read_prompts(path: Path | None) -> list[str]:
    """Return the prompts of a file, else those written for training."""
    files = [path] if path else sorted((ROOT / "router_models/prompts/kinds").glob("*.jsonl"))
    lines = [line for file in files for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    return [json.loads(line)["prompt"] for line in lines]


def measure(texts: dict[str, list[str]], router: Path) -> dict[str, Any]:
    """Judge every text of this process's tree; return microseconds by length, and what was said."""
    from gateway.classify.onnx import OnnxClassifier  # noqa: PLC0415 - of whichever tree stands on the path
    from gateway.schema.conversation import Conversation, Turn  # noqa: PLC0415 - likewise

    classifier = OnnxClassifier.load(router)
    told: dict[str, Any] = {}
    for tokens, of_length in texts.items():
        asked = [Conversation((Turn("user", text),)) for text in of_length]
        said = [classifier.judge(one) for one in asked]
        durations_s = []
        began_s = time.thread_time()
        for _ in range(PASSES):
            for one in asked:
                started = time.perf_counter()
                classifier.judge(one)
                durations_s.append(time.perf_counter() - started)
        cpu_s = (time.thread_time() - began_s) / len(durations_s)
        durations_s.sort()
        told[tokens] = {
            "p50": statistics.median(durations_s) * 1e6,
            "p99": durations_s[len(durations_s) * 99 // 100] * 1e6,
            "cpu": cpu_s * 1e6,
            "said": [(one.score, one.weak_chance, one.strong_chance, one.domain, one.output_tokens) for one in said],
        }
    return told


def _turn(tree: Path, texts: Path) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, str(Path(__file__).resolve()), "--turn", str(texts), "--tree", str(tree)],
        env={**os.environ, "PYTHONPATH": str(tree)}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def _check_out(revision: str, folder: Path) -> Path:
    done = subprocess.run(["git", "archive", "--", revision], cwd=ROOT, capture_output=True, check=False)
    if done.returncode:
        print(f"--against {revision}: git knows no such commit; name one that `git log` shows", file=sys.stderr)
        sys.exit(2)
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as files:
        files.extractall(folder, filter="data")
    return folder


def _tell(turns: dict[str, list[dict[str, Any]]]) -> str:
    lines = ["| tokens | tree | p50 µs | p99 µs | CPU µs |", "|---|---|---|---|---|"]
    for tokens in map(str, TOKENS):
        for name, told in turns.items():
            figures = (statistics.median(one[tokens][figure] for one in told) for figure in ("p50", "p99", "cpu"))
            lines.append(f"| {tokens} | {name} | {' | '.join(f'{figure:.0f}' for figure in figures)} |")
    return "\n".join(lines)


def _compare(one: dict[str, Any], other: dict[str, Any]) -> str:
    pairs = [
        pair for tokens in map(str, TOKENS) for pair in zip(one[tokens]["said"], other[tokens]["said"], strict=True)
    ]
    chances = max(abs(a - b) for left, right in pairs for a, b in zip(left[:3], right[:3], strict=True))
    domains = sum(left[3] != right[3] for left, right in pairs)
    counts = sum(left[4] != right[4] for left, right in pairs)
    return (
        f"{len(pairs)} judgements: largest difference of score and chances {chances:.1e}; "
        f"other domain {domains}, other token count {counts}"
    )


def main() -> None:
    """Take turns, then print a table and what differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--against", help="a commit to take turns with")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--data", type=Path, help="prompts, JSON lines; default: those written for training")
    parser.add_argument("--turn", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--tree", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.turn:
        print(json.dumps(measure(json.loads(options.turn.read_text()), options.tree / ROUTER)))
        return
    with tempfile.TemporaryDirectory() as folder:
        trees = {HERE: ROOT}
        if options.against:
            trees[options.against] = _check_out(options.against, Path(folder) / "tree")
        texts = Path(folder) / "texts.json"
        texts.write_text(json.dumps(compose(read_prompts(options.data))))
        turns: dict[str, list[dict[str, Any]]] = {name: [] for name in trees}
        for _ in range(options.rounds):
            for name in random.sample(sorted(trees), len(trees)):
                turns[name].append(_turn(trees[name], texts))
    print(_tell(turns))
    if options.against:
        print(_compare(turns[HERE][0], turns[options.against][0]))


if __name__ == "__main__":
    main()
