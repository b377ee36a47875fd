"""The door of the command line. What runs every few seconds is begun here; all else is loaded when asked for."""

import importlib
import os
import signal
import sys

from gateway.quick import QUICK, run_quick

_STDERR = 2


def main() -> None:
    """Run the command that the arguments name."""
    name = "".join(sys.argv[1:2])
    if name in QUICK:
        run_quick(sys.argv[1:])
        return
    if name == "serve":
        _open_streams()
        _prepare_container()
    importlib.import_module("gateway.commands").main(prog_name="postern")


def _open_streams() -> None:
    """Put nothing where a standard stream was closed: else the next socket takes its number, and is written logs."""
    while (opened := os.open(os.devnull, os.O_RDWR)) <= _STDERR:
        pass
    os.close(opened)
    if sys.stderr is None:
        sys.stderr = os.fdopen(_STDERR, "w", encoding="utf-8")


def _prepare_container() -> None:
    # Process 1 heeds only signals that it has a handler for, and until the gateway's own are there it may read models.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    # It would end the process; held back, it has the configuration read anew as soon as that is possible.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    # Else NumPy starts a thread a core of the node, whatever the container may use of them; nothing here multiplies
    # matrices large enough for a second one.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


if __name__ == "__main__":
    main()
