"""A dashboard: rows of panels, its variables, and the links to the others.

A panel is a function. Its docstring is the panel's description in Grafana: what it shows, what is normal, what to do.
Its name gives the panel's number, so that links to a panel outlive what is put before it.
"""

import inspect
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from grafana_foundation_sdk.builders import dashboard as build
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models import prometheus
from grafana_foundation_sdk.models.dashboard import (
    AnnotationQuery,
    Dashboard,
    DashboardCursorSync,
    DashboardLink,
    DashboardLinkType,
    DataSourceRef,
    GridPos,
    RowPanel,
    VariableModel,
    VariableOption,
    VariableRefresh,
    VariableSort,
)
from grafana_foundation_sdk.models.dashboard import Panel as PanelModel

from deploy.grafana.scope import SCOPE, series

COLUMNS = 24
TAG = "postern"
SOURCE = DataSourceRef("prometheus", "${datasource}")

Panel = Builder[PanelModel]
PanelFunction = Callable[[], Panel]
Rows = Sequence[tuple[str, Sequence[PanelFunction]]]


@dataclass(frozen=True)
class Board:
    """A dashboard. `name` is its file's and part of its uid; `shown`: the time that it opens with."""

    name: str
    title: str
    description: str
    rows: Rows
    shown: str = "now-6h"

    def build(self) -> Dashboard:
        """Return the model that the JSON is written from."""
        made = (
            build.Dashboard(f"Postern / {self.title}")
            .uid(f"postern-{self.name}")
            .description(self.description)
            .tags([TAG])
            .time(self.shown, "now")
            .refresh("1m")
            .timezone("browser")
            .editable()
            .tooltip(DashboardCursorSync.CROSSHAIR)
            .variables(list(variables()))
            .link(others())
            .annotation(reloads())
            .build()
        )
        made.panels = list(lay_out(self.rows))
        return made


def lay_out(rows: Rows) -> Iterator[PanelModel | RowPanel]:
    """Give each row its line and each panel its place: from left to right, and below when a line is full."""
    y = 0
    for title, panels in rows:
        yield RowPanel(title=title, grid_pos=GridPos(h=1, w=COLUMNS, x=0, y=y), id_val=number(title))
        y += 1
        x = height = 0
        for function in panels:
            panel = finish(function)
            place = panel.grid_pos or GridPos()
            if x + place.w > COLUMNS:
                x, y, height = 0, y + height, 0
            place.x, place.y = x, y
            x, height = x + place.w, max(height, place.h)
            yield panel
        y += height


def finish(function: PanelFunction) -> PanelModel:
    """Build a panel: its description, its number, the data source and the letters of its queries."""
    panel = function().build()
    panel.id_val = number(function.__name__)
    panel.description = inspect.cleandoc(function.__doc__ or "")
    panel.datasource = SOURCE
    for place, target in enumerate(panel.targets or ()):
        if isinstance(target, prometheus.Dataquery):
            target.ref_id = chr(ord("A") + place)
            target.datasource = SOURCE
    return panel


def number(name: str) -> int:
    """Return a panel's number. Grafana wants one that is unique in its dashboard; a test looks."""
    return zlib.crc32(name.encode()) % 100_000 + 1


def variables() -> Iterator[Builder[VariableModel]]:
    """Yield the choices above the panels. Each narrows those after it."""
    yield build.DatasourceVariable("datasource").label("Data source").type("prometheus")
    known: list[str] = []
    labels = [("cluster", "Cluster"), ("namespace", "Namespace"), ("job", "Job"), ("instance", "Gateway")]
    for (name, label), matcher in zip(labels, SCOPE, strict=True):
        yield choice(name, label, f"label_values(postern_build_info{{{', '.join(known)}}}, {name})")
        known.append(matcher)
    yield choice("route", "Route", f"label_values({series('postern_requests_total')}, route)")
    yield choice("model", "Model", f"label_values({series('postern_requests_total')}, model)")


def choice(name: str, label: str, asked: str) -> Builder[VariableModel]:
    """Offer a label's values: one, several, or all. Where there are none, as of `cluster` on a laptop, all it is."""
    return (
        build.QueryVariable(name)
        .label(label)
        .datasource(SOURCE)
        .query({"query": asked, "refId": "StandardVariableQuery"})
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(VariableSort.ALPHABETICAL_ASC)
        .multi(True)
        .include_all(True)
        .all_value(".*")
        .current(VariableOption(True, ["All"], ["$__all"]))
    )


def others() -> Builder[DashboardLink]:
    """Link every dashboard of ours, at the same time and with the same choices."""
    return (
        build.DashboardLink("Postern")
        .type(DashboardLinkType.DASHBOARDS)
        .tags([TAG])
        .icon("external link")
        .keep_time(True)
        .include_vars(True)
    )


def reloads() -> Builder[AnnotationQuery]:
    """Mark when a configuration was taken over: what changes at such a line has its cause there."""
    taken = series("postern_config_last_reload_success_timestamp_seconds")
    return (
        build.AnnotationQuery()
        .name("Configuration taken over")
        .datasource(SOURCE)
        .enable(True)
        .icon_color("purple")
        .expr(f"changes({taken}[$__rate_interval]) > 0")
    )
