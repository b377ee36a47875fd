"""The report's picture: how many times nginx's CPU each subject takes, on a logarithmic axis."""

from pathlib import Path

import matplotlib as mpl
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from loadtests.results import BASE, Result, title

OURS, THEIRS, PLAIN = "#1f6f8b", "#b8b8b8", "#4a4a4a"


def draw(requests: Result, streams: Result | None, path: Path) -> None:
    """Draw requests, and chunks beside them where they were measured."""
    mpl.use("Agg")
    results = [(requests, "CPU a request, times nginx's")]
    if streams is not None:
        results.append((streams, "CPU a chunk, times nginx's"))
    sizes = [len(result.subjects()) for result, _ in results]
    figure, places = plt.subplots(
        len(results), 1, figsize=(9, 0.5 * sum(sizes) + 1.2 * len(results)), height_ratios=sizes, squeeze=False
    )
    for place, (result, label) in zip(places[:, 0], results, strict=True):
        _bars(place, result, label)
    figure.tight_layout()
    figure.savefig(path, dpi=110, metadata={"Software": None})
    plt.close(figure)


def _bars(place: Axes, result: Result, label: str) -> None:
    found = [(name, times) for name in result.subjects() if (times := result.against(name)) is not None]
    found.sort(key=lambda one: one[1].median, reverse=True)
    medians = [times.median for _, times in found]
    errors = [[one.median - one.low for _, one in found], [one.high - one.median for _, one in found]]
    colours = [PLAIN if name == BASE else OURS if name.startswith("postern") else THEIRS for name, _ in found]
    place.barh([title(name) for name, _ in found], medians, xerr=errors, color=colours, height=0.6, ecolor="#202020")
    place.set_xscale("log")
    place.set_xlim(0.7, max(medians) * 3)
    place.xaxis.set_major_formatter("{x:g}")
    place.xaxis.set_minor_formatter("")
    place.set_xlabel(label)
    place.spines[["top", "right"]].set_visible(False)
    for row, (_, times) in enumerate(found):
        place.text(times.high * 1.08, row, f"{times.median:.3g}", va="center", fontsize=9)
