"""The door of the command line. What runs every few seconds is begun here; all else is loaded when asked for."""

import importlib
import sys

from gateway.quick import QUICK, run_quick


def main() -> None:
    """Run the command that the arguments name."""
    if sys.argv[1:2] and sys.argv[1] in QUICK:
        run_quick(sys.argv[1:])
    else:
        importlib.import_module("gateway.commands").main(prog_name="postern")


if __name__ == "__main__":
    main()
