"""Options and arguments that several training commands take: routers, pairs, prices."""

from collections.abc import Callable, Sequence
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from gateway.app import router_folder
from gateway.classify.onnx import ClassifierLoadError, OnnxClassifier
from gateway.core.judgement import Judgement
from gateway.schema.conversation import Conversation
from router_models.commands.console import Refusal, progress
from router_models.costs import Price
from router_models.example import Pair

OUTPUT_TOKENS = 300.0

Command = Callable[..., Any]


def router_option(*, several: bool) -> Callable[[Command], Command]:
    """Return `--router`."""
    default: Any = ("default",) if several else "default"
    return click.option(
        "--router", "routers" if several else "router", multiple=several, default=default, show_default=True,
        help="Router's name, or its folder (with a slash)." + (" Again for more, side by side." if several else ""),
    )  # fmt: skip


def pair_options(command: Command) -> Command:
    """Add `--weak` and `--strong`."""
    for side in ("strong", "weak"):
        command = click.option(
            f"--{side}", multiple=True, metavar="MODEL",
            help=f"Model of the {side} side, cut from the data's scores of many. Again for several, averaged.",
        )(command)  # fmt: skip
    return command


def price_options(command: Command) -> Command:
    """Add `--price` and `--output-tokens`."""
    command = click.option(
        "--output-tokens", type=click.FloatRange(min=1), default=None,
        help=f"Tokens of an answer. Default: as the router expects them, else {OUTPUT_TOKENS:g}.",
    )(command)  # fmt: skip
    return click.option(
        "--price", "prices", multiple=True, metavar="SIDE=IN/OUT",
        help="USD per million tokens, input/output, e.g. weak=0.05/0.10; needed for both sides.",
    )(command)  # fmt: skip


def parse_pair(weak: Sequence[str], strong: Sequence[str]) -> Pair | None:
    """Return the pair, or None where none is named. Refuses half a pair, and a model on both sides."""
    if not weak and not strong:
        return None
    if not weak or not strong:
        raise Refusal("name both sides of the pair: --weak MODEL --strong MODEL")
    if both := set(weak) & set(strong):
        raise Refusal(f"on both sides: {', '.join(sorted(both))}; a model is weak or strong")
    return Pair(tuple(weak), tuple(strong))


def parse_prices(given: Sequence[str]) -> tuple[Price, Price] | None:
    """Return the weak and the strong price, or None where none is given."""
    found = {}
    for text in given:
        side, _, figures = text.partition("=")
        try:
            both = [float(figure) for figure in figures.split("/")]
        except ValueError:
            both = []
        if side not in {"weak", "strong"} or len(both) != 2 or not all(0 <= one < float("inf") for one in both):
            raise Refusal(f"--price {text}: expected weak=IN/OUT or strong=IN/OUT, USD per million tokens")
        found[side] = Price(*both)
    if not found:
        return None
    if len(found) == 1:
        raise Refusal("give the price of both sides: --price weak=0.05/0.10 --price strong=2.50/10")
    return found["weak"], found["strong"]


def open_router(name: str) -> OnnxClassifier:
    """Load a router. Refuses with what is wrong with it."""
    try:
        return OnnxClassifier.load(router_folder(name))
    except ClassifierLoadError as error:
        raise Refusal(str(error)) from error


def judge_all(router: OnnxClassifier, asked: Sequence[Conversation], label: str) -> list[Judgement]:
    """Judge conversations behind a progress bar."""
    return [router.judge(conversation) for conversation in progress(asked, label)]


def expected_output(judged: Sequence[Judgement], given: float | None) -> NDArray[np.float64]:
    """Return the tokens of each answer: those given, else as the router expects them."""
    return np.array([given or float(one.output_tokens or OUTPUT_TOKENS) for one in judged])
