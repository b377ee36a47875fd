"""Write the dashboards' JSON: `python -m deploy.grafana`; `--check` fails where it is not what the code says.

The one copy lies in the chart, which can't reach outside of its folder; compose reads it from there.
"""

import argparse
import json
import sys
from pathlib import Path

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from deploy.grafana.board import Board
from deploy.grafana.money import MONEY
from deploy.grafana.routing import ROUTING
from deploy.grafana.service import SERVICE
from deploy.grafana.upstreams import UPSTREAMS

BOARDS = (MONEY, ROUTING, SERVICE, UPSTREAMS)
FOLDER = Path(__file__).resolve().parents[2] / "helm" / "postern" / "files" / "dashboards"


def written(board: Board) -> str:
    """Return a dashboard's file."""
    return json.dumps(board.build(), cls=JSONEncoder, indent=2, ensure_ascii=False) + "\n"


def stale(folder: Path = FOLDER) -> list[str]:
    """Return the files that are missing, not what the code says, or of no dashboard any more."""
    wanted = {f"{board.name}.json": written(board) for board in BOARDS}
    there = {path.name: path.read_text("utf-8") for path in folder.glob("*.json")}
    return sorted(name for name in wanted.keys() | there.keys() if wanted.get(name) != there.get(name))


def main() -> int:
    """Write, or check; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m deploy.grafana", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 where a file is stale")
    names = stale()
    if parser.parse_args().check:
        for name in names:
            print(f"{name} is not what deploy/grafana says: make dashboards", file=sys.stderr)
        return 1 if names else 0
    FOLDER.mkdir(parents=True, exist_ok=True)
    for path in FOLDER.glob("*.json"):
        if path.name in names:
            path.unlink()
    for board in BOARDS:
        (FOLDER / f"{board.name}.json").write_text(written(board), "utf-8")
    print(f"{len(names)} of {len(BOARDS)} dashboards were stale; they lie in {FOLDER}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
