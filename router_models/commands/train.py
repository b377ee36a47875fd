"""`postern train`: parses, shows progress, refuses. How a router is trained is in router_models/train.py."""

from pathlib import Path

import click

from router_models.commands.console import check_writable, refusing, say
from router_models.data import DataError
from router_models.evaluate import NoGapError
from router_models.export import ExportError
from router_models.train import train as train_router


@click.command(
    epilog="\b\nExamples:\n  postern train --data prompts.jsonl --out routers/mine"
    "\n  postern serve --config postern.yaml      with policy: {router: ./routers/mine}"
)
@click.option("--data", type=click.Path(path_type=Path), required=True, help="Pool folder, .parquet or .jsonl file.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), required=True, help="Folder to write to.")
@click.option(
    "--encoder", type=click.Path(path_type=Path, file_okay=False),
    help="Sentence encoder's folder. Default: the one installed from locks/encoder.txt.",
)  # fmt: skip
@click.option("--seed", type=int, default=7, show_default=True, help="Same data, seed and versions: same router.")
def train(data: Path, out: Path, encoder: Path | None, seed: int) -> None:
    """Train a router; write model.onnx, manifest.json and MODEL_CARD.md to a folder.

    A .jsonl file holds one {"prompt", "weak", "strong", "bench"} a line: mean scores, 0 to 1, of your weak and strong
    models. Ctrl-C leaves what is in the folder as it was.
    """
    check_writable(out)
    with refusing(DataError, NoGapError, ExportError, OSError):
        train_router(data, out, seed, say, words=encoder)
    say(f"written: {out}")
