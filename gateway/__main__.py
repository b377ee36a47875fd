"""The door of the command line. What runs every few seconds is begun here; all else is loaded when asked for."""

import importlib
import os
import signal
import sys

from gateway.quick import QUICK, run_quick


def main() -> None:
    """Run the command that the arguments name."""
    name = "".join(sys.argv[1:2])
    if name in QUICK:
        run_quick(sys.argv[1:])
        return
    if name == "serve":
        _prepare_container()
    importlib.import_module("gateway.commands").main(prog_name="postern")


def _prepare_container() -> None:
    # Process 1 heeds only signals that it has a handler for, and until the gateway's own are there it may read models.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    # Else NumPy starts a thread a core of the node, whatever the container may use of them; nothing here multiplies
    # matrices large enough for a second one.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


if __name__ == "__main__":
    main()
