"""The field: LiteLLM proxy, Portkey gateway and vllm-router, each in an environment of its own, pinned by a lock.

    python -m loadtests.peers            install all three into .bench/
    python -m loadtests.peers portkey    install one
    python -m loadtests.peers py-spy     the profiler of loadtests/stages.py; locust: what runs loadtests/locustfile.py

A peer that can't be installed is missing from the report, which says why.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from loadtests.bodies import Door
from loadtests.processes import Stage, free_port
from loadtests.subjects import Launch, Subject, Upstreams

LOCKS = Path(__file__).parent / "locks"
PLACE = Path(__file__).parents[1] / ".bench"


class MissingError(Exception):
    """A peer isn't installed; the text says what to do."""


def install_litellm() -> None:
    """Make LiteLLM's environment. Its lock has httptools and OpenTelemetry: without them it is far slower."""
    _install_python("litellm", python_from((3, 11), (3, 12), (3, 13)))


def install_vllm_router() -> None:
    """Make vllm-router's environment; its wheel is built for Python 3.12 alone."""
    _install_python("vllm-router", python_from((3, 12)))


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


def _install_python(name: str, python: str) -> None:
    place, lock = PLACE / name, LOCKS / f"{name}.txt"
    subprocess.run([python, "-m", "venv", "--clear", place], check=True)
    pip = [str(place / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "--require-hashes", "-r", str(lock)], check=True)


def python_from(*wanted: tuple[int, int]) -> str:
    """Return a Python of one of these versions: the one that runs, or one that is on PATH and starts."""
    if sys.version_info[:2] in wanted:
        return sys.executable
    places = os.environ.get("PATH", "").split(os.pathsep)
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    places += [str(place / "bin") for place in sorted(pyenv.glob("*"))]
    for major, minor in wanted:
        for place in places:
            found = shutil.which(f"python{major}.{minor}", path=place)
            if found and subprocess.run([found, "-c", ""], capture_output=True, check=False).returncode == 0:
                return found
    names = " or ".join(f"{major}.{minor}" for major, minor in wanted)
    raise MissingError(f"no Python {names} was found")


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
INSTALLERS: dict[str, Callable[[], None]] = {
    "vllm-router": install_vllm_router,
    "portkey": install_portkey,
    "litellm": install_litellm,
    "py-spy": lambda: _install_python("py-spy", sys.executable),
    "locust": lambda: _install_python("locust", sys.executable),
}


def main(names: list[str]) -> int:
    """Install peers; say of each how it went. Never fails for one that can't be had."""
    for name in names or list(PEERS):
        if name not in INSTALLERS:
            print(f"no peer is called {name}; there are {', '.join(INSTALLERS)}")
            return 2
        stamp = PLACE / f"{name}.installed"
        lock = LOCKS / ("portkey/package-lock.json" if name == "portkey" else f"{name}.txt")
        if stamp.exists() and stamp.read_text() == lock.read_text():
            continue
        print(f"installing {name} {version(name)} into {PLACE.name}/{name}", flush=True)
        try:
            INSTALLERS[name]()
            stamp.write_text(lock.read_text())
        except (MissingError, OSError, subprocess.CalledProcessError) as exc:
            print(f"{name} will be missing: {exc}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
