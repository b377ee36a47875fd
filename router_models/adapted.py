"""An adapted router's folder: the shipped graph with the residual behind it, its manifest and card."""

import hashlib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from router_models.evaluate import Floats
from router_models.export import serving_bytes
from router_models.reference import build_bins
from router_models.residual import Adaptation

MODEL, MANIFEST, CARD = "model.onnx", "manifest.json", "MODEL_CARD.md"


def build_folder(base: Path, name: str, model: bytes, found: Adaptation, score: Floats) -> dict[str, bytes]:
    """Return the files of the adapted router by name, the manifest last: its sha256 refuses a mix of old and new.

    `score`: the adapted scores of the labels, which live scores are to look like from now on.
    """
    manifest: dict[str, Any] = msgspec.json.decode((base / MANIFEST).read_bytes())
    told = adaptation_of(manifest, found)
    manifest |= {
        "name": name,
        "sha256": hashlib.sha256(model).hexdigest(),
        "bytes": len(model),
        "serving_bytes": serving_bytes(model),
        "adapted": told,
    }
    manifest.pop("figures", None)
    manifest.pop("thresholds_by_strong_share", None)
    manifest.pop("thresholds_by_strong_share_written", None)
    if "reference" in manifest:
        manifest["reference"]["score"] = build_bins(score)
    card = build_card(name, told, (base / CARD).read_text() if (base / CARD).is_file() else "")
    return {
        MODEL: model,
        CARD: card.encode(),
        MANIFEST: msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n",
    }


def adaptation_of(manifest: dict[str, Any], found: Adaptation) -> dict[str, Any]:
    """Say what an adapted router was made from, and what was measured on labels that its folds had not seen."""
    return {
        "from": {"name": manifest.get("name"), "sha256": manifest.get("sha256")},
        "date": datetime.now(UTC).date().isoformat(),
        "labels": found.labels,
        "held_out_apgr": {"adapted": round(found.adapted, 4), "shipped": round(found.shipped, 4)},
        "difference_95": [round(one, 4) for one in found.difference],
        "strength": found.strength,
        "learning_curve": msgspec.to_builtins(found.curve),
    }


def build_card(name: str, told: dict[str, Any], base_card: str) -> str:
    """Write the adapted router's card; the card of the router it was made from follows it whole."""
    apgr, (low, high) = told["held_out_apgr"], told["difference_95"]
    curve = "\n".join(
        f"| {step['labels']} | {step['adapted']:.3f} | {step['shipped']:.3f} |" for step in told["learning_curve"]
    )
    return f"""# Router `{name}`, adapted from `{told["from"]["name"]}`

Written by `postern adapt` on {told["date"]}. The router it was made from (SHA-256 `{told["from"]["sha256"]}`), with a
residual on its logit and its representation behind it, fitted on {told["labels"]} labels of one pair of models.

APGR on labels held out of fit and strength, five folds: {apgr["adapted"]:.3f}, as shipped {apgr["shipped"]:.3f};
difference {apgr["adapted"] - apgr["shipped"]:+.3f}, 95% [{low:+.3f}, {high:+.3f}]. Random is 0.500.

| labels fitted | APGR on the rest | as shipped |
|---|---|---|
{curve}

It holds for that pair and for prompts like the labelled ones. The chances of a good answer, the domain and the expected
tokens are the shipped router's. Thresholds of the shipped router don't carry over: calibrate again.

---

{base_card}"""
