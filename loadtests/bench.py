"""CPU a request: the gateway against a bare nginx, in turns, in front of the same instant upstream.

A closed loop of 32 connections sends 2 KB chat requests and gets 1.5 KB answers. What is printed is a ratio of CPU
seconds per request, read from the operating system, never a wall-clock time. Run by `make bench`.
"""

import argparse
import json
import os
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from string import Template
from typing import Any

HERE = Path(__file__).parent
CONNECTIONS = 32
REQUEST_BYTES, ANSWER_BYTES = 2048, 1536
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def main() -> int:
    """Run the rounds and print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, epilog="Example: python loadtests/bench.py --rounds 5")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each (default 5)")
    parser.add_argument("--seconds", type=float, default=3.0, help="length of one turn (default 3)")
    options = parser.parse_args()
    missing = [name for name in ("nginx", "wrk") if shutil.which(name) is None]
    if missing:
        print(f"missing: {' '.join(missing)}; install: apt-get install nginx-light wrk")
        return 2
    with tempfile.TemporaryDirectory(prefix="postern-bench-") as folder:
        bench = Bench(Path(folder), options.seconds)
        try:
            bench.run(options.rounds)
        finally:
            bench.stop()
    return 0


class Bench:
    """The processes under measurement and the turns."""

    def __init__(self, folder: Path, seconds: float) -> None:
        self._folder = folder
        self._seconds = seconds
        self._processes: list[subprocess.Popen[bytes]] = []

    def run(self, rounds: int) -> None:
        """Measure every subject in turn, `rounds` times."""
        upstream = free_port()
        self._nginx("upstream", upstream, upstream, answer_location())
        proxy_port = free_port()
        proxy = self._nginx("proxy", proxy_port, upstream, PROXY_LOCATION)
        subjects = {"nginx, a bare proxy": (proxy, proxy_port)}
        for name, model, cache in (
            ("postern, pinned model", "small", {}),
            ("postern, classified", "auto", {}),
            ("postern, classified, cache missed", "auto", {"exact": {}}),
            ("postern, cache hit", "auto", {"exact": {}}),
        ):
            subjects[name] = self._postern(upstream, cache)
            write_script(self._folder / f"{name}.lua", model, is_same=name.endswith("hit"))
        write_script(self._folder / "nginx, a bare proxy.lua", "auto", is_same=True)
        times: dict[str, list[float]] = {name: [] for name in subjects}
        for _ in range(rounds):
            for name, (process, port) in subjects.items():
                times[name].append(self._turn(name, process.pid, port))
        report(times)

    def _turn(self, name: str, pid: int, port: int) -> float:
        """Return CPU microseconds a request."""
        script = self._folder / f"{name}.lua"
        before_s = cpu_s(pid)
        output = subprocess.run(
            [
                *("wrk", "-t", "1", "-c", str(CONNECTIONS), "-d", f"{self._seconds:.0f}s"),
                *("-s", script, f"http://127.0.0.1:{port}/v1/chat/completions"),
            ],
            capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip
        count = int(re.search(r"(\d+) requests in", output)[1])  # type: ignore[index]
        if "Non-2xx" in output:
            raise SystemExit(f"{name}: {output}")
        return (cpu_s(pid) - before_s) / count * 1e6

    def _nginx(self, name: str, port: int, upstream_port: int, content: str) -> subprocess.Popen[bytes]:
        config = self._folder / f"{name}.conf"
        text = Template((HERE / "nginx.conf.template").read_text())
        config.write_text(
            text.safe_substitute(
                folder=self._folder, name=name, port=port, upstream_port=upstream_port, content=content
            )
        )
        return self._start(["nginx", "-c", str(config)], port)

    def _postern(self, upstream_port: int, cache: dict[str, Any]) -> tuple[subprocess.Popen[bytes], int]:
        port = free_port()
        model = {"backend": "openai", "urls": [f"http://127.0.0.1:{upstream_port}/v1"], "context_tokens": 100_000}
        config = self._folder / f"postern-{port}.yaml"
        settings = {
            "models": {"small": model, "large": model},
            "routes": {"auto": {"models": ["small", "large"]}},
            "cache": cache,
        }
        config.write_text(json.dumps(settings))
        arguments = [sys.executable, "-m", "gateway", "serve", "--config", str(config)]
        return self._start([*arguments, "--port", str(port), "--admin-port", "0"], port), port

    def _start(self, arguments: list[str], port: int) -> subprocess.Popen[bytes]:
        log = (self._folder / f"{port}.log").open("wb")
        process = subprocess.Popen(arguments, stdout=log, stderr=log, start_new_session=True)
        self._processes.append(process)
        for _ in range(200):
            with socket.socket() as one:
                if one.connect_ex(("127.0.0.1", port)) == 0:
                    return process
            time.sleep(0.05)
        raise SystemExit(f"{arguments[0]} did not start: {(self._folder / f'{port}.log').read_text()}")

    def stop(self) -> None:
        """Stop everything."""
        for process in self._processes:
            os.killpg(process.pid, signal.SIGTERM)
        for process in self._processes:
            process.wait(10)


def cpu_s(pid: int) -> float:
    """Return the CPU seconds of a process and its children that live."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return sum(_cpu_s(one) for one in (str(pid), *children))


def _cpu_s(pid: str) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_S


def free_port() -> int:
    """Return a port that is free now."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


PROXY_LOCATION = 'proxy_pass http://instant; proxy_http_version 1.1; proxy_set_header Connection "";'


def answer_location() -> str:
    """Return the instant upstream's answer as an nginx directive."""
    text = "word " * ((ANSWER_BYTES - 260) // 5)
    answer = {
        "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "m",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 400, "completion_tokens": 250, "total_tokens": 650},
    }  # fmt: skip
    return f"default_type application/json; return 200 '{json.dumps(answer)}';"


def write_script(path: Path, model: str, *, is_same: bool) -> None:
    """Write wrk's script: the same body again and again, or one that differs each time by a number."""
    text = "Explain how a queue drains when work comes in bursts. " * 40
    content = ("NUMBER " + text)[: REQUEST_BYTES - 110]
    whole = json.dumps({"model": model, "messages": [{"role": "user", "content": content}], "temperature": 0.2})
    head, tail = whole.split("NUMBER")
    number = '"1"' if is_same else "count"
    path.write_text(
        "local count = math.floor(os.time() * 1000)\n"
        'wrk.method = "POST"\nwrk.headers["Content-Type"] = "application/json"\n'
        f"local head, tail = [[{head}]], [[{tail}]]\n"
        "function request()\n  count = count + 1\n"
        f"  return wrk.format(nil, nil, nil, head .. {number} .. tail)\nend\n"
    )


def report(times: dict[str, list[float]]) -> None:
    """Print medians and the ratio of each round to nginx's in the same round."""
    base = next(iter(times.values()))
    print(f"{'':36} {'CPU µs a request':>16}   times nginx: median (min to max)")
    for name, values in times.items():
        ratios = [value / one for value, one in zip(values, base, strict=True)]
        print(
            f"{name:36} {statistics.median(values):16.1f}   "
            f"{statistics.median(ratios):6.1f} ({min(ratios):.1f} to {max(ratios):.1f})"
        )


if __name__ == "__main__":
    sys.exit(main())
