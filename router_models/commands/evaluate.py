"""`postern evaluate`: judges labelled prompts with one or several routers and prints the report. Writes no router."""

from pathlib import Path

import click
import msgspec
import numpy as np

from gateway.classify.onnx import OnnxClassifier
from router_models.assess import Scored
from router_models.commands.console import Refusal, progress, refusing, say, write_folder
from router_models.commands.options import (
    expected_output,
    judge_all,
    open_router,
    pair_options,
    parse_pair,
    parse_prices,
    price_options,
    router_option,
)
from router_models.costs import costs_of
from router_models.data import DataError, load
from router_models.evaluation import Evaluation, Operation, evaluate_routers, tell
from router_models.gadget import STEPS
from router_models.plots import cost_png, curve_png
from router_models.robustness import Report
from router_models.robustness import report as measure_robustness

MIN_ROWS = 20


@click.command(
    epilog="\b\nExamples:\n  postern evaluate --data labels.jsonl"
    "\n  postern evaluate --data labels.jsonl --router default --router ./routers/mine --out report/"
    "\n  postern evaluate --data routerbench.csv --weak mistralai/mixtral-8x7b-chat --strong gpt-4-1106-preview"
    "\n  postern evaluate --data labels.jsonl --price weak=0.05/0.10 --price strong=2.50/10 --threshold 0.3"
    "\n  postern evaluate --data labels.jsonl --robustness"
)
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    required=True,
    help="Labelled prompts: any form of router_models/README.md.",
)
@router_option(several=True)
@pair_options
@click.option(
    "--strong-share", type=click.FloatRange(0, 1), default=0.3, show_default=True,
    help="Share of strong calls at which mixes are compared.",
)  # fmt: skip
@click.option("--threshold", type=click.FloatRange(0, 1), help="Compare the routers' mixes at this threshold instead.")
@price_options
@click.option("--robustness", is_flag=True, help="Also try to fool each router (some seconds each).")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="Folder for report.json and the plots.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
@click.option("--seed", type=int, default=7, show_default=True, help="Seed of the bootstrap and of the changes.")
def evaluate(  # noqa: PLR0913, PLR0917  # options, an argument each
    data: Path, routers: tuple[str, ...], weak: tuple[str, ...], strong: tuple[str, ...], strong_share: float,
    threshold: float | None, prices: tuple[str, ...], output_tokens: float | None, robustness: bool, out: Path | None,
    as_json: bool, seed: int,
) -> None:  # fmt: skip
    """Measure routers on prompts with known scores: APGR, CPT, calibration, quality and cost of the mix."""
    priced = parse_prices(prices)
    with refusing(DataError):
        examples = load(data, parse_pair(weak, strong))
    if len(examples) < MIN_ROWS:
        raise Refusal(f"{data}: {len(examples)} examples; fewer than {MIN_ROWS} say nothing about a router")
    opened = {name: open_router(name) for name in dict.fromkeys(routers)}
    asked = [example.asked for example in examples]
    judged = {name: judge_all(router, asked, name) for name, router in opened.items()}
    scored = [
        Scored(name, np.array([one.score for one in found]), tuple(one.domain for one in found))
        for name, found in judged.items()
    ]
    costs = costs_of(examples, priced, expected_output(next(iter(judged.values())), output_tokens))
    found = evaluate_routers(
        data.name, examples, progress(scored, "measuring"), costs, Operation(strong_share, threshold), seed
    )
    if robustness:
        fooled = {name: _fool(name, router, strong_share, threshold, seed) for name, router in opened.items()}
        found = msgspec.structs.replace(found, robustness=fooled)
    if out is not None:
        _write(out, found)
    click.echo(msgspec.json.format(msgspec.json.encode(found)).decode() if as_json else tell(found))


def _fool(name: str, router: OnnxClassifier, strong_share: float, threshold: float | None, seed: int) -> Report:
    return measure_robustness(
        router.judge, threshold=threshold, strong_share=strong_share, seed=seed, search_steps=STEPS,
        progress=lambda steps: progress(steps, f"{name}: searching a gadget", STEPS),
    )  # fmt: skip


def _write(out: Path, found: Evaluation) -> None:
    bins = {one.router: one.reliability for one in found.routers}
    files = {"curve.png": curve_png(found.curves, bins, found.data)}
    if found.mixes:
        files["quality-cost.png"] = cost_png(found.mixes, found.data)
    files["report.json"] = msgspec.json.format(msgspec.json.encode(found)) + b"\n"
    with refusing(OSError):
        write_folder(out, files)
    say("written: " + ", ".join(f"{out}/{name}" for name in files))
