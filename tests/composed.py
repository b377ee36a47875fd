"""Start what deploy/compose.yaml starts, without containers: the same commands, configurations, names and ports.

Run by test_compose.py through tests/namespaces.py, in a network of its own where every service's name is loopback. What
can't be had without a container registry, Grafana and Ollama, is left out. Answers with what was seen, as JSON.
"""

import contextlib
import json
import os
import subprocess
import sys
import time
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.contained import get
from tests.namespaces import ROOT, bind, bring_up_loopback, mount

GATEWAY, PROMETHEUS = "http://gateway:8080", "http://prometheus:9090"
EASY = "What is the capital of France?"
HARD = "Prove that every finite group of order p^2 is abelian, then derive its automorphism group. [[tokens=8]]"
PATIENCE_S = 40.0


@contextlib.contextmanager
def running(command: list[str], log: Path, **environ: str) -> Iterator[None]:
    """Run a service while the block runs."""
    with (
        log.open("w") as out,
        subprocess.Popen(command, env={**os.environ, **environ}, cwd=ROOT, stdout=out, stderr=out) as process,
    ):
        try:
            yield
        finally:
            process.terminate()


def wait_for(what: str, told: Any) -> Any:
    """Return what `told` says as soon as it says something."""
    until_s = time.monotonic() + PATIENCE_S
    while not (found := told()):
        if time.monotonic() > until_s:
            raise SystemExit(f"{what}: not after {PATIENCE_S:g} s")
        time.sleep(0.1)
    return found


def ask(text: str) -> dict[str, Any]:
    """Ask the gateway's route."""
    return get(f"{GATEWAY}/v1/chat/completions", {"model": "auto", "messages": [{"role": "user", "content": text}]})


def query(path: str, **parameters: str) -> Any:
    """Ask Prometheus; its data."""
    said = get(f"{PROMETHEUS}/api/v1/{path}?{urllib.parse.urlencode(parameters)}")
    return json.loads(said["body"])["data"] if said["status"] == 200 else None


def targets() -> dict[str, list[str]] | None:
    """Return each target's job, health and last error once all have been scraped."""
    active = (query("targets") or {}).get("activeTargets", [])
    found = {one["scrapeUrl"]: [one["labels"]["job"], one["health"], one["lastError"]] for one in active}
    return found if found and all(health != "unknown" for _, health, _ in found.values()) else None


def rules() -> list[list[str]] | None:
    """Return each rule's name, health and last error once all have been evaluated."""
    groups = (query("rules") or {}).get("groups", [])
    found = [[rule["name"], rule["health"], rule.get("lastError", "")] for group in groups for rule in group["rules"]]
    return found if found and all(health != "unknown" for _, health, _ in found) else None


def counted() -> list[Any] | None:
    """Return the requests that Prometheus has counted by tier, once both tiers are there."""
    found = (query("query", query="sum by (tier) (postern_requests_total)") or {}).get("result", [])
    return found if len({one["metric"].get("tier") for one in found}) > 1 else None


def lay_out(told: dict[str, Any], folder: Path) -> None:
    """Give each service its name, and Prometheus its files where the container has them."""
    hosts = folder / "hosts"
    hosts.write_text("".join(f"127.0.0.1 {name}\n" for name in ("localhost", *told["services"])))
    bind(hosts, Path("/etc/hosts"))
    place = Path("/etc/prometheus")
    place.mkdir(exist_ok=True)
    mount("tmpfs", place, "tmpfs")
    for source, target in told["prometheus_files"]:
        inside = Path(target)
        inside.mkdir() if Path(source).is_dir() else inside.touch()
        bind(Path(source), inside)


def main() -> None:
    """Start it all, send a few requests, and see what each part knows of them."""
    told = json.load(sys.stdin)
    folder = Path(told["folder"])
    bring_up_loopback()
    lay_out(told, folder)
    services = told["services"]
    triton = [sys.executable, "deploy/triton/serve_cpu.py"]
    metrics = [f"--storage.tsdb.path={folder}/tsdb", "--config.file=/etc/prometheus/prometheus.yml"]
    with contextlib.ExitStack() as stack:
        stack.enter_context(running(services["redis"]["command"], folder / "redis.log"))
        stack.enter_context(running([*triton, *services["triton"]["command"]], folder / "triton.log"))
        wait_for("triton", lambda: subprocess.run([*triton, "--ask"], check=False, cwd=ROOT).returncode == 0)
        gateway = [sys.executable, "-m", "gateway", "serve", "--host", "0.0.0.0", "--admin-host", "0.0.0.0"]
        stack.enter_context(running(gateway, folder / "gateway.log", **told["gateway_environ"]))
        wait_for("gateway", lambda: get(f"{GATEWAY}/health/ready")["status"] == 200)
        seen = {"easy": ask(EASY), "hard": ask(HARD), "again": ask(EASY)}
        seen["keys"] = int(subprocess.check_output(["redis-cli", "-h", "redis", "dbsize"], text=True))
        # Asked for again as long as it takes: a counter that begins at its first value would have no rate.
        stack.enter_context(running(["prometheus", *metrics], folder / "prometheus.log"))
        wait_for("prometheus", lambda: get(f"{PROMETHEUS}/-/ready")["status"] == 200)
        seen |= {
            "targets": wait_for("targets", targets),
            "counted": wait_for("counted", counted),
            "rules": wait_for("rules", rules),
            "source": get(f"{told['grafana_source']}/api/v1/query?query=up"),
        }
    seen["log"] = (folder / "gateway.log").read_text()
    json.dump(seen, sys.stdout)


if __name__ == "__main__":
    main()
