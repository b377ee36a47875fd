"""Paint one panel from the answers to its queries, in the colours of Grafana's dark theme."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, to_rgba
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, Rectangle
from matplotlib.ticker import FuncFormatter, MaxNLocator

from deploy.grafana.ask import Answer, Curve
from deploy.grafana.units import write

CANVAS, BOX, EDGE, LINE, TEXT, DIM = "#111217", "#181b1f", "#24272d", "#2b2e34", "#d5d6de", "#9a9ca6"
PALETTE = (
    *("#73BF69", "#F2CC0C", "#8AB8FF", "#FF780A", "#F2495C", "#5794F2", "#B877D9", "#705DA0", "#37872D", "#FADE2A"),
    *("#447EBC", "#C15C17", "#890F02", "#0A437C", "#6D1F62", "#584477"),
)
NAMED = {
    "green": "#73BF69",
    "yellow": "#FADE2A",
    "orange": "#FF9830",
    "red": "#F2495C",
    "blue": "#5794F2",
    "purple": "#B877D9",
    "text": TEXT,
    "transparent": TEXT,
}
SMALL, BODY, TITLE = 7.6, 8.6, 9.4
TITLE_PX, PAD_PX, LEGEND_PX = 30, 10, 16
MOST_LEGEND_ROWS = 6
MOST_CELLS = 60
"""Columns of a heat map up to which each cell has an edge."""


@dataclass(frozen=True)
class Area:
    """A panel's rectangle on the figure, in pixels from the lower left corner."""

    figure: Figure
    left: float
    bottom: float
    width: float
    height: float

    def axes(self, left: float, bottom: float, right: float, top: float) -> Axes:
        """Make axes that keep these distances to the panel's edges."""
        wide, high = (size * self.figure.dpi for size in self.figure.get_size_inches())
        found: Axes = self.figure.add_axes(
            (
                (self.left + left) / wide,
                (self.bottom + bottom) / high,
                (self.width - left - right) / wide,
                (self.height - bottom - top) / high,
            )
        )
        found.set_facecolor("none")
        return found

    def bare(self) -> Axes:
        """Make axes over all of the panel, counted in pixels, with nothing drawn of them."""
        found = self.axes(0, 0, 0, 0)
        found.set_xlim(0, self.width)
        found.set_ylim(0, self.height)
        found.axis("off")
        return found


@dataclass(frozen=True)
class Shown:
    """A panel and what its queries returned."""

    panel: Mapping[str, Any]
    answers: Sequence[Answer]
    area: Area

    @property
    def defaults(self) -> Mapping[str, Any]:
        """How its values are written."""
        found: Mapping[str, Any] = self.panel["fieldConfig"]["defaults"]
        return found

    @property
    def curves(self) -> list[Curve]:
        """Every series that has numbers."""
        return [curve for answer in self.answers for curve in answer.curves if curve.numbers]

    def write(self, value: float) -> str:
        """Write a value in the panel's unit."""
        decimals = self.defaults.get("decimals")
        return write(value, self.defaults.get("unit", "short"), None if decimals is None else int(decimals))

    def color(self, value: float) -> str:
        """Return the colour that the thresholds give a value."""
        steps = self.defaults.get("thresholds", {}).get("steps", ())
        names = [step["color"] for step in steps if step.get("value") is None or value >= step["value"]]
        return NAMED.get(names[-1], TEXT) if names else TEXT


def paint(shown: Shown) -> None:
    """Paint a panel."""
    area = shown.area
    back = area.bare()
    back.add_patch(
        FancyBboxPatch(
            (2, 2),
            area.width - 4,
            area.height - 4,
            boxstyle="round,pad=0,rounding_size=3",
            facecolor=BOX,
            edgecolor=EDGE,
            linewidth=1,
        )
    )
    back.text(PAD_PX, area.height - 19, shown.panel["title"], color=TEXT, fontsize=TITLE, va="center")
    if not shown.curves:
        back.text(area.width / 2, area.height / 2, shown.defaults["noValue"], color=DIM, fontsize=BODY, ha="center")
        return
    KINDS[shown.panel["type"]](shown, back)


def paint_stat(shown: Shown, back: Axes) -> None:
    """Paint one large number, with its past under it where that was asked for; several where there are several."""
    area, curves = shown.area, shown.curves
    if len(curves) == 1 and len(curves[0].points) > 1:
        axes = area.axes(3, 3, 3, area.height * 0.68)
        times, values = np.array(curves[0].points).T
        color = shown.color(curves[0].numbers[-1])
        axes.fill_between(times, values, np.nanmin(values), color=color, alpha=0.16, linewidth=0)
        axes.plot(times, values, color=color, linewidth=1.2)
        axes.set_xlim(times[0], times[-1])
        axes.margins(y=0.1)
        axes.axis("off")
    for place, curve in enumerate(curves):
        value = curve.numbers[-1]
        x = area.width * (place + 0.5) / len(curves)
        text = shown.write(value)
        size = min(24.0, 1.1 * area.width / len(curves) / max(4, len(text)))
        back.text(
            x,
            area.height * 0.5,
            text,
            color=shown.color(value),
            fontsize=size,
            ha="center",
            va="center",
        )
        if len(curves) > 1 or curve.labels:
            back.text(x, area.height * 0.2, curve.legend, color=DIM, fontsize=BODY, ha="center", va="center")


def paint_curves(shown: Shown, back: Axes) -> None:
    """Paint values over time and the legend's table under them."""
    curves = shown.curves
    colors = {id(curve): PALETTE[place % len(PALETTE)] for place, curve in enumerate(curves)}
    rows = sorted(curves, key=lambda curve: -mean(curve))[:MOST_LEGEND_ROWS]
    legend_px = LEGEND_PX * (len(rows) + 1) + 8
    axes = shown.area.axes(58, legend_px + 24, 14, TITLE_PX + 6)
    custom = shown.defaults.get("custom", {})
    if custom.get("stacking", {}).get("mode") == "normal":
        stack(axes, curves, colors)
    else:
        for curve in curves:
            times, values = np.array(curve.points).T
            axes.plot(times, values, color=colors[id(curve)], linewidth=1.5)
            if shown.defaults.get("min") == 0:
                axes.fill_between(times, values, 0, color=colors[id(curve)], alpha=0.07, linewidth=0)
    scale_curves(shown, axes)
    legend_of(shown, back, rows, colors, legend_px)


def stack(axes: Axes, curves: Sequence[Curve], colors: Mapping[int, str]) -> None:
    """Paint curves on top of each other; a series that is not there yet adds nothing."""
    times = sorted({at for curve in curves for at, _ in curve.points})
    values = [[dict(curve.points).get(at, 0.0) for at in times] for curve in curves]
    axes.stackplot(
        times, np.nan_to_num(values), colors=[colors[id(curve)] for curve in curves], alpha=0.45, linewidth=0
    )
    for curve, top in zip(curves, np.cumsum(np.nan_to_num(values), axis=0), strict=True):
        axes.plot(times, top, color=colors[id(curve)], linewidth=1.0)


def scale_curves(shown: Shown, axes: Axes) -> None:
    """Draw the axes, and the bounds from which something is to be done."""
    low, high = axes.get_ylim()
    low, high = shown.defaults.get("min", low), shown.defaults.get("max", high * 1.02)
    if shown.defaults.get("custom", {}).get("thresholdsStyle", {}).get("mode") == "dashed":
        for step in shown.defaults["thresholds"]["steps"]:
            value = step.get("value")
            if value is not None and low <= value:
                high = max(high, value * 1.15)
                axes.axhline(
                    value, color=NAMED.get(step["color"], TEXT), linestyle=(0, (5, 4)), linewidth=1.0, alpha=0.8
                )
    axes.set_ylim(low, high if high > low else low + 1)
    axes.grid(visible=True, color=LINE, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.yaxis.set_major_locator(MaxNLocator(4))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: write(value, shown.defaults.get("unit", "short"))))
    time_axis(axes, shown.curves)


def time_axis(axes: Axes, curves: Sequence[Curve]) -> None:
    """Write clock times under axes whose x is in seconds."""
    times = [at for curve in curves for at, _ in curve.points]
    axes.set_xlim(min(times), max(times))
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda at, _: time.strftime("%H:%M", time.gmtime(at))))
    axes.tick_params(colors=DIM, labelsize=SMALL, length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)


def legend_of(shown: Shown, back: Axes, rows: Sequence[Curve], colors: Mapping[int, str], height: float) -> None:
    """Write the legend's table: name, mean, largest, last."""
    width = shown.area.width
    ends = [width - PAD_PX - place * 76 for place in (2, 1, 0)]
    y = height - 4
    for end, name in zip(ends, ("Mean", "Max", "Last"), strict=True):
        back.text(end, y, name, color=PALETTE[2], fontsize=SMALL, ha="right", va="center")
    room = int((width - 3 * 76 - 40) / 5.6)
    for curve in rows:
        y -= LEGEND_PX
        name = curve.legend if len(curve.legend) <= room else f"{curve.legend[: room - 1]}…"
        back.plot([PAD_PX + 2, PAD_PX + 16], [y, y], color=colors[id(curve)], linewidth=2.6, solid_capstyle="butt")
        back.text(PAD_PX + 22, y, name, color=TEXT, fontsize=SMALL, va="center")
        for end, value in zip(ends, (mean(curve), max(curve.numbers), curve.numbers[-1]), strict=True):
            back.text(end, y, shown.write(value), color=TEXT, fontsize=SMALL, ha="right", va="center")


def mean(curve: Curve) -> float:
    """Return the mean of a curve's numbers."""
    return sum(curve.numbers) / len(curve.numbers)


GRADIENT = LinearSegmentedColormap.from_list("blue to purple", ["#5794F2", "#B877D9"])


def paint_bars(shown: Shown, back: Axes) -> None:
    """Paint totals as bars, standing or lying."""
    if shown.panel["options"].get("orientation") == "vertical":
        paint_histogram(shown)
        return
    area, curves = shown.area, sorted(shown.curves, key=lambda curve: -curve.numbers[-1])
    largest = max(curve.numbers[-1] for curve in curves) or 1.0
    room = area.height - TITLE_PX - 18
    step = min(46.0, room / len(curves))
    name_px, value_px = 0.34 * area.width, 78
    for place, curve in enumerate(curves):
        y, value = area.height - TITLE_PX - 8 - step * (place + 0.5), curve.numbers[-1]
        left, full = PAD_PX + name_px, area.width - name_px - value_px - 2 * PAD_PX
        back.text(left - 8, y, curve.legend, color=TEXT, fontsize=BODY, ha="right", va="center")
        back.add_patch(Rectangle((left, y - step * 0.33), full, step * 0.66, facecolor="#22252b", linewidth=0))
        long = full * value / largest
        ramp = GRADIENT(np.linspace(0, max(0.02, value / largest), 64))[None, :, :]
        back.imshow(
            ramp, extent=(left, left + max(2.0, long), y - step * 0.33, y + step * 0.33), aspect="auto", zorder=3
        )
        color = GRADIENT(value / largest)
        back.text(area.width - PAD_PX, y, shown.write(value), color=color, fontsize=BODY + 1, ha="right", va="center")
    back.set_xlim(0, area.width)
    back.set_ylim(0, area.height)


def paint_histogram(shown: Shown) -> None:
    """Paint a bar for each bucket."""
    axes = shown.area.axes(44, 34, 14, TITLE_PX + 16)
    curves = [curve for curve in shown.curves if curve.labels.get("le") != "+Inf"]
    values = [curve.numbers[-1] for curve in curves]
    largest = max(values) or 1.0
    places = range(len(curves))
    axes.bar(places, values, color=[GRADIENT(value / largest) for value in values], width=0.82)
    axes.set_xticks(list(places), [f"{float(curve.labels['le']):g}" for curve in curves])
    for place, value in zip(places, values, strict=True):
        axes.text(place, value + largest * 0.02, f"{value:.0f}", color=DIM, fontsize=SMALL - 0.6, ha="center")
    axes.tick_params(colors=DIM, labelsize=SMALL, length=0)
    axes.grid(visible=True, axis="y", color=LINE, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.yaxis.set_major_locator(MaxNLocator(4))
    for spine in axes.spines.values():
        spine.set_visible(False)


def paint_heat(shown: Shown, _back: Axes) -> None:
    """Paint a histogram over time: the brighter, the more."""
    curves = [curve for curve in shown.curves if curve.labels["le"] != "+Inf"]
    axes = shown.area.axes(48, 30, 14, TITLE_PX + 8)
    times = sorted({at for curve in curves for at, _ in curve.points})
    cells = np.array([[dict(curve.points).get(at, 0.0) for at in times] for curve in curves])
    cells = np.ma.masked_less_equal(np.nan_to_num(cells), 1e-9)
    width = times[1] - times[0] if len(times) > 1 else 1.0
    x = [*(at - width / 2 for at in times), times[-1] + width / 2]
    axes.pcolormesh(
        x,
        range(len(curves) + 1),
        cells**0.5,
        cmap="turbo",
        edgecolors=BOX,
        linewidth=0.15 if len(times) < MOST_CELLS else 0,
    )
    unit = shown.panel["options"]["yAxis"]["unit"]
    every = max(1, len(curves) // 8)
    places = range(every, len(curves) + 1, every)
    axes.set_yticks(list(places), [write(float(curves[place - 1].labels["le"]), unit) for place in places])
    time_axis(axes, curves)
    axes.set_xlim(x[0], x[-1])


def paint_states(shown: Shown, _back: Axes) -> None:
    """Paint a line a series, coloured by its state."""
    curves = shown.curves
    (mapping,) = shown.defaults["mappings"]
    axes = shown.area.axes(0.46 * shown.area.width, 30, 14, TITLE_PX + 8)
    for place, curve in enumerate(reversed(curves)):
        for (at, value), (until, _) in zip(curve.points, curve.points[1:], strict=False):
            told = mapping["options"].get(f"{value:g}", {"color": "text"})
            color = NAMED.get(told["color"], TEXT)
            axes.barh(place, until - at, left=at, height=0.8, color=to_rgba(color, 0.8), linewidth=0)
    axes.set_yticks(range(len(curves)), [curve.legend for curve in reversed(curves)])
    time_axis(axes, curves)


def paint_table(shown: Shown, back: Axes) -> None:
    """Paint a table: a line a label's value, the queries' values in its columns."""
    columns = [override["matcher"]["options"] for override in shown.panel["fieldConfig"]["overrides"]]
    units = [override["properties"][0]["value"] for override in shown.panel["fieldConfig"]["overrides"]]
    (label,) = {name for curve in shown.curves for name in curve.labels}
    found = [
        {curve.labels[label]: curve.numbers[-1] for curve in answer.curves if curve.numbers} for answer in shown.answers
    ]
    names = sorted({name for column in found for name in column}, key=lambda name: -found[0].get(name, 0.0))
    area = shown.area
    left, top = 0.27 * area.width, area.height - TITLE_PX - 14
    ends = [left + (area.width - left - PAD_PX) * (place + 1) / len(columns) for place in range(len(columns))]
    back.text(PAD_PX + 2, top, label, color=PALETTE[2], fontsize=BODY, va="center")
    for end, name in zip(ends, columns, strict=True):
        back.text(end, top, name, color=PALETTE[2], fontsize=BODY - 0.4, ha="right", va="center")
    for place, name in enumerate(names[: int((top - 14) // 26)]):
        y = top - 26 * (place + 1)
        back.plot([PAD_PX, area.width - PAD_PX], [y + 13, y + 13], color=LINE, linewidth=0.7)
        back.text(PAD_PX + 2, y, name, color=TEXT, fontsize=BODY, va="center")
        for end, column, unit in zip(ends, found, units, strict=True):
            text = write(column[name], unit) if name in column else ""
            back.text(end, y, text, color=TEXT, fontsize=BODY, ha="right", va="center")


KINDS: Mapping[str, Callable[[Shown, Axes], None]] = {
    "stat": paint_stat,
    "timeseries": paint_curves,
    "bargauge": paint_bars,
    "heatmap": paint_heat,
    "state-timeline": paint_states,
    "table": paint_table,
}
