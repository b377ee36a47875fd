"""The field: LiteLLM proxy, Portkey gateway and vllm-router, each in an environment of its own, pinned by a lock.

Postern gets one by the same rule as LiteLLM: on a Python built with profile-guided optimisation where one is found.

    python -m loadtests.peers            install Postern's and all three into .bench/
    python -m loadtests.peers portkey    install one
    python -m loadtests.peers py-spy     the profiler of loadtests/stages.py; locust: what runs loadtests/locustfile.py

A peer that can't be installed is missing from the report, which says why.
"""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from loadtests import pythons
from loadtests.bodies import Door
from loadtests.processes import Stage, free_port
from loadtests.pythons import PLACE, MissingError, python_from
from loadtests.subjects import Launch, Subject, Upstreams

LOCKS = Path(__file__).parent / "locks"


def install_portkey() -> None:
    """Install Portkey from its lock, with @hono/node-server 1.11.1: with newer ones it holds streams back."""
    if shutil.which("npm") is None:
        raise MissingError("npm is missing: apt-get install nodejs npm")
    place = PLACE / "portkey"
    place.mkdir(parents=True, exist_ok=True)
    for name in ("package.json", "package-lock.json"):
        shutil.copy(LOCKS / "portkey" / name, place / name)
    # Its scripts patch its own development tools; nothing that serves needs them.
    subprocess.run(["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts", "--silent"], cwd=place, check=True)


def _install_python(name: str) -> None:
    python = python_from(*PYTHONS[name])
    if build := pythons.build_of(python):
        print(f"  on Python {build.version}, built {'with' if build.is_optimised else 'without'} PGO", flush=True)
    pythons.make(name, python, lock_of(name))


def start_litellm(stage: Stage, upstreams: Upstreams) -> Subject:
    """Start LiteLLM with one worker and nothing switched on but routing by name: no keys, no cache, no log."""
    program = installed("litellm", "bin/litellm")
    models = [
        {
            "model_name": name,
            "litellm_params": {"model": "openai/m", "api_base": f"http://127.0.0.1:{port}/v1", "api_key": "none"},
        }
        for name, port in (("small", upstreams.instant), ("stream", upstreams.stream))
    ]
    config = stage.folder / "litellm.yaml"
    general = {"dangerously_permit_weak_or_unset_master_key": True}
    settings = {"model_list": models, "litellm_settings": {"telemetry": False}, "general_settings": general}
    config.write_text(json.dumps(settings))
    port = free_port()
    command = [program, "--config", str(config), "--host", "127.0.0.1", "--port", str(port), "--num_workers", "1"]
    quiet = {"LITELLM_LOG": "ERROR", "LITELLM_LOCAL_MODEL_COST_MAP": "True", "PYTHONPATH": ""}
    process = stage.start(command, port, stage.subject_core, quiet)
    return Subject("litellm", [process], Door(port, ("small",)), Door(port, ("stream",)))


def start_portkey(stage: Stage, upstreams: Upstreams) -> Subject:
    """Start Portkey; it is told by headers where to go."""
    server = installed("portkey", "node_modules/@portkey-ai/gateway/build/start-server.js")
    port = free_port()
    process = stage.start(["node", server, f"--port={port}", "--headless"], port, stage.subject_core)
    doors = [
        Door(
            port,
            ("small",),
            (
                ("x-portkey-provider", "openai"),
                ("x-portkey-custom-host", f"http://127.0.0.1:{upstream}/v1"),
                ("Authorization", "Bearer none"),
            ),
        )
        for upstream in upstreams[:2]
    ]
    return Subject("portkey", [process], doors[0], doors[1])


def start_vllm_router(stage: Stage, upstreams: Upstreams) -> Subject:
    """Start vllm-router, a process an upstream: it balances, and knows no models. The second one idles meanwhile."""
    program = installed("vllm-router", "bin/vllm-router")
    processes, doors = [], []
    for upstream in upstreams[:2]:
        port, metrics_port = free_port(), free_port()
        command = [program, "--host", "127.0.0.1", "--port", str(port), "--policy", "round_robin"]
        command += ["--worker-urls", f"http://127.0.0.1:{upstream}", "--prometheus-port", str(metrics_port)]
        command += ["--log-level", "error"]
        processes.append(stage.start(command, port, stage.subject_core, {"PYTHONPATH": ""}))
        doors.append(Door(port, ("small",)))
    return Subject("vllm-router", processes, doors[0], doors[1])


def installed(name: str, program: str) -> str:
    """Return the path of what was installed, or say how to install it."""
    path = PLACE / name / program
    if not path.exists():
        raise MissingError(f"not installed: python -m loadtests.peers {name}")
    return str(path)


def version(name: str) -> str:
    """Return a peer's version as its lock has it."""
    if name == "portkey":
        package = json.loads((LOCKS / "portkey" / "package.json").read_text())
        return str(package["dependencies"]["@portkey-ai/gateway"])
    for line in (LOCKS / f"{name}.txt").read_text().splitlines():
        if line.startswith(f"{name}=="):
            return line.removeprefix(f"{name}==").split()[0]
    raise ValueError(f"no {name} in its own lock")


TITLES = {"vllm-router": "vllm-router", "portkey": "Portkey gateway", "litellm": "LiteLLM proxy"}
PEERS: dict[str, Launch] = {
    "vllm-router": start_vllm_router,
    "portkey": start_portkey,
    "litellm": start_litellm,
}
# LiteLLM's lock has httptools and OpenTelemetry: without them it is far slower. vllm-router's wheel is built for Python
# 3.12 alone. py-spy and Locust run on the Python that runs this.
PYTHONS: dict[str, tuple[pythons.Version, ...]] = {
    "postern": pythons.VERSIONS,
    "vllm-router": ((3, 12),),
    "litellm": pythons.VERSIONS,
    "py-spy": (sys.version_info[:2],),
    "locust": (sys.version_info[:2],),
}
INSTALLERS: dict[str, Callable[[], None]] = {
    "postern": partial(_install_python, "postern"),
    "vllm-router": partial(_install_python, "vllm-router"),
    "portkey": install_portkey,
    "litellm": partial(_install_python, "litellm"),
    "py-spy": partial(_install_python, "py-spy"),
    "locust": partial(_install_python, "locust"),
}


def main(names: list[str]) -> int:
    """Install peers; say of each how it went. Never fails for one that can't be had."""
    for name in names or ["postern", *PEERS]:
        if name not in INSTALLERS:
            print(f"no peer is called {name}; there are {', '.join(INSTALLERS)}")
            return 2
        if _is_done(name):
            continue
        what = "what the gateway runs on when it is measured" if name == "postern" else f"{name} {version(name)}"
        print(f"installing {what} into {PLACE.name}/{name}", flush=True)
        stamp = pythons.stamp(name)
        stamp.unlink(missing_ok=True)
        try:
            INSTALLERS[name]()
            stamp.write_text(lock_of(name).read_text())
        except (MissingError, OSError, subprocess.CalledProcessError) as exc:
            print(f"{name} is not installed: {exc}")
    return 0


def lock_of(name: str) -> Path:
    """Return the file that says what is installed for a name."""
    if name == "postern":
        return pythons.POSTERN_LOCK
    return LOCKS / ("portkey/package-lock.json" if name == "portkey" else f"{name}.txt")


def _is_done(name: str) -> bool:
    if not pythons.is_fresh(name, lock_of(name)):
        return False
    if name not in PYTHONS:
        return True
    mine, found = pythons.build_of(str(PLACE / name / "bin" / "python")), pythons.find(*PYTHONS[name])
    return not pythons.is_outdone(mine, pythons.build_of(found) if found else None)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
