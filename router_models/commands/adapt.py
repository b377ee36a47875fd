"""`postern adapt`: fits a residual to labels of one's own pair, and writes a router where it is better."""

from pathlib import Path

import click
import msgspec
import numpy as np

from gateway.app import router_folder
from gateway.classify.onnx import MODEL_FILE, OnnxClassifier
from router_models.adapted import build_folder
from router_models.commands.console import Refusal, progress, refusing, say, write_folder
from router_models.commands.options import open_router, pair_options, parse_pair, router_option
from router_models.data import DataError, load
from router_models.export import ExportError, from_model
from router_models.represent import deciding_text, represent
from router_models.residual import Adaptation, FewLabelsError, Labelled, merge_repeated
from router_models.residual import adapt as fit
from router_models.residual_export import attach, verify


@click.command(
    epilog="\b\nExamples:\n  postern adapt --labels labels.jsonl --out routers/mine"
    "\n  postern adapt --labels pool.parquet --weak gemma-7b --strong Qwen1.5-110B --out routers/mine"
    "\n  postern serve --config postern.yaml      with policy: {router: ./routers/mine}"
)
@click.option(
    "--labels", type=click.Path(path_type=Path), required=True,
    help="Labelled prompts of your pair, 100 at least, any form of router_models/README.md.",
)  # fmt: skip
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), required=True, help="Folder to write to.")
@router_option(several=False)
@pair_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--seed", type=int, default=7, show_default=True, help="Same labels and seed: same router.")
def adapt(  # noqa: PLR0913, PLR0917  # options, an argument each
    labels: Path, out: Path, router: str, weak: tuple[str, ...], strong: tuple[str, ...], as_json: bool, seed: int
) -> None:
    """Fit the shipped router to your own pair of models, from a few hundred labels.

    Writes a router only where it orders labels that it has not seen better than the shipped one; else says so, writes
    nothing and exits 0. Ctrl-C leaves what is in the folder as it was.
    """
    with refusing(DataError, FewLabelsError, ExportError, OSError):
        examples = load(labels, parse_pair(weak, strong))
        base = router_folder(router)
        opened = open_router(router)
        if out.resolve() == base.resolve():
            raise Refusal(f"--out {out} is the router to adapt itself; name another folder")
        shipped = (base / MODEL_FILE).read_bytes()
        space, _ = from_model(shipped)
        judged = [deciding_text(opened, example.asked) for example in progress(examples, "labels")]
        every = [text for _, text in judged]
        texts = list(dict.fromkeys(every))
        arrays = merge_repeated(every, Labelled(
            np.array([score for score, _ in judged]), represent(space, every),
            np.array([example.gap for example in examples]), np.array([example.win for example in examples]),
            len(space.mean),
        ))  # fmt: skip
        if len(texts) < len(every):
            say(f"{len(every)} labels of {len(texts)} prompts: those of the same text are averaged")
        say("fitting, five folds")
        found = fit(arrays, np.random.default_rng(seed))
        if found.residual is not None:
            score = found.residual.apply(arrays.score, arrays.representation)
            model = attach(shipped, found.residual)
            verify(model, texts, score)
            write_folder(out, build_folder(base, out.name, model, found, score))
            OnnxClassifier.load(out)
    click.echo(_json(found, out) if as_json else _tell(found, out))


def _json(found: Adaptation, out: Path) -> str:
    told = {name: getattr(found, name) for name in Adaptation.__struct_fields__ if name != "residual"}
    told |= {"is_adapted": found.residual is not None, "out": None if found.residual is None else str(out)}
    return msgspec.json.format(msgspec.json.encode(told)).decode()


def _tell(found: Adaptation, out: Path) -> str:
    low, high = found.difference
    gain = f"difference {found.adapted - found.shipped:+.3f}, 95% [{low:+.3f}, {high:+.3f}]; random 0.500"
    head = f"{found.labels} labels, APGR on held-out folds: as shipped {found.shipped:.3f}, adapted {found.adapted:.3f}"
    lines = [f"{head} ({gain})"]
    lines += [
        f"  fitted on {step.labels:5}: {step.adapted:.3f} on the rest (as shipped {step.shipped:.3f})"
        for step in found.curve
    ]
    if found.residual is None:
        lines.append(
            f"the shipped router stays: the residual is better in {found.sure:.0%} of draws only. Nothing was written; "
            "more labels, or labels from the traffic in question, may change that"
        )
    else:
        lines.append(f"written: {out} (serve it with policy: {{router: {_named(out)}}}; calibrate its threshold anew)")
    return "\n".join(lines)


def _named(out: Path) -> str:
    return str(out) if "/" in str(out) else f"./{out}"
