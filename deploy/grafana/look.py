"""How panels look: one function a kind, with the house's legends, colours and texts for when there is nothing to show.

Each returns the builder of Grafana's Foundation SDK, so that a panel can say more. Knows nothing of Postern's metrics.
"""

from collections.abc import Mapping, Sequence

from grafana_foundation_sdk.builders import (
    bargauge,
    common,
    heatmap,
    prometheus,
    stat,
    statetimeline,
    table,
    timeseries,
)
from grafana_foundation_sdk.builders import dashboard as dashboards
from grafana_foundation_sdk.models.common import (
    BarGaugeDisplayMode,
    BigValueColorMode,
    BigValueGraphMode,
    GraphGradientMode,
    GraphThresholdsStyleMode,
    LegendDisplayMode,
    LegendPlacement,
    SortOrder,
    StackingMode,
    TooltipDisplayMode,
    VisibilityMode,
    VizOrientation,
)
from grafana_foundation_sdk.models.dashboard import (
    DataTransformerConfig,
    DynamicConfigValue,
    FieldColorModeId,
    GridPos,
    Threshold,
    ThresholdsMode,
    ValueMap,
    ValueMappingResult,
)
from grafana_foundation_sdk.models.heatmap import HeatmapColorMode
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

USD, SECONDS, SHARE, WATT_HOURS, WATTS = "currencyUSD", "s", "percentunit", "watth", "watt"
REQUESTS_PER_S, PER_S, BYTES, NUMBER, CELSIUS = "reqps", "cps", "bytes", "short", "celsius"

GREEN, YELLOW, ORANGE, RED, BLUE, PURPLE, GREY = "green", "yellow", "orange", "red", "blue", "purple", "text"
Steps = Mapping[float, str]
"""Colours by the value from which they hold, above the first one, which holds below them all."""

NOTHING = "No data in the time shown"


def query(expression: str, legend: str = "") -> prometheus.Dataquery:
    """Ask for curves."""
    return prometheus.Dataquery().expr(expression).legend_format(legend or "__auto").range()


def now(expression: str, legend: str = "") -> prometheus.Dataquery:
    """Ask for the values at the end of the time shown."""
    return prometheus.Dataquery().expr(expression).legend_format(legend or "__auto").instant()


def cells(expression: str) -> prometheus.Dataquery:
    """Ask for a histogram's buckets, each by itself: Grafana takes the running sums apart."""
    return query(expression, "{{le}}").format(PromQueryFormat.HEATMAP)


def column(expression: str) -> prometheus.Dataquery:
    """Ask for a table's column."""
    return now(expression).format(PromQueryFormat.TABLE)


def figure(title: str, unit: str, steps: Steps | None = None, below: str = GREEN) -> stat.Panel:
    """Show one large number, coloured by what it means."""
    panel = (
        stat.Panel()
        .title(title)
        .unit(unit)
        .grid_pos(size(3, 4))
        .color_mode(BigValueColorMode.VALUE)
        .graph_mode(BigValueGraphMode.AREA)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]).values(False))
        .no_value("none yet")
    )
    return panel.thresholds(thresholds(steps or {}, below if steps else BLUE)).color_scheme(by(THRESHOLDS))


def curves(title: str, unit: str, width: int = 12) -> timeseries.Panel:
    """Show values over time, the largest first in the legend."""
    return (
        timeseries.Panel()
        .title(title)
        .unit(unit)
        .min(0)
        .grid_pos(size(width, 8))
        .line_width(2)
        .fill_opacity(10)
        .gradient_mode(GraphGradientMode.OPACITY)
        .show_points(VisibilityMode.NEVER)
        .legend(legend(["mean", "max", "lastNotNull"]))
        .tooltip(common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI).sort(SortOrder.DESCENDING))
        .no_value(NOTHING)
    )


def layers(title: str, unit: str, width: int = 12) -> timeseries.Panel:
    """Show parts over time, one on top of the other."""
    return (
        curves(title, unit, width)
        .fill_opacity(40)
        .line_width(1)
        .gradient_mode(GraphGradientMode.NONE)
        .stacking(common.StackingConfig().mode(StackingMode.NORMAL).group("A"))
    )


def bounded(panel: timeseries.Panel, steps: Steps, below: str = "transparent") -> timeseries.Panel:
    """Draw the values from which something is to be done as dashed lines."""
    style = common.GraphThresholdsStyleConfig().mode(GraphThresholdsStyleMode.DASHED)
    return panel.thresholds(thresholds(steps, below)).thresholds_style(style)


def bars(title: str, unit: str, width: int = 8) -> bargauge.Panel:
    """Show totals side by side, each a bar."""
    return (
        bargauge.Panel()
        .title(title)
        .unit(unit)
        .min(0)
        .grid_pos(size(width, 8))
        .display_mode(BarGaugeDisplayMode.GRADIENT)
        .orientation(VizOrientation.HORIZONTAL)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]).values(False))
        .color_scheme(by(FieldColorModeId.CONTINUOUS_BL_PU))
        .thresholds(thresholds({}, BLUE))
        .no_value(NOTHING)
    )


def histogram(title: str, width: int = 12) -> bargauge.Panel:
    """Show a histogram of the time shown, a bar a bucket. Its query is one of `now` with `cells`' format."""
    return bars(title, NUMBER, width).orientation(VizOrientation.VERTICAL).decimals(0)


def heat(title: str, unit: str, width: int = 12) -> heatmap.Panel:
    """Show a histogram over time."""
    color = heatmap.HeatmapColorOptions().mode(HeatmapColorMode.SCHEME).scheme("Turbo").steps(64).exponent(0.5)
    return (
        heatmap.Panel()
        .title(title)
        .grid_pos(size(width, 8))
        .calculate(False)
        .color(color)
        .cell_gap(1)
        .y_axis(heatmap.YAxisConfig().unit(unit))
        .filter_values(heatmap.FilterValueRange().le(1e-9))
        .mode(TooltipDisplayMode.SINGLE)
        .show_y_histogram()
        .no_value(NOTHING)
    )


def states(title: str, names: Mapping[str, tuple[str, str]], width: int = 12) -> statetimeline.Panel:
    """Show states over time; `names`: text and colour by value."""
    return (
        statetimeline.Panel()
        .title(title)
        .grid_pos(size(width, 8))
        .mappings([named(names)])
        .color_scheme(by(THRESHOLDS))
        .thresholds(thresholds({}, GREY))
        .show_value(VisibilityMode.AUTO)
        .row_height(0.8)
        .fill_opacity(80)
        .legend(common.VizLegendOptions().show_legend(False))
        .no_value(NOTHING)
    )


def sheet(title: str, label: str, columns: Sequence[tuple[str, str]], width: int = 12) -> table.Panel:
    """Show a table, a line a value of `label`; `columns`: name and unit, in the order of the queries."""
    letters = [chr(ord("A") + place) for place in range(len(columns))]
    renamed = {f"Value #{letter}": name for letter, (name, _) in zip(letters, columns, strict=True)}
    panel = (
        table.Panel()
        .title(title)
        .grid_pos(size(width, 8))
        .with_transformation(DataTransformerConfig(id_val="merge", options={}))
        .with_transformation(
            DataTransformerConfig(
                id_val="organize",
                options={"excludeByName": {"Time": True}, "indexByName": {}, "renameByName": {**renamed, label: label}},
            )
        )
        .sort_by([common.TableSortByFieldState().display_name(columns[0][0]).desc(True)])
        .no_value(NOTHING)
    )
    for name, unit in columns:
        panel = panel.override_by_name(name, [DynamicConfigValue("unit", unit)])
    return panel


def named(names: Mapping[str, tuple[str, str]]) -> ValueMap:
    """Return texts and colours in place of values."""
    return ValueMap(
        {value: ValueMappingResult(text=text, color=color) for value, (text, color) in names.items()},
    )


def legend(calculated: list[str]) -> common.VizLegendOptions:
    """Return a legend as a table, sorted by what was largest in the mean."""
    return (
        common.VizLegendOptions()
        .display_mode(LegendDisplayMode.TABLE)
        .placement(LegendPlacement.BOTTOM)
        .show_legend(True)
        .calcs(calculated)
        .sort_by("Mean")
        .sort_desc(True)
    )


THRESHOLDS = FieldColorModeId.THRESHOLDS


def by(mode: FieldColorModeId) -> dashboards.FieldColor:
    """Choose colours in a way of Grafana's."""
    return dashboards.FieldColor().mode(mode)


def thresholds(steps: Steps, below: str) -> dashboards.ThresholdsConfig:
    """Return the values from which a colour holds."""
    found = [Threshold(None, below), *(Threshold(value, color) for value, color in steps.items())]
    return dashboards.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(found)


def size(width: int, height: int) -> GridPos:
    """Return how much of the grid a panel takes, 24 columns wide; where it stands, the dashboard's rows say."""
    return GridPos(w=width, h=height)
