"""What is shipped of a router: model.onnx, manifest.json and the model card, all written from measured figures."""

import hashlib
from collections import Counter
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from gateway.classify.features import FEATURE_NAMES, FEATURE_VERSION
from router_models.data import Example
from router_models.evaluate import Figures, Floats, Report, pooled_gain, threshold_for_share

SCORE_MEANING = (
    "The win rate: the chance that, for this prompt, a model drawn from the strong side answers better than one drawn "
    "from the weak side (a tie is no win), calibrated on held-out benches. A conversation's score is the highest of "
    "its judged texts."
)
SOURCES = {
    "mmlu_pro": ("TIGER-AI-Lab/MMLU-Pro, eval_results, rows that stem from MMLU left out", "Apache-2.0"),
    "zeroeval": ("WildEval/ZeroEval, result_dirs: math-l5, crux, numersense-v2", "Apache-2.0"),
    "llmrouter": ("ulab-uiuc/LLMRouter, 13 tasks", "MIT"),
    "vicuna80": ("lm-sys/vicuna-blog-eval, judged answers", "Apache-2.0"),
    "synthetic": ("written by router_models/synthetic.py; labels are our judgement, not measured", "Apache-2.0"),
    "own": ("a file given by whoever trained it", "theirs"),
}
LIBRARIES = ("numpy", "scikit-learn", "skl2onnx", "onnx", "onnxruntime")
SHARES = (0.1, 0.2, 0.3, 0.5, 0.7)


class Fit(msgspec.Struct, frozen=True):
    """Everything the manifest and the card tell about one training run."""

    chosen: str
    seed: int
    pool: list[Example]
    synthetic: list[Example]
    report: Report
    by_bench: Report
    bare: Report
    candidates: dict[str, float]
    held_out_score: Floats


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 4)
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    return value


def build_manifest(name: str, model: bytes, fit: Fit) -> dict[str, Any]:
    """Build the manifest: what the gateway checks first (name, sha256, feature_version), then what people read."""
    rows = Counter(example.source for example in fit.pool + fit.synthetic)
    manifest = {
        "name": name,
        "sha256": hashlib.sha256(model).hexdigest(),
        "feature_version": FEATURE_VERSION,
        "features": len(FEATURE_NAMES),
        "score": SCORE_MEANING,
        "date": datetime.now(UTC).date().isoformat(),
        "seed": fit.seed,
        "model": fit.chosen,
        "libraries": {library: version(library) for library in LIBRARIES},
        "trained_on": [
            {"source": source, "rows": count, "from": SOURCES[source][0], "licence": SOURCES[source][1],
             "synthetic": source == "synthetic"}
            for source, count in sorted(rows.items())
        ],
        "figures": {
            "held_out": "leave one bench out; benches that are one benchmark under several names are left out together",
            "baselines": {"random_apgr": 0.5, "always_weak_pgr": 0.0, "always_strong_pgr": 1.0,
                          "prompt_length": "apgr_by_length beside every figure"},
            "pooled": msgspec.to_builtins(fit.report.pooled),
            "within_benches": {"apgr": fit.report.within_apgr, "apgr_by_length": fit.report.within_apgr_by_length},
            "pooled_single_bench_out": msgspec.to_builtins(fit.by_bench.pooled),
            "pooled_without_synthetic": msgspec.to_builtins(fit.bare.pooled),
            "candidates": fit.candidates,
            "benches": msgspec.to_builtins(fit.report.benches),
        },
        "thresholds_by_strong_share": {
            f"{share:g}": threshold_for_share(fit.held_out_score, share) for share in SHARES
        },
    }  # fmt: skip
    rounded: dict[str, Any] = _rounded(manifest)
    return rounded


def _row(name: str, figures: Figures) -> str:
    gain = figures.gain
    gained = "no gap | | | |" if gain is None else (
        f"{gain.apgr:.3f} [{gain.apgr_low:.2f}, {gain.apgr_high:.2f}] | {gain.apgr_by_length:.3f} "
        f"| {gain.cpt50:.0%} | {gain.cpt80:.0%} |"
    )  # fmt: skip
    return f"| {name} | {figures.rows} | {figures.weak:.2f} | {figures.strong:.2f} | {gained} {figures.ece:.3f} |"


def build_card(manifest: dict[str, Any], fit: Fit) -> str:
    """Write the model card from the manifest and the figures."""
    gain = pooled_gain(fit.report)
    sources = "\n".join(
        f"| {source['source']} | {source['rows']:,} | {source['from']} | {source['licence']} |"
        for source in manifest["trained_on"]
    )
    benches = "\n".join(_row(name, figures) for name, figures in fit.report.benches.items())
    candidates = "\n".join(f"| {name} | {value:.3f} |" for name, value in fit.candidates.items())
    shares = "\n".join(
        f"| {float(share):.0%} | {value:.3f} |" for share, value in manifest["thresholds_by_strong_share"].items()
    )
    above_half = float(np.mean(fit.held_out_score >= 0.5))
    beats_length = gain.apgr_low > gain.apgr_by_length
    head = f"| bench | rows | weak | strong | APGR [95%] | APGR of length | CPT50 | CPT80 | ECE |\n|{'---|' * 9}"
    return f"""# Router `{manifest["name"]}`

Written by `router_models/train.py` on {manifest["date"]} from the figures it measured; don't edit it by hand.

**What it does.** Reads {manifest["features"]} numbers measured from a prompt's text (`gateway/classify/features.py`,
version {manifest["feature_version"]}) and gives a score from 0 to 1. {manifest["score"]}

**What it is.** `{fit.chosen}` behind a clipping scaler, with a rising calibration curve, in one ONNX file.
Seed {fit.seed}. SHA-256 `{manifest["sha256"]}`.

## Trained on

| source | rows | from | licence |
|---|---|---|---|
{sources}

The weak side are models of about 2 to 13 billion parameters with a few larger cheap ones, the strong side models from
about 49 billion up (`router_models/sides.py` names each). Synthetic rows ({len(fit.synthetic)}, nine languages) carry
labels that we judged, not measured; no figure below is computed on them.

## Figures, on benches not trained on

APGR as RouteLLM defines it: 0.5 is a random router; always weak is PGR 0, always strong PGR 1 at 100% strong calls.
CPT is the share of strong calls that recovers 50% or 80% of the gap. Pooled rows weigh so that no benchmark dominates.

{head}
{_row("all, pooled", fit.report.pooled)}
{_row("all, pooled, single benches left out", fit.by_bench.pooled)}
{_row("all, pooled, without synthetic rows", fit.bare.pooled)}
{benches}

Within benches, each weighing by its gap: APGR {fit.report.within_apgr:.3f}, prompt length
{fit.report.within_apgr_by_length:.3f}, random 0.500. Where strong and weak are nearly equal, a bench's APGR divides by
almost nothing and means little.

Candidates, by the mean of pooled and within-bench APGR:

| model | merit |
|---|---|
{candidates}

## Limits

- It sees the form of a prompt, not its truth: it tells kinds of task apart (chat, facts, code, proofs), and hardly
  tells a hard question from an easy one of the same benchmark. Pooled, it is
  {"better than" if beats_length else "no better than"} prompt length beyond the 95% interval.
- Features and model were chosen on the same held-out benches, so the figures are a little too good.
- The rows named `gsm8k` and `mmlu` are LLMRouter's tasks; by the account of the pool's publisher they share no question
  with the benchmarks of those names. Their form is the same, so those benchmarks are not wholly out of
  domain.
- The score is calibrated on this pool. {above_half:.1%} of its held-out prompts reach 0.5. Fixed thresholds don't
  travel: calibrate on your own traffic, or set `strong_share`. On this pool:

| share to the strong side | threshold |
|---|---|
{shares}

- Nearly all measured rows are English exam and quiz questions; other languages rest on the synthetic rows.
- Most gaps come from right-or-wrong scoring of models of 2023 and 2024; yours may differ.

## Retrain

```
pip install 'postern[train]'
python -m router_models.train --data YOUR.jsonl --out router_models/artifacts/mine
```
"""


def write_artifact(out: Path, model: bytes, fit: Fit) -> None:
    """Write the three files, each swapped in whole; the manifest last, so that its sha256 refuses a mix."""
    manifest = build_manifest(out.name, model, fit)
    out.mkdir(parents=True, exist_ok=True)
    text = msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n"
    for name, data in (
        ("model.onnx", model), ("MODEL_CARD.md", build_card(manifest, fit).encode()), ("manifest.json", text),
    ):  # fmt: skip
        partial = out / f".{name}.partial"
        partial.write_bytes(data)
        partial.replace(out / name)
