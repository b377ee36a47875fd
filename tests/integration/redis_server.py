"""A real Redis, started by a test on a free port."""

import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Self

import pytest

is_missing = shutil.which("redis-server") is None
if is_missing and os.environ.get("CI") == "true":
    raise RuntimeError("redis-server is missing: apt-get install redis-server")
need_redis = pytest.mark.skipif(is_missing, reason="apt-get install redis-server")


def free_port() -> int:
    """Find a port for a server that is started later.

    One that the kernel would choose, it may give to a connection in the meantime: those are 32768 and above. A
    cluster's bus takes the port 10,000 above.
    """
    while True:
        port = random.randrange(10_000, 22_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


class RedisServer:
    """`redis-server` without persistence. `options` are its own, such as `requirepass`."""

    def __init__(self, folder: Path, *options: str, port: int | None = None, kind: str = "server") -> None:
        self.port = port or free_port()
        self._folder = folder / f"redis-{self.port}"
        self._options = options
        self._kind = kind
        self.url = f"redis://127.0.0.1:{self.port}/0"

    def __enter__(self) -> Self:
        self._folder.mkdir(exist_ok=True)
        self.start()
        return self

    def start(self) -> None:
        """Start and wait until it answers."""
        command = ["redis-server", "--port", str(self.port), "--save", "", "--dir", str(self._folder), *self._options]
        if self._kind == "sentinel":
            config = self._folder / "sentinel.conf"
            config.write_text("\n".join([f"port {self.port}", f"dir {self._folder}", *self._options]))
            command = ["redis-server", str(config), "--sentinel"]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        for _ in range(500):
            if self.cli("ping") != "":
                return
            time.sleep(0.01)
        raise AssertionError("redis-server did not start")

    def cli(self, *arguments: str) -> str:
        """Run redis-cli; empty where nobody answers."""
        command = ["redis-cli", "--no-auth-warning", "-p", str(self.port), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()

    def put(self, key: str, value: bytes) -> None:
        """Set a value to any bytes."""
        command = ["redis-cli", "-p", str(self.port), "-x", "set", key]
        subprocess.run(command, input=value, stdout=subprocess.DEVNULL, check=True)

    def pause(self) -> None:
        """Hang: connections stay, nothing is answered."""
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Go on."""
        self.process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """Die."""
        self.process.kill()
        self.process.wait()

    def __exit__(self, *_: object) -> None:
        self.kill()
