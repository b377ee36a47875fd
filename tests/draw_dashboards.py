"""Draw the documentation's pictures: `python -m tests.draw_dashboards` lets a day's shape of traffic pass in minutes.

What is real in it and what is made up says tests/mixed_load.py.
"""

import argparse
import asyncio
import math
import tempfile
import time
from pathlib import Path

from deploy.grafana.ask import Asker, Window
from deploy.grafana.picture import save
from tests.mixed_load import ROOT, Traffic, World, world
from tests.triton_server import TritonServer

NAMES = ("money", "routing")
SCRAPE_S, LOOKED_AT_S = 5, 15
"""Scraped more often than is usual, so that minutes have curves; drawn as by a Grafana that knows of 15 s."""
OUT = ROOT / "docs" / "dashboards"


async def run(minutes: float, names: list[str], out: Path) -> None:
    """Serve, load, draw."""
    with tempfile.TemporaryDirectory(prefix="p-") as folder, TritonServer() as triton:
        async with world(Path(folder), triton, SCRAPE_S) as made:
            began_s = time.time()
            await pass_a_day(made, minutes * 60)
            # What came in the first scrapes has no rate yet.
            window = Window(began_s + 60, time.time(), LOOKED_AT_S)
            for name in names:
                print(await asyncio.to_thread(save, name, Asker(made.prometheus.url, window), out))


async def pass_a_day(made: World, seconds: float) -> None:
    """Send what people send in a day: little, much, harder prompts in the afternoon, and one server that breaks."""
    traffic = Traffic(made)
    made.speakers["flaky"].failing = 0.02
    async with asyncio.TaskGroup() as clients:
        began_s = time.monotonic()
        while (share := (time.monotonic() - began_s) / seconds) < 1:
            traffic.hard = 0.3 + 0.4 * share**2
            is_broken = 0.6 < share < 0.72
            made.speakers["flaky"].failing = 0.9 if is_broken else 0.02
            made.speakers["gpt"].slower = 1.0 + 0.8 * math.exp(-(((share - 0.8) / 0.05) ** 2))
            rate = 8 + 16 * math.sin(math.pi * share) ** 2 + 6 * math.exp(-(((share - 0.45) / 0.05) ** 2))
            clients.create_task(traffic.one())
            await asyncio.sleep(1 / rate)


def main() -> None:
    """Read the command line and draw."""
    parser = argparse.ArgumentParser(prog="python -m tests.draw_dashboards", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10, help="how long traffic lasts; default 10")
    parser.add_argument("--names", nargs="+", default=list(NAMES), help="which dashboards; default: money routing")
    parser.add_argument("--out", type=Path, default=OUT, help="default: docs/dashboards")
    told = parser.parse_args()
    asyncio.run(run(told.minutes, told.names, told.out))


if __name__ == "__main__":
    main()
