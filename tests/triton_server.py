"""A real Triton with the mocked models of deploy/triton, for tests.

A prompt scripts its answer by a directive, such as `[[tokens=12 ttft=0.5 gap=0.05 fail_at=3]]`: see
deploy/triton/cpu/mock/script.py. `count` tells what the models saw, so that a cancel is proven inside of them.
"""

import os
import re
import signal
import time
import urllib.request
from pathlib import Path
from typing import Any, Self

import pytest

from deploy.triton.serve_cpu import DIALECTS, CpuTriton, NotInstalledError, Options, find_installation

SAMPLE = re.compile(r"^(?P<name>[\w:]+)(\{(?P<labels>.*)\})? (?P<value>\S+)$", re.MULTILINE)
LABEL = re.compile(r'(\w+)="([^"]*)"')


def find_reason() -> str | None:
    """Return why there is no Triton. Raises where there must be one."""
    try:
        find_installation()
    except NotInstalledError as exc:
        if os.environ.get("CI") == "true":
            raise
        return str(exc)
    return None


reason = find_reason()
need_triton = pytest.mark.skipif(reason is not None, reason=reason or "")


class TritonServer:
    """The server and its addresses; `models` holds the name of the model that speaks each dialect."""

    models = DIALECTS

    def __init__(self, **options: Any) -> None:
        self._server = CpuTriton(Options(**options))
        self.http_url = f"http://127.0.0.1:{self._server.http_port}"
        self.grpc_url = f"grpc://127.0.0.1:{self._server.grpc_port}"
        self.metrics_url = f"http://127.0.0.1:{self._server.metrics_port}/metrics"

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.close()

    def url(self, transport: str) -> str:
        """Return the address of `grpc` or `http`."""
        return {"grpc": self.grpc_url, "http": self.http_url}[transport]

    def is_ready(self) -> bool:
        """Tell whether it runs and every model is ready."""
        process = self._server.process
        return process is not None and process.poll() is None and self._server.is_ready()

    def kill(self) -> None:
        """Die, as by SIGKILL, models and all."""
        self._server.kill()

    def stop(self) -> None:
        """Freeze: connections stay, nothing is answered."""
        os.killpg(self._server.process.pid, signal.SIGSTOP)

    def cont(self) -> None:
        """Go on."""
        os.killpg(self._server.process.pid, signal.SIGCONT)

    def restart(self) -> None:
        """Die if alive, then start again on the same ports; returns once ready."""
        self._server.kill()
        self._server.start()

    def load(self, model: str) -> None:
        """Load a model, which takes it back into service."""
        self._ask(model, "load")

    def unload(self, model: str) -> None:
        """Take a model out of service; Triton answers before those under way have ended."""
        self._ask(model, "unload")

    def _ask(self, model: str, wish: str) -> None:
        url = f"{self.http_url}/v2/repository/models/{model}/{wish}"
        with urllib.request.urlopen(urllib.request.Request(url, b"{}", method="POST"), timeout=30) as answer:
            assert answer.status == 200

    def samples(self, name: str, **labels: str) -> list[float]:
        """Return the values that the metrics page shows of this name, with these labels at least."""
        with urllib.request.urlopen(self.metrics_url, timeout=10) as page:
            text = page.read().decode()
        return [
            float(found["value"])
            for found in SAMPLE.finditer(text)
            if found["name"] == name and labels.items() <= dict(LABEL.findall(found["labels"] or "")).items()
        ]

    def count(self, name: str, **labels: str) -> float:
        """Return a count of the models': `requests`, `finished`, `failed`, `tokens`, or `cancelled`.

        Labels: `dialect`, and for `cancelled` its `phase`: `waiting` (before the first token), `generating`, or `unary`
        (generating for a call that is not streamed).
        """
        return sum(self.samples(f"mock_{name}_total", **labels))

    def under_way(self, dialect: str) -> float:
        """Return how many requests this dialect's model works at."""
        ended = sum(self.count(name, dialect=dialect) for name in ("finished", "failed", "cancelled"))
        return self.count("requests", dialect=dialect) - ended

    def wait_for(self, name: str, at_least: float, within_s: float = 5.0, **labels: str) -> None:
        """Return once a count has come so far."""
        until_s = time.monotonic() + within_s
        while (found := self.count(name, **labels)) < at_least:
            assert time.monotonic() < until_s, f"{name} {labels} is {found}, not {at_least}, after {within_s} s"
            time.sleep(0.01)

    def cancelled_at_s(self, dialect: str) -> float:
        """Return when this dialect's model last saw a cancel, on the clock of `time.monotonic`."""
        return max(self.samples("mock_cancelled_at_seconds", dialect=dialect), default=0.0)

    def leftovers(self) -> list[Path]:
        """Return the shared memory that it has, or has left behind."""
        return self._server.shared_memory()

    def log(self) -> str:
        """Return what the server has said."""
        return self._server.log()
