"""Processes of a run: started on cores of their own, waited for, and all stopped whatever happens."""

import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Self

START_S = 120.0
"""How long a subject may take to listen: LiteLLM imports for 20 s on a core of its own, and cores are shared."""

NEEDED = {"nginx": "nginx-light", "wrk": "wrk", "taskset": "util-linux", "setpriv": "util-linux"}


class StartError(Exception):
    """A process did not come up; the text holds the end of its log."""


def missing() -> list[str]:
    """Return the Debian packages to install before anything can be measured."""
    return sorted({package for command, package in NEEDED.items() if shutil.which(command) is None})


class Stage:
    """The folder and the processes of one run. Leaving it stops them all, children included."""

    def __init__(self, folder: Path, subject_core: int, load_core: int) -> None:
        self.folder = folder
        self.subject_core = subject_core
        self.load_core = load_core
        self._processes: list[subprocess.Popen[bytes]] = []
        self._logs: dict[int, Path] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop(self._processes[:])

    def start(
        self, command: list[str], port: int, core: int, environment: dict[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        """Start a command on a core, its output in a file, and return once it listens."""
        log = self.folder / f"{Path(command[0]).name}-{port}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                pinned(command, core),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                env={**os.environ, **(environment or {})},
            )
        self._processes.append(process)
        self._logs[process.pid] = log
        deadline_s = time.monotonic() + START_S
        while time.monotonic() < deadline_s and process.poll() is None:
            with socket.socket() as one:
                if one.connect_ex(("127.0.0.1", port)) == 0:
                    return process
            time.sleep(0.05)
        raise StartError(f"{command[0]} did not start: {self.last_lines(process)}")

    def last_lines(self, process: subprocess.Popen[bytes]) -> str:
        """Return the end of what a process has said, for who must find out why it failed."""
        with self._logs[process.pid].open("rb") as log:
            log.seek(max(0, log.seek(0, os.SEEK_END) - 1500))
            return log.read().decode(errors="replace")

    def stop(self, processes: list[subprocess.Popen[bytes]]) -> None:
        """Stop processes and what they started."""
        for process in processes:
            _signal_all(process, signal.SIGTERM)
        for process in processes:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                _signal_all(process, signal.SIGKILL)
                process.wait()
            self._processes.remove(process)


def pinned(command: list[str], core: int) -> list[str]:
    """Return a command line that runs on one core and ends when this process dies, even by SIGKILL."""
    return ["setpriv", "--pdeathsig", "TERM", "taskset", "-c", str(core), *command]


def _signal_all(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    try:
        os.killpg(process.pid, number)
    except ProcessLookupError:
        return


def cores() -> tuple[int, int]:
    """Return the subject's core, and the one that upstream and load generator share; the same where there is one."""
    found = sorted(os.sched_getaffinity(0))
    return found[0], found[-1]


def free_port() -> int:
    """Return a port that is free now, and that the kernel gives to no connection: those are 32768 and above.

    Clusters of Redis want one 10,000 above.
    """
    while True:
        port = random.randrange(10_000, 22_000)
        with socket.socket() as one, contextlib.suppress(OSError):
            one.bind(("127.0.0.1", port))
            return port
