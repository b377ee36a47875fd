"""Draws curves: in plain characters for the terminal, as PNG for documents. Knows nothing but figures."""

import io
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from router_models.assess import Bin, Point

WIDTH, HEIGHT = 61, 17
MARKS = "ox+*#@%&"
BASELINES = {"prompt length": "--", "random": ":"}


def terminal_curve(curves: Mapping[str, Sequence[float]]) -> str:
    """Draw PGR over the strong share, one mark a curve; dots are chance. A later curve covers an earlier one."""
    grid = [[" "] * WIDTH for _ in range(HEIGHT)]
    for column in range(WIDTH):
        grid[_row(column / (WIDTH - 1))][column] = "."
    for mark, curve in zip(MARKS, curves.values(), strict=False):
        for column, value in enumerate(np.interp(np.linspace(0, 1, WIDTH), np.linspace(0, 1, len(curve)), curve)):
            grid[_row(float(value))][column] = mark
    lines = [f"{1 - row / (HEIGHT - 1):5.2f} |{''.join(cells)}" for row, cells in enumerate(grid)]
    names = "   ".join(f"{mark} {name}" for mark, name in zip(MARKS, curves, strict=False))
    axis = "      +" + "-" * WIDTH
    ticks = "       0%" + "strong share".center(WIDTH - 6) + "100%"
    return "\n".join(["  PGR", *lines, axis, ticks, f"       {names}   . chance"])


def _row(value: float) -> int:
    return HEIGHT - 1 - round(min(max(value, 0.0), 1.0) * (HEIGHT - 1))


def curve_png(curves: Mapping[str, Sequence[float]], bins: Mapping[str, Sequence[Bin]], title: str) -> bytes:
    """Draw the PGR curves and the reliability curves side by side; return a PNG."""
    figure = Figure(figsize=(10, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    for axes, label in ((left, "chance"), (right, "calibrated")):
        axes.plot([0, 1], [0, 1], color="0.6", linestyle=":", label=label)
        axes.set_xlim(0, 1)
        axes.grid(visible=True, color="0.9")
    for name, curve in curves.items():
        left.plot(np.linspace(0, 1, len(curve)), curve, label=name, linestyle=BASELINES.get(name, "-"))
    for name, found in bins.items():
        right.plot([one.score for one in found], [one.win for one in found], marker="o", label=name)
    left.set(xlabel="share of calls to the strong side", ylabel="PGR", title=title)
    right.set(xlabel="score (win rate promised)", ylabel="win rate found", title="reliability", ylim=(0, 1))
    left.legend()
    right.legend()
    return _png(figure)


def cost_png(mixes: Mapping[str, Sequence[Point]], title: str) -> bytes:
    """Draw quality over cost, from all weak to all strong; return a PNG."""
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for name, points in mixes.items():
        usd = [point.usd_per_1000 or 0.0 for point in points]
        axes.plot(usd, [point.quality for point in points], label=name, linestyle=BASELINES.get(name, "-"))
    ends = next(iter(mixes.values()))
    for point, name in ((ends[0], "always weak"), (ends[-1], "always strong")):
        axes.plot(point.usd_per_1000 or 0.0, point.quality, marker="o", color="black")
        side = {"always weak": "left", "always strong": "right"}[name]
        axes.annotate(
            name, (point.usd_per_1000 or 0.0, point.quality), textcoords="offset points", xytext=(0, -14), ha=side
        )
    axes.set(xlabel="USD for 1,000 requests", ylabel="quality (mean score)", title=title)
    axes.grid(visible=True, color="0.9")
    axes.legend()
    return _png(figure)


def _png(figure: Figure) -> bytes:
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png", dpi=120, metadata={"Software": None})
    return drawn.getvalue()
