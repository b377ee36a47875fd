"""What is measured: a bare nginx and Postern with feature sets. Each is one process tree with a door an upstream."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from string import Template
from typing import NamedTuple

from loadtests import pythons
from loadtests.bodies import Door, answer_body
from loadtests.processes import Stage, free_port

TEMPLATE = Path(__file__).parent / "nginx.conf.template"
PROXY = "proxy_pass http://{upstream}; proxy_http_version 1.1; proxy_set_header Connection ''; proxy_buffering off;"


class Upstreams(NamedTuple):
    """The ports of the fake model servers and the processes behind them."""

    instant: int
    stream: int
    processes: list[subprocess.Popen[bytes]]


class Subject(NamedTuple):
    """One subject that runs: its processes (the first is the tree's root) and how it is asked."""

    name: str
    processes: list[subprocess.Popen[bytes]]
    instant: Door
    stream: Door
    expected: dict[str, str] = {}  # noqa: RUF012 - a tuple's default, never changed
    """Headers that an answer must have, so that a turn measures what its title says."""
    helpers: list[subprocess.Popen[bytes]] = []  # noqa: RUF012 - likewise
    """Processes it needs that are counted with the upstream: a Redis."""


Launch = Callable[[Stage, Upstreams], Subject]


def start_upstreams(stage: Stage) -> Upstreams:
    """Start the instant upstream and the one that streams, beside the load generator."""
    instant, stream = free_port(), free_port()
    content = f"default_type application/json; return 200 '{answer_body()}';"
    processes = [
        _start_nginx(stage, "upstream", stage.load_core, [(instant, content)], ("none", instant)),
        stage.start([sys.executable, "-m", "loadtests.upstream", str(stream)], stream, stage.load_core),
    ]
    return Upstreams(instant, stream, processes)


def start_collector(stage: Stage) -> int:
    """Start what takes spans and forgets them, beside the load generator; return its port."""
    port = free_port()
    content = "default_type application/x-protobuf; client_max_body_size 16m; return 200;"
    _start_nginx(stage, "collector", stage.load_core, [(port, content)], ("none", port))
    return port


def start_nginx(stage: Stage, upstreams: Upstreams) -> Subject:
    """Start the bare proxy: no log, kept connections on both sides, nothing held back."""
    ports = free_port(), free_port()
    servers = [(ports[0], PROXY.format(upstream="instant")), (ports[1], PROXY.format(upstream="stream"))]
    process = _start_nginx(stage, "proxy", stage.subject_core, servers, upstreams[:2])
    instant, stream = (Door(port, ("auto",)) for port in ports)
    return Subject("nginx", [process], instant, stream)


def _start_nginx(
    stage: Stage, name: str, core: int, servers: list[tuple[int, str]], upstreams: tuple[object, object]
) -> subprocess.Popen[bytes]:
    blocks = [f"server {{ listen 127.0.0.1:{port}; location / {{ {content} }} }}" for port, content in servers]
    instant, stream = (one if isinstance(one, int) else servers[0][0] for one in upstreams)
    config = stage.folder / f"nginx-{name}.conf"
    values = {"folder": stage.folder, "name": name, "instant": instant, "stream": stream, "servers": "\n".join(blocks)}
    config.write_text(Template(TEMPLATE.read_text()).substitute(values))
    return stage.start(["nginx", "-c", str(config)], servers[0][0], core)


class Features(NamedTuple):
    """What a Postern has switched on. Its metrics and its access log, to a file, are always on."""

    title: str
    route: str = "auto"
    """`small`: a model by name. `plain`: a route that always takes one model. `auto`: a route that is classified."""
    keys: int = 0
    has_cache: bool = False
    redis: bool = False
    workers: int = 1
    models: int = 1
    expected: dict[str, str] = {}  # noqa: RUF012 - a tuple's default, never changed


MISSED = {"x-postern-cache": "miss"}
SCORED = {**MISSED, "x-postern-reason": "score"}
FEATURES = {
    "postern-pinned": Features("Postern, a model by name", route="small", expected={"x-postern-reason": "pinned"}),
    "postern-classified": Features("Postern, classified", expected={"x-postern-reason": "score"}),
    "postern-walk": Features("Postern, the walk but for classifying", "plain", 1, has_cache=True, expected=MISSED),
    "postern-whole": Features("Postern, the whole walk", "auto", 1, has_cache=True, expected=SCORED),
    "postern-hit": Features("Postern, cache hit", "auto", 1, has_cache=True, expected={"x-postern-cache": "hit"}),
    "postern-redis": Features("Postern, the walk, Redis missed", "plain", 1, has_cache=True, redis=True),
    "postern-redis-hit": Features(
        "Postern, Redis hit", "auto", 1, has_cache=True, redis=True, expected={"x-postern-cache": "hit"}
    ),
    "postern-workers": Features("Postern, two workers on one Redis", "plain", 1, has_cache=True, redis=True, workers=2),
    "postern-model": Features("Postern, one model", "small", 1, has_cache=True, expected=MISSED),
    "postern-models": Features("Postern, 100 models", "small", 1, has_cache=True, models=100, expected=MISSED),
    "postern-keys": Features("Postern, 10,000 keys", "plain", 10_000, has_cache=True, expected=MISSED),
}


def start_postern(name: str, stage: Stage, upstreams: Upstreams) -> Subject:
    """Start a gateway with a feature set, and its Redis where it has one."""
    features = FEATURES[name]
    keys = [f"pk-postern-bench-{number:06d}" for number in range(features.keys)]
    settings = settings_of(features, keys, upstreams)
    helpers = []
    if features.redis:
        redis_port = free_port()
        settings["redis"] = {"url": f"redis://127.0.0.1:{redis_port}/0"}
        helpers.append(start_redis(stage, redis_port))
    process, port = serve(stage, settings, features.workers)
    names: tuple[str, ...]
    names, stream_name = (features.route,), f"{features.route}-stream"
    if features.route == "small":
        names, stream_name = tuple(f"small-{number}" for number in range(features.models)), "stream-0"
    instant, stream = (Door(port, one, keys=tuple(keys)) for one in (names, (stream_name,)))
    return Subject(name, [process], instant, stream, expected=features.expected, helpers=helpers)


def serve(
    stage: Stage, settings: dict[str, object], workers: int, module: str = "gateway"
) -> tuple[subprocess.Popen[bytes], int]:
    """Start a gateway with a configuration; return it and its port."""
    port = free_port()
    config = stage.folder / f"gateway-{port}.yaml"
    config.write_text(json.dumps(settings))
    command = [pythons.postern(), "-m", module, "serve", "--config", str(config), "--port", str(port)]
    command += ["--admin-port", "0", "--workers", str(workers)]
    return stage.start(command, port, stage.subject_core, pythons.CHECKOUT), port


def settings_of(features: Features, keys: list[str], upstreams: Upstreams) -> dict[str, object]:
    """Return a gateway's configuration."""
    models: dict[str, object] = {}
    for kind, port in (("small", upstreams.instant), ("large", upstreams.instant)):
        for number in range(features.models):
            models[f"{kind}-{number}"] = _model(port)
    models["stream-0"] = models["stream-1"] = _model(upstreams.stream)
    pinned = {"kind": "pinned", "model": "small-0"}
    routes = {
        "auto": {"models": ["small-0", "large-0"]},
        "auto-stream": {"models": ["stream-0", "stream-1"]},
        "plain": {"models": ["small-0"], "policy": pinned},
        "plain-stream": {"models": ["stream-0"], "policy": {**pinned, "model": "stream-0"}},
    }
    hashes = [hashlib.sha256(key.encode()).hexdigest() for key in keys]
    clients = {f"client-{place}": {"sha256": one} for place, one in enumerate(hashes)}
    return {
        "models": models,
        "routes": routes,
        "cache": {"exact": {} if features.has_cache else None},
        "keys": {"required": bool(keys), "clients": clients},
        "limits": {"max_in_flight": 10_000},
    }


def _model(port: int) -> dict[str, object]:
    price = {"input": 0.05, "output": 0.1}
    url = f"http://127.0.0.1:{port}/v1"
    return {
        "backend": "openai",
        "urls": [url],
        "context_tokens": 100_000,
        "price": price,
        "max_connections": 4096,
    }


def start_redis(stage: Stage, port: int) -> subprocess.Popen[bytes]:
    """Start a Redis beside the load generator."""
    if shutil.which("redis-server") is None:
        raise FileNotFoundError("redis-server is missing: apt-get install redis-server")
    folder = stage.folder / f"redis-{port}"
    folder.mkdir()
    command = ["redis-server", "--port", str(port), "--save", "", "--dir", str(folder), "--maxmemory", "256mb"]
    return stage.start([*command, "--maxmemory-policy", "allkeys-lru"], port, stage.load_core)


def versions() -> dict[str, str]:
    """Return what nginx, wrk and Redis say of themselves."""
    asked = {"nginx": ["nginx", "-v"], "wrk": ["wrk", "-v"], "redis-server": ["redis-server", "-v"]}
    found = {}
    for name, command in asked.items():
        if shutil.which(name):
            done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ)
            numbers = re.search(r"\d+\.\d+(\.\d+)?", done.stdout + done.stderr)
            found[name] = numbers[0] if numbers else "?"
    return found
