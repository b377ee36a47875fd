"""Draws quality over cost from a router's manifest: figures of benches that the router was not trained on.

`python -m router_models.picture router_models/artifacts/default docs/quality-cost.png`
"""

from pathlib import Path

import click
import msgspec
import numpy as np

from router_models.assess import Point
from router_models.commands.console import write_whole
from router_models.plots import cost_png

WEAK_USD, STRONG_USD = 0.04, 3.50
"""What 1,000 calls cost: 200 tokens in and 300 out, at 0.05 and 0.10 USD a million on the weak side, 2.50 and 10 on the
strong side."""


class Pooled(msgspec.Struct):
    """How many prompts, and the mean scores of either side."""

    rows: int
    weak: float
    strong: float


class Figures(msgspec.Struct):
    """What of the manifest's figures is drawn."""

    pooled: Pooled
    pooled_pgr: dict[str, list[float]]


class Manifest(msgspec.Struct):
    """A router's manifest, as far as it is drawn."""

    name: str
    figures: Figures


def points(figures: Figures, pgr: list[float]) -> list[Point]:
    """Return quality and cost of each mix, from all weak to all strong."""
    gap = figures.pooled.strong - figures.pooled.weak
    return [
        Point(share, figures.pooled.weak + gap * gained, gained, WEAK_USD + (STRONG_USD - WEAK_USD) * share)
        for share, gained in zip(np.linspace(0, 1, len(pgr)).tolist(), pgr, strict=True)
    ]


@click.command()
@click.argument("router", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.argument("out", type=click.Path(path_type=Path, dir_okay=False))
def main(router: Path, out: Path) -> None:
    """Draw the quality and cost of ROUTER's mixes, on benches left out of training, to the PNG file OUT."""
    manifest = msgspec.json.decode((router / "manifest.json").read_bytes(), type=Manifest)
    mixes = {name: points(manifest.figures, pgr) for name, pgr in manifest.figures.pooled_pgr.items()}
    chance = np.linspace(0, 1, len(next(iter(mixes.values())))).tolist()
    mixes["random"] = points(manifest.figures, chance)
    title = f"router {manifest.name}: {manifest.figures.pooled.rows:,} prompts of benches it was not trained on"
    write_whole(out, cost_png(mixes, title))


if __name__ == "__main__":
    main()
