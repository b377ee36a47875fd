"""The commands: `postern serve`, `check-config`, `explain`, `keys`, `score` and more. Parses and prints."""

import asyncio
import os
import platform
import re
import socket
import sys
import tempfile
from collections.abc import Callable, Coroutine
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import NoReturn, TextIO, TypeVar

import click
import msgspec
import uvloop

from gateway import __version__
from gateway.api.explain import CandidateExplanation, Explanation
from gateway.api.server import bind
from gateway.app import probe, router_folder
from gateway.auth.keys import create_key, hash_key
from gateway.classify.onnx import ClassifierLoadError, OnnxClassifier
from gateway.core.errors import PosternError
from gateway.extras import add_extra_commands
from gateway.offline import check_models, check_routers, counted, explain_prompt, find_warnings, score_lines
from gateway.process import Process
from gateway.quick import QUICK, run_quick
from gateway.settings.discover import discover_settings, is_simulated
from gateway.settings.faults import SettingsError
from gateway.settings.load import load_settings
from gateway.settings.logs import LogFormat, LogLevel, LogsSettings
from gateway.settings.names import is_name
from gateway.settings.root import Settings
from gateway.settings.schema import json_schema
from gateway.settings.tracing import with_environ
from gateway.telemetry.logs import log, set_up_logs
from gateway.tracing import check_extra
from gateway.workers import Workers

LATER = ("usage",)
# A name with a hyphen is a text in YAML whatever its letters; others (yes, null, 123) may not be, and get quotes.
PLAIN_YAML = re.compile(r"[a-z]+(-[a-z0-9]+)+")
CONFIG = click.Path(dir_okay=False, readable=False, path_type=Path)  # reading it tells better what is wrong
USUAL_CONFIG = Path("/etc/postern/postern.yaml")
"""Read where nothing else is named and it is there: in a container one mounts it, and that is all."""
PORT = click.IntRange(0, 65_535)
"""Without an environment variable: to a Service named `postern`, Kubernetes sets POSTERN_PORT=tcp://..."""
SHARED_MEMORY = "/dev/shm"  # noqa: S108 - only where mkdtemp makes a folder of its own
AUTO = "auto"
LOG_OPTIONS = {"log_format", "log_level"}

T = TypeVar("T")
Overrides = dict[str, str | int]


config_option = click.option(
    "--config",
    type=CONFIG,
    envvar="POSTERN_CONFIG",
    show_envvar=True,
    help=f"Configuration file (YAML). Default: {USUAL_CONFIG} where there is one.",
)


@click.group(epilog="\b\nExamples:\n  postern serve\n  postern serve --config postern.yaml --port 8080")
@click.version_option(__version__, prog_name="postern")
def main() -> None:
    """Send each request to the cheapest model that will answer it well."""


@main.command(
    epilog="\b\nExamples:\n  postern serve                          what is at hand: OpenAI, Ollama, vLLM, or simulated"
    "\n  postern serve --config postern.yaml    SIGHUP, or a changed file, reloads it"
)
@config_option
@click.option("--host", envvar="POSTERN_HOST", show_envvar=True, help="Address to listen on.")
@click.option("--port", type=PORT, help="Data port.")
@click.option("--admin-host", envvar="POSTERN_ADMIN_HOST", show_envvar=True, help="Address of the admin port.")
@click.option("--admin-port", type=PORT, help="Admin port: /metrics.")
@click.option("--workers", type=click.IntRange(1, 64), help="Processes; more than one needs Redis.")
@click.option(
    "--log-format",
    type=click.Choice([*(one.value for one in LogFormat), AUTO]),
    envvar="POSTERN_LOG_FORMAT",
    show_envvar=True,
    help="How lines look; auto: text on a terminal, JSON elsewhere.",
)
@click.option(
    "--log-level",
    type=click.Choice([one.value for one in LogLevel]),
    envvar="POSTERN_LOG_LEVEL",
    show_envvar=True,
    help="The least that is logged.",
)
def serve(config: Path | None, **given: str | int | None) -> None:
    """Serve until SIGINT or SIGTERM."""
    config = find_config(config)
    overrides: Overrides = {name: value for name, value in given.items() if value is not None}
    set_up_logs(_logs_of(LogsSettings(), overrides))
    settings = _or_exit(partial(load, config, overrides))
    set_up_logs(settings.logs)
    server = settings.server
    if server.workers > 1 and settings.redis is None:
        _fail("server.workers: more than one process needs shared stores; set redis.url, or leave workers at 1")
    reload = partial(load_checked, config, overrides)
    served: Workers | Process
    if server.workers > 1:
        _check_writable()
        _or_exit(lambda: check_models(settings))
        served = Workers(settings, reload, serve_worker, (config, overrides))
    else:
        served = _or_exit(lambda: Process(settings, reload, config))
    data, admin = _bind(server.host, server.port), _bind(server.admin_host, server.admin_port)
    _run(served.run(data, admin, partial(_announce, settings, config, data, admin)))


def serve_worker(data: socket.socket, settings: Settings, config: Path | None, overrides: Overrides) -> None:
    """Serve as one of several processes; the parent has the admin port and has announced them."""
    set_up_logs(settings.logs)
    process = _or_exit(lambda: Process(settings, partial(load_checked, config, overrides), config))
    _run(process.run(data, None, lambda: None))


def _run(work: Coroutine[None, None, None]) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(work)


def find_config(given: Path | None) -> Path | None:
    """Return the file to read: the given one, else the usual one where there is one, else none."""
    try:
        return USUAL_CONFIG if given is None and USUAL_CONFIG.is_file() else given
    except PermissionError:  # it may well be there: reading it tells what is wrong
        return USUAL_CONFIG


def load(config: Path | None, overrides: Overrides) -> Settings:
    """Return the settings of a file, or of what is at hand; command-line options win. Raises SettingsError."""
    settings = load_settings(config, os.environ) if config else discover_settings(os.environ, probe)
    check_extra(settings.tracing)
    of_server = {name: value for name, value in overrides.items() if name not in LOG_OPTIONS}
    server = msgspec.structs.replace(settings.server, **of_server)
    logs, tracing = _logs_of(settings.logs, overrides), with_environ(settings.tracing, os.environ)
    return msgspec.structs.replace(settings, server=server, logs=logs, tracing=tracing)


def _logs_of(settings: LogsSettings, overrides: Overrides) -> LogsSettings:
    """Return how to log; `auto` leaves the form to the terminal, whatever the file says."""
    form, level = overrides.get("log_format"), overrides.get("log_level")
    if form is not None:
        settings = msgspec.structs.replace(settings, format=None if form == AUTO else LogFormat(str(form)))
    return settings if level is None else msgspec.structs.replace(settings, level=LogLevel(str(level)))


def load_checked(config: Path | None, overrides: Overrides) -> Settings:
    """Return the settings after a look at their routers too: what a reload may take over. Raises SettingsError."""
    settings = load(config, overrides)
    check_routers(settings)
    return settings


def _check_writable() -> None:
    """Have temporary files in memory where, as in a container without a /tmp, no disk can be written."""
    with suppress(FileNotFoundError):
        tempfile.gettempdir()
        return
    if os.access(SHARED_MEMORY, os.W_OK):
        tempfile.tempdir = SHARED_MEMORY
    else:
        _fail(
            "server.workers: several processes add their metrics up in files, and no folder here is writable; "
            "mount memory at /tmp (docker run --tmpfs /tmp), or leave workers at 1"
        )


def _bind(host: str, port: int) -> socket.socket:
    try:
        return bind(host, port)
    except OSError as exc:
        _fail(f"can't listen on {host}:{port}: {exc.strerror}; choose another with --port or --admin-port")


def _announce(settings: Settings, config: Path | None, data: socket.socket, admin: socket.socket) -> None:
    log(
        "serving",
        version=__version__,
        url=_url(data) + "/v1",
        admin_url=_url(admin),
        config=None if config is None else str(config),
        routes=",".join(settings.routes),
        models=",".join(settings.models),
        workers=settings.server.workers,
        python=platform.python_version(),
        pid=os.getpid(),
    )
    if is_simulated(settings):
        log("simulated_fleet", note="no model is behind this gateway: every answer is made up; see --config")


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


@main.command("check-config", epilog="\b\nExample:\n  postern check-config postern.yaml")
@click.argument("file", type=CONFIG)
def check_config(file: Path) -> None:
    """Check a configuration: exit 0 and a summary of its routes, or exit 2 and every fault."""
    settings = _or_exit(lambda: load_checked(file, {}))
    _or_exit(lambda: check_models(settings))
    for warning in find_warnings(settings):
        click.echo(f"warning: {warning}", err=True)
    for name, route in settings.routes.items():
        policy = route.policy
        held = f"threshold {policy.threshold:g}"
        if policy.strong_share is not None:
            held = f"strong share {policy.strong_share:g}"
        detail = held if policy.model is None else policy.model
        click.echo(f"{name}: {' < '.join(route.models)}  ({policy.name}, {detail})")


@main.command(
    epilog='\b\nExamples:\n  postern explain "What is the capital of France?"'
    "\n  postern explain --config postern.yaml --json - < prompt.txt"
)
@config_option
@click.option("--route", default=None, help="Route to explain; default: the first one.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.argument("prompt")
def explain(config: Path | None, route: str | None, as_json: bool, prompt: str) -> None:
    """Explain which model would answer PROMPT (`-`: standard input), and why. Calls no model."""
    settings = _or_exit(lambda: load(find_config(config), {}))
    text = sys.stdin.read() if prompt == "-" else prompt
    try:
        told = asyncio.run(explain_prompt(settings, route or next(iter(settings.routes)), text))
    except PosternError as exc:
        _fail(exc.message)
    click.echo(msgspec.json.format(msgspec.json.encode(told)).decode() if as_json else _tell(told))


def _tell(told: Explanation) -> str:
    score = "none" if told.score is None else f"{told.score:.3f}"
    threshold = "none" if told.threshold is None else f"{told.threshold:g}"
    threshold += f" (moves, to hold a share of {told.strong_share:g})" if told.strong_share is not None else ""
    domain = f", domain {told.domain}" if told.domain else ""
    unsure = f"; if it begins unsure: {told.escalation}" if told.escalation else ""
    personal = f"; personal data: {', '.join(told.personal)}" if told.personal else ""
    lines = [
        f"{told.route} -> {told.model} ({told.tier}), because: {told.reason}{unsure}{personal}",
        f"score {score}, threshold {threshold}, router {told.router or 'none'}{domain}",
        f"about {told.prompt_tokens} prompt tokens; costs assume {told.completion_tokens} in the answer",
        *(
            f"  {one.tier:7} {one.model:24} ${one.estimated_cost_usd:.6f}  {_chance(one)}{_verdict(one)}"
            for one in told.candidates
        ),
    ]
    return "\n".join(lines)


def _chance(one: CandidateExplanation) -> str:
    return "" if one.chance is None else f"{one.chance:4.0%} good  "


def _verdict(one: CandidateExplanation) -> str:
    lacks = f" (lacks {one.lacks})" if one.lacks else ""
    return f"{one.dropped}{lacks}" if one.dropped else "can serve"


@main.command(epilog="\b\nExample:\n  postern schema > postern.schema.json")
def schema() -> None:
    """Print the JSON schema of the configuration."""
    click.echo(msgspec.json.format(msgspec.json.encode(json_schema())).decode())


@main.command(epilog="\b\nExample:\n  postern score prompts.jsonl > scores.jsonl")
@click.option("--router", default="default", show_default=True, help="Router's name, or its folder.")
@click.argument("file", type=click.File("r", encoding="utf-8", errors="replace"))
def score(router: str, file: TextIO) -> None:
    """Score each line's {"prompt"} or {"messages"}: one JSON line each, in order."""
    try:
        classifier = OnnxClassifier.load(router_folder(router))
    except ClassifierLoadError as exc:
        _fail(str(exc))
    # Where both go to the terminal, a counter would run into the scores.
    shows_count = sys.stderr.isatty() and not sys.stdout.isatty()
    lines = counted(file, sys.stderr) if shows_count else file
    # A pipe's writer may wait for each score; a file waits for none.
    is_patient = file.seekable()
    is_sound, out = True, sys.stdout.buffer
    for line in score_lines(classifier, lines):
        is_sound = is_sound and line.score is not None
        out.write(msgspec.json.encode(line) + b"\n")
        if not is_patient:
            out.flush()
    out.flush()
    sys.exit(0 if is_sound else 2)


@main.group()
def keys() -> None:
    """Client keys. The configuration holds their hashes only."""


@keys.command("create", epilog="\b\nExample:\n  postern keys create team-a")
@click.argument("name")
def create(name: str) -> None:
    """Make a key for client NAME: shown once, with what belongs in the configuration."""
    if not is_name(name):
        _fail(f"{name!r} is no name for a client: take printable characters without spaces, 128 at most")
    key = create_key()
    quoted = name if PLAIN_YAML.fullmatch(name) else msgspec.json.encode(name).decode()
    click.echo(f"# The key, shown only now:\n# {key}\nkeys:\n  clients:\n    {quoted}: {{sha256: {hash_key(key)}}}")


@keys.command("list")
@click.option("--config", type=CONFIG, required=True, help="Configuration file (YAML).")
def list_keys(config: Path) -> None:
    """List the clients of a configuration and the beginnings of their keys' hashes."""
    settings = _or_exit(lambda: load_settings(config, os.environ))
    for name, client in settings.keys.clients.items():
        click.echo(f"{name}  sha256:{client.sha256[:12]}...")


@keys.command("revoke")
@click.argument("name")
def revoke(name: str) -> None:
    """Not available yet: take the client out of the configuration, which reloads by itself."""
    _fail(f"not available yet; take {name!r} out of keys.clients in the configuration, which reloads by itself")


def _refuse(name: str) -> None:
    @main.command(name, help="Not available yet.", context_settings={"ignore_unknown_options": True})
    @click.argument("rest", nargs=-1)
    def refuse(rest: tuple[str, ...]) -> None:  # noqa: ARG001 - taken so that any use gets the same answer
        _fail(f"postern {name} is not available yet")


def _list_quick(name: str, summary: str) -> None:
    @main.command(name, short_help=summary, add_help_option=False, context_settings={"ignore_unknown_options": True})
    @click.argument("rest", nargs=-1, type=click.UNPROCESSED)
    def run(rest: tuple[str, ...]) -> None:
        run_quick([name, *rest])


for later in LATER:
    _refuse(later)
for quick, summary in QUICK.items():
    _list_quick(quick, summary)
add_extra_commands(main)


def _or_exit(make: Callable[[], T]) -> T:
    try:
        return make()
    except SettingsError as exc:
        _fail(str(exc))


def _fail(problem: str) -> NoReturn:
    click.echo(problem, err=True)
    sys.exit(2)
