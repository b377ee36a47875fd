"""Draw dashboards from what a Prometheus answers to their queries, laid out as their JSON says.

    python -m deploy.grafana.picture --prometheus http://127.0.0.1:9090 --last 30m money routing

For documentation, and for a look where there is no Grafana. It is no screenshot: Grafana draws more finely than this.
"""

import argparse
import json
import re
import sys
import time
import urllib.error
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import fontManager
from PIL import Image

from deploy.grafana.__main__ import BOARDS, FOLDER
from deploy.grafana.ask import Asker, AskError, Window
from deploy.grafana.board import COLUMNS
from deploy.grafana.paint import BODY, BOX, CANVAS, DIM, EDGE, TEXT, Area, Shown, paint

WIDTH_PX, UNIT_PX, HEAD_PX, DPI = 1_560, 37, 62, 100
FONTS = ("Inter", "DejaVu Sans")
"""Grafana's own, where it is installed (Debian: fonts-inter), and matplotlib's."""
UNITS_S = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}


def draw(dashboard: Mapping[str, Any], asker: Asker) -> Figure:
    """Ask every panel's queries and draw them all."""
    panels = dashboard["panels"]
    units = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in panels)
    height_px = HEAD_PX + units * UNIT_PX + 8
    figure = Figure(figsize=(WIDTH_PX / DPI, height_px / DPI), dpi=DPI, facecolor=CANVAS)
    FigureCanvasAgg(figure)
    column_px = (WIDTH_PX - 16) / COLUMNS
    write_head(dashboard, asker, Area(figure, 8, height_px - HEAD_PX, WIDTH_PX - 16, HEAD_PX))
    for panel in panels:
        place = panel["gridPos"]
        bottom_px = height_px - HEAD_PX - (place["y"] + place["h"]) * UNIT_PX
        area = Area(figure, 8 + place["x"] * column_px, bottom_px, place["w"] * column_px, place["h"] * UNIT_PX)
        if panel["type"] == "row":
            area.bare().text(6, area.height / 2, f"\u2304  {panel['title']}", color=TEXT, fontsize=11, va="center")
        else:
            paint(Shown(panel, asker.panel(panel), area))
    return figure


def write_head(dashboard: Mapping[str, Any], asker: Asker, area: Area) -> None:
    """Write the title, the choices and the time shown."""
    head = area.bare()
    head.text(8, 42, dashboard["title"], color=TEXT, fontsize=15, va="center")
    x = 8.0
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            chosen = ", ".join(asker.chosen.get(variable["name"], ("All",)))
            head.text(x, 13, variable["label"], color=DIM, fontsize=BODY, va="center")
            box = {"boxstyle": "round,pad=0.35", "facecolor": BOX, "edgecolor": EDGE}
            x += 7.0 * len(variable["label"]) + 12
            head.text(x, 13, f"{chosen} \u25be", color=TEXT, fontsize=BODY, va="center", bbox=box)
            x += 7.0 * len(chosen) + 44
    ends = [time.strftime("%H:%M:%S", time.gmtime(at)) for at in (asker.window.start_s, asker.window.end_s)]
    head.text(area.width - 8, 42, f"{ends[0]} to {ends[1]} UTC", color=DIM, fontsize=BODY + 1, ha="right", va="center")


def save(name: str, asker: Asker, folder: Path) -> Path:
    """Draw a dashboard into `folder`/`name`.png."""
    dashboard = json.loads((FOLDER / f"{name}.json").read_text("utf-8"))
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.png"
    known = {font.name for font in fontManager.ttflist}
    with rc_context({"font.family": [font for font in FONTS if font in known]}):
        write_small(draw(dashboard, asker), path)
    return path


def write_small(figure: Figure, path: Path) -> None:
    """Write a picture in 256 colours: a third of the bytes, and nobody sees the difference."""
    drawn = BytesIO()
    figure.savefig(drawn, facecolor=CANVAS)
    Image.open(drawn).convert("RGB").quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)


def seconds(text: str) -> float:
    """Read a duration such as `30m`."""
    found = re.fullmatch(r"(\d+)([smhd])", text)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no duration: 90s, 30m, 6h or 7d")
    return float(found[1]) * UNITS_S[found[2]]


def main() -> int:
    """Draw; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m deploy.grafana.picture",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    names = [board.name for board in BOARDS]
    parser.add_argument("names", nargs="*", metavar="DASHBOARD", help=f"of {', '.join(names)}; default: all")
    parser.add_argument("--prometheus", default="http://127.0.0.1:9090", metavar="URL", help="default %(default)s")
    parser.add_argument("--last", type=seconds, default="30m", metavar="TIME", help="time shown; default %(default)s")
    parser.add_argument("--scrape", type=seconds, default="15s", metavar="TIME", help="scrape interval; default 15s")
    parser.add_argument("--out", type=Path, default=Path(), metavar="FOLDER", help="default: here")
    told = parser.parse_args()
    if unknown := set(told.names) - set(names):
        parser.error(f"no such dashboard: {', '.join(sorted(unknown))}; there are {', '.join(names)}")
    end_s = time.time()
    asker = Asker(told.prometheus, Window(end_s - told.last, end_s, told.scrape))
    try:
        for name in told.names or names:
            print(save(name, asker, told.out))
    except (AskError, urllib.error.URLError) as exc:
        print(f"{told.prometheus}: {exc}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
