"""`postern calibrate`: finds the threshold for a strong share, a budget or a bounded loss; prints YAML to paste."""

from pathlib import Path
from typing import Any

import click
import msgspec
import numpy as np

from gateway.classify.onnx import OnnxClassifier
from router_models import bounds
from router_models.bounds import TooFewLabelsError, certify
from router_models.commands.console import Refusal, refusing
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
from router_models.costs import Costs, Price, costs_of, price_requests
from router_models.data import DataError, Example, load, load_prompts
from router_models.evaluate import Floats
from router_models.thresholds import BudgetError, Threshold, at, for_budget, for_share

MIN_PROMPTS = 20
# A threshold that misses the share asked for by more than this is said to.
MISSED_SHARE = 0.02


class Percent(click.ParamType[float]):
    """A share: 0.02 or 2%."""

    name = "share"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return a float from 0 to 1."""
        text = str(value).strip()
        try:
            share = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
        except ValueError:
            share = -1.0
        if not 0 <= share <= 1:
            self.fail(f"{value!r}: expected a share such as 0.02 or 2%, from 0 to 100%", param, ctx)
        return share


class Calibration(msgspec.Struct, frozen=True, omit_defaults=True):
    """What `--json` prints. `certified` is there for a bounded loss only, `asked_share` for a share."""

    router: str
    rule: str
    chosen: Threshold
    share_error: float
    certified: bounds.Certified | None = None
    asked_share: float | None = None


class Sample(msgspec.Struct, frozen=True):
    """The prompts that shares and costs are reckoned on."""

    score: Floats
    costs: Costs | None


@click.command(
    epilog="\b\nExamples:\n  postern calibrate --traffic prompts.jsonl --strong-share 30%"
    "\n  postern calibrate --traffic prompts.jsonl --budget-usd 1.50 --price weak=0.05/0.10 --price strong=2.50/10"
    "\n  postern calibrate --data labels.jsonl --max-quality-loss 2% --confidence 95%"
)
@click.option("--data", type=click.Path(path_type=Path), help="Labelled prompts: any form of router_models/README.md.")
@click.option("--traffic", type=click.Path(path_type=Path), help='Prompts without labels: {"prompt"} or {"messages"}.')
@click.option("--strong-share", type=Percent(), help="Rule 1: this share to the strong side.")
@click.option("--budget-usd", type=click.FloatRange(min=0), help="Rule 2: at most these USD for 1,000 requests.")
@click.option("--budget-share", type=Percent(), help="Rule 2: at most this share of what the strong side alone costs.")
@click.option(
    "--max-quality-loss",
    type=Percent(),
    help="Rule 3: lose at most this against always strong; points of a 0 to 1 score.",
)
@click.option("--confidence", type=Percent(), default="95%", show_default=True, help="With which rule 3 holds.")
@price_options
@pair_options
@router_option(several=False)
@click.option("--route", default="auto", show_default=True, help="Route named in the YAML.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--seed", type=int, default=7, show_default=True, help="Order in which rule 3 reads the labels.")
def calibrate(  # noqa: PLR0913, PLR0917  # options, an argument each
    data: Path | None, traffic: Path | None, strong_share: float | None, budget_usd: float | None,
    budget_share: float | None, max_quality_loss: float | None, confidence: float, prices: tuple[str, ...],
    output_tokens: float | None, weak: tuple[str, ...], strong: tuple[str, ...], router: str, route: str,
    as_json: bool, seed: int,
) -> None:  # fmt: skip
    """Find a threshold: for a strong share, for a budget, or for a bounded loss of quality.

    Give one rule. Shares and costs are those of --traffic where it is given, else of --data. Rule 3 needs labels and
    refuses, with the number needed, where they are too few. Its guarantee is for prompts drawn as the labels were.
    """
    rules = {"--strong-share": strong_share, "--budget-usd": budget_usd, "--budget-share": budget_share,
             "--max-quality-loss": max_quality_loss}  # fmt: skip
    if sum(rule is not None for rule in rules.values()) != 1:
        raise Refusal(f"give one rule, of {', '.join(rules)}")
    if data is None and traffic is None:
        raise Refusal("give prompts: --traffic FILE, or --data FILE with labels")
    priced, opened = parse_prices(prices), open_router(router)
    with refusing(DataError, TooFewLabelsError, BudgetError):
        examples = load(data, parse_pair(weak, strong)) if data else []
        if data is not None:
            _check_enough(data, len(examples))
        labelled = _judge_labels(opened, examples, priced, output_tokens)
        sample = _judge_traffic(opened, traffic, priced, output_tokens) if traffic else labelled
        if max_quality_loss is not None:
            found = _bounded(router, labelled, examples, sample, (max_quality_loss, confidence, seed))
        elif strong_share is not None:
            chosen = for_share(sample.score, strong_share, sample.costs)
            rule = f"strong share {strong_share:.4g}"
            found = Calibration(router, rule, chosen, chosen.share_error, asked_share=strong_share)
        else:
            found = _within_budget(router, sample, budget_usd, budget_share)
    click.echo(msgspec.json.format(msgspec.json.encode(found)).decode() if as_json else _yaml(found, route))


def _judge_labels(
    router: OnnxClassifier, examples: list[Example], priced: tuple[Price, Price] | None, output: float | None
) -> Sample:
    judged = judge_all(router, [example.asked for example in examples], "labels")
    score = np.array([one.score for one in judged])
    return Sample(score, costs_of(examples, priced, expected_output(judged, output)) if examples else None)


def _judge_traffic(
    router: OnnxClassifier, path: Path, priced: tuple[Price, Price] | None, output: float | None
) -> Sample:
    asked = load_prompts(path)
    _check_enough(path, len(asked))
    judged = judge_all(router, asked, "traffic")
    costs = price_requests(asked, expected_output(judged, output), *priced) if priced else None
    return Sample(np.array([one.score for one in judged]), costs)


def _check_enough(path: Path, rows: int) -> None:
    if rows < MIN_PROMPTS:
        raise Refusal(f"{path}: {rows} prompts; fewer than {MIN_PROMPTS} say nothing about traffic")


def _bounded(
    router: str, labelled: Sample, examples: list[Example], sample: Sample, asked: tuple[float, float, int]
) -> Calibration:
    max_loss, confidence, seed = asked
    if not examples:
        raise Refusal("--max-quality-loss needs labels: --data FILE")
    if not 0 < max_loss < 1 or not 0.5 <= confidence < 1:
        raise Refusal("expected a loss between 0 and 100%, and a confidence from 50% to under 100%")
    gap = np.array([example.gap for example in examples])
    certified = certify(labelled.score, gap, max_loss, 1 - confidence, np.random.default_rng(seed))
    chosen = at(certified.threshold, sample.score, sample.costs)
    rule = f"lose at most {max_loss:.2%} against always strong, confidence {confidence:.1%}"
    return Calibration(router, rule, chosen, chosen.share_error, certified)


def _within_budget(router: str, sample: Sample, usd: float | None, share: float | None) -> Calibration:
    if sample.costs is None:
        raise Refusal("a budget needs prices: --price weak=IN/OUT --price strong=IN/OUT (USD per million tokens)")
    most = 1000 * float(sample.costs.strong.mean())
    budget = most * share if usd is None and share is not None else float(usd or 0.0)
    chosen = for_budget(sample.score, sample.costs, budget)
    return Calibration(router, f"at most {budget:.4g} USD for 1,000 requests", chosen, chosen.share_error)


def _yaml(found: Calibration, route: str) -> str:
    chosen = found.chosen
    spread = f"on others of their kind within {100 * found.share_error:.1f} points"
    lines = [
        f"# {found.rule}",
        f"# on {chosen.prompts} prompts: {chosen.strong_share:.1%} to the strong side, {spread}",
    ]
    if chosen.usd_per_1000 is not None and chosen.share_of_all_strong_cost is not None:
        of_all = f"{chosen.share_of_all_strong_cost:.1%} of always strong"
        lines.append(f"# {chosen.usd_per_1000:.4g} USD for 1,000 requests, {of_all}")
    if found.certified is not None:
        sure = found.certified
        more = f"; more labels might allow up to threshold {sure.hopeful:g} ({sure.hopeful_weak_share:.0%} weak)"
        more = more if sure.hopeful > sure.threshold else ""
        lines.append(f"# observed loss {sure.observed_loss:.2%} on {sure.labels} labels{more}")
        lines.append("# holds for prompts drawn as the labelled ones were, none of them trained on")
    elif found.asked_share is not None:
        if abs(chosen.strong_share - found.asked_share) > MISSED_SHARE:
            lines.append(
                f"# {found.asked_share:.1%} can't be reached: too many prompts have the same score, and go together"
            )
        lines.append(f"# fixed thresholds don't travel: `strong_share: {found.asked_share:.4g}` instead holds it live")
    policy = f"{{kind: complexity, threshold: {chosen.threshold:g}, router: {found.router}}}"
    return "\n".join([*lines, "routes:", f"  {route}:", f"    policy: {policy}"])
