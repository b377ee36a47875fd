"""What is shipped of a router: model.onnx, manifest.json and the model card, all written from measured figures."""

import hashlib
from collections import Counter
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec

from gateway.classify.features import FEATURE_NAMES, FEATURE_VERSION
from gateway.core.judgement import DOMAINS
from router_models.corpus import Written
from router_models.data import Example
from router_models.evaluate import Floats, Report, threshold_for_share
from router_models.export import serving_bytes
from router_models.reference import build_reference

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
    "written": ("router_models/prompts/: written for this; labels are our judgement, not measured", "Apache-2.0"),
    "own": ("a file given by whoever trained it", "theirs"),
}
LIBRARIES = ("numpy", "scikit-learn", "onnx", "onnxruntime")
# Below it a domain is named wrongly more often than a specialist is worth.
DOMAIN_FLOOR = 0.3
SHARES = (0.1, 0.2, 0.3, 0.5, 0.7)


class Judged(msgspec.Struct, frozen=True):
    """What the finished router says of its training prompts: scores and drift signals, a value a prompt."""

    scores: Floats
    signals: dict[str, Floats]


class Fit(msgspec.Struct, frozen=True):
    """Everything the manifest and the card tell about one training run."""

    chosen: str
    seed: int
    measured: list[Example]
    written: list[Written]
    subjects: list[tuple[str, str]]
    report: Report
    by_bench: Report
    bare: Report
    recipes: dict[str, float]
    domain_accuracy: float
    judged: Judged
    held_out: Floats
    curves: dict[str, list[float]]
    words: int

    @property
    def held_out_score(self) -> Floats:
        """The scores of measured prompts, each by a router that saw no prompt of its bench."""
        return self.held_out[: len(self.measured)]

    @property
    def held_out_written(self) -> Floats:
        """The scores of written prompts, each by a router that saw no prompt of its kind."""
        return self.held_out[len(self.measured) :]


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 4)
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    return value


def build_manifest(name: str, model: bytes, fit: Fit) -> dict[str, Any]:
    """Build the manifest: what the gateway checks first (name, sha256, feature_version), then what people read."""
    rows = Counter(example.source for example in fit.measured)
    rows["written"] = len(fit.written) + len(fit.subjects)
    manifest = {
        "name": name,
        "sha256": hashlib.sha256(model).hexdigest(),
        "feature_version": FEATURE_VERSION,
        "features": len(FEATURE_NAMES),
        "domains": DOMAINS,
        "domain_floor": DOMAIN_FLOOR,
        "score": SCORE_MEANING,
        "date": datetime.now(UTC).date().isoformat(),
        "seed": fit.seed,
        "model": fit.chosen,
        "words": fit.words,
        "bytes": len(model),
        "serving_bytes": serving_bytes(model),
        "libraries": {library: version(library) for library in LIBRARIES},
        "trained_on": [
            {"source": source, "rows": count, "from": SOURCES[source][0], "licence": SOURCES[source][1],
             "written": source == "written"}
            for source, count in sorted(rows.items())
        ],
        "figures": {
            "held_out": "leave one bench out; benches that are one benchmark under several names are left out together",
            "baselines": {"random_apgr": 0.5, "always_weak_pgr": 0.0, "always_strong_pgr": 1.0,
                          "prompt_length": "apgr_by_length beside every figure"},
            "pooled": msgspec.to_builtins(fit.report.pooled),
            "within_benches": {"apgr": fit.report.within_apgr, "apgr_by_length": fit.report.within_apgr_by_length},
            "over_length": dict(zip(("apgr", "low", "high"), fit.report.over_length, strict=True)),
            "mean_of_benches": {"apgr": fit.report.mean_apgr, "apgr_by_length": fit.report.mean_apgr_by_length},
            "pooled_single_bench_out": msgspec.to_builtins(fit.by_bench.pooled),
            "pooled_without_written": msgspec.to_builtins(fit.bare.pooled),
            "domain_accuracy": fit.domain_accuracy,
            "pooled_pgr": fit.curves,
            "recipes": fit.recipes,
            "benches": msgspec.to_builtins(fit.report.benches),
        },
        "thresholds_by_strong_share": {
            f"{share:g}": threshold_for_share(fit.held_out_score, share) for share in SHARES
        },
        "thresholds_by_strong_share_written": {
            f"{share:g}": threshold_for_share(fit.held_out_written, share) for share in SHARES
        },
    }  # fmt: skip
    rounded: dict[str, Any] = _rounded(manifest)
    rounded["reference"] = build_reference(fit.judged.scores, fit.judged.signals)
    return rounded


def write_artifact(out: Path, model: bytes, manifest: dict[str, Any], card: str) -> None:
    """Write the three files beside their places, then swap them in; the manifest last: its sha256 refuses a mix."""
    out.mkdir(parents=True, exist_ok=True)
    text = msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n"
    files = {"model.onnx": model, "MODEL_CARD.md": card.encode(), "manifest.json": text}
    partials = {name: out / f".{name}.partial" for name in files}
    try:
        for name, data in files.items():
            partials[name].write_bytes(data)
        for name, partial in partials.items():
            partial.replace(out / name)
    finally:
        for partial in partials.values():
            partial.unlink(missing_ok=True)
