"""The image: what its Dockerfile says, and what comes of it when it is built and run as a container engine would."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import gateway
from tests import image
from tests.image import DOCKERFILE, ROOT, last_stage, parse_dockerfile
from tests.namespaces import find_problem, run_isolated

DOCKERFILES = sorted(ROOT.glob("deploy/**/Dockerfile*"))
BUILT_FROM = parse_dockerfile(DOCKERFILE)
FINAL = last_stage(BUILT_FROM)
LABELS = ("title", "description", "licenses", "base.name", "version", "revision", "created")
REVISION, CREATED, VERSION = "0123abc", "2026-11-22T00:00:00Z", "9.9.9"

# What would let an intruder go on: shells, and what fetches, installs or compiles.
TOOLS = re.compile(
    r"(ba|da|a|z|k|c|tc|fi)?sh|busybox|toybox|apt(-.*)?|dpkg(-.*)?|pip[\d.]*|curl|wget|nc|perl.*|gcc.*|ld|tar|su|sudo"
)
SECRET = re.compile(r"(?i)(password|token|api_?key|secret)\s*=")

problem = find_problem("buildah", "debootstrap", "redis-server")
can_build = pytest.mark.skipif(problem is not None, reason=problem or "")


def values(instructions, keyword):
    return [one.value for one in instructions if one.keyword == keyword]


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_hadolint_finds_nothing(path):
    done = subprocess.run(
        [Path(sys.executable).with_name("hadolint"), path], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_rule_that_is_left_out_has_its_reason_above_it(path):
    lines = path.read_text().splitlines()
    left_out = [number for number, line in enumerate(lines) if line.startswith("# hadolint ignore")]
    assert all(re.match(r"# \w.*", lines[number - 1]) for number in left_out)


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_image_is_safe_to_run_and_to_build(path):
    instructions = parse_dockerfile(path)
    final = last_stage(instructions)
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", values(final, "USER")[-1])
    assert all(value.startswith("[") for keyword in ("CMD", "ENTRYPOINT") for value in values(final, keyword))
    assert re.search(r"CMD \[", values(final, "HEALTHCHECK")[-1])
    assert values(instructions, "ADD") == []
    assert [one for one in values(instructions, "COPY") if "://" in one] == []
    assert [one for one in (*values(instructions, "ARG"), *values(instructions, "ENV")) if SECRET.search(one)] == []
    installs = [run for run in values(instructions, "RUN") if re.search(r"pip (install|download)|install_cpu", run)]
    assert installs
    # deploy/triton/install_cpu.py asks for hashes by itself.
    assert all(re.search("--require-hashes|--no-index|install_cpu", run) for run in installs)
    assert not re.search(r"index-url|trusted-host|https?://", path.read_text())
    bases = [one.split()[0] for one in values(instructions, "FROM")]
    defaults = dict(one.split("=", 1) for one in values(instructions, "ARG") if "=" in one)
    for base in bases:
        name = defaults.get(base.strip("${}"), base)
        assert ":" in name
        assert not name.endswith(":latest")


def test_the_context_holds_nothing_that_is_not_named():
    rules = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    assert rules[0] == "*"
    copied = {
        source.rstrip("/")
        for path in DOCKERFILES
        for one in values(parse_dockerfile(path), "COPY")
        if "--from" not in one
        for source in one.split()[:-1]
    }
    let_in = {rule[1:] for rule in rules if rule.startswith("!")}
    assert all(any(name == rule or name.startswith(f"{rule}/") for rule in let_in) for name in copied)
    assert all((ROOT / name).exists() for name in let_in)


def test_make_image_fills_the_labels_from_git():
    said = subprocess.run(["make", "image", "ENGINE=echo"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    told = dict(re.findall(r"--build-arg (\w+)=(\S+)", said))
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False).stdout
    assert told["VERSION"] == gateway.__version__
    assert re.match(head.strip() or "unknown", told["REVISION"])
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", told["CREATED"])
    assert {*told} == {"EXTRAS", "VERSION", "REVISION", "CREATED"}


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Build it; give its root, and how it wants to be run."""
    folder = tmp_path_factory.mktemp("image")
    try:
        debian = image.make_debian(folder / "debian")
        runtime = image.make_runtime(folder / "runtime", debian)
        locks = [ROOT / "locks" / f"{name}.txt" for name in ("serve", "otel")]
        image.fetch_wheels(folder / "wheels", locks)
    except AssertionError as exc:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(f"Debian's or Python's packages can't be fetched; it needs a network: {exc}")
    with image.Buildah(folder) as buildah:
        own = ("--env=PATH=/usr/bin", f"--env=SSL_CERT_FILE={image.AUTHORITIES}", "--user=65532")
        bases = {
            "BUILDER": buildah.commit(debian, "localhost/debian:base"),
            "RUNTIME": buildah.commit(runtime, "localhost/python:base", *own),
        }
        told = {"VERSION": VERSION, "REVISION": REVISION, "CREATED": CREATED}
        name = buildah.build(DOCKERFILE, folder / "wheels", **bases, **told)
        yield buildah.mount(name), buildah.config(name)


@pytest.fixture(scope="module")
def tried(built, tmp_path_factory):
    """Run it: bare, with a configuration, and with two workers."""
    root, config = built
    folder = tmp_path_factory.mktemp("mounted")
    return run_isolated("tests.contained", {"root": str(root), "config": config, "folder": str(folder)})


pytestmark = pytest.mark.xdist_group("image")
slow = pytest.mark.timeout(600)


@slow
@can_build
def test_the_built_image_says_what_it_is_and_runs_as_nobody(built):
    config = built[1]
    found = {name: config["Labels"].get(f"org.opencontainers.image.{name}") for name in LABELS}
    assert all(found.values())
    assert (found["version"], found["revision"], found["created"]) == (VERSION, REVISION, CREATED)
    assert config["User"] == "65532:65532"
    assert (config["Entrypoint"], config["Cmd"], config["StopSignal"]) == (["postern"], ["serve"], "SIGTERM")
    assert config["Healthcheck"]["Test"] == ["CMD", "postern", "health"]
    assert set(config["ExposedPorts"]) == {"8080/tcp", "8081/tcp"}


@slow
@can_build
def test_the_built_image_has_no_shell_no_tool_and_nothing_that_its_user_could_change(built):
    root = built[0]
    folders = [root / name for name in ("usr/bin", "usr/sbin", "usr/local/bin", "opt/postern/bin")]
    commands = {path.name for folder in folders if folder.is_dir() for path in folder.iterdir()}
    assert {name for name in commands if TOOLS.fullmatch(name)} == set()
    assert commands <= {"postern", "python", "python3", f"python{image.PYTHON}"}
    own = [path for path in (root / "opt/postern").rglob("*") if path.lstat().st_uid or path.lstat().st_mode & 0o022]
    assert [path for path in own if not path.is_symlink()] == []
    files = [path for path in root.rglob("*") if path.is_file() and not path.is_symlink()]
    assert [path for path in files if path.stat().st_mode & 0o6000] == []


@slow
@can_build
def test_the_built_image_holds_the_router_and_what_the_lock_says_without_what_builds(built):
    packages = next((built[0] / "opt/postern/lib").glob("python*/site-packages"))
    assert (packages / "router_models/artifacts/default/model.onnx").stat().st_size > 1_000_000
    names = {path.name.partition("-")[0].replace("_", "-").lower() for path in packages.glob("*.dist-info")}
    assert {"postern", "onnxruntime", "opentelemetry-proto", "tritonclient"} <= names
    assert names & {"hatchling", "editables", "pip", "setuptools", "scikit-learn", "pytest", "faker"} == set()
    locked = dict(re.findall(r"^([\w.-]+)==([^\s;]+)", (ROOT / "locks/otel.txt").read_text(), re.MULTILINE))
    for path in packages.glob("*.dist-info"):
        name, version = path.name.removesuffix(".dist-info").rsplit("-", 1)
        listed = (ROOT / "locks/otel.txt").read_text().replace("-", "_").lower()
        assert name == "postern" or f"{name.lower().replace('-', '_')}=={version}" in listed, (path.name, locked)


@slow
@can_build
def test_bare_it_serves_the_simulated_fleet_without_network_or_any_place_to_write(tried):
    bare = tried["bare"]
    assert bare["health"]["rc"] == 0
    assert bare["chat"]["status"] == 200
    assert bare["chat"]["headers"]["x-postern-fleet"] == "simulated"
    assert bare["chat"]["headers"]["x-postern-reason"] == "score"
    assert json.loads(bare["chat"]["body"])["choices"][0]["message"]["content"]
    assert bare["metrics"]["status"] == 200
    assert "postern_requests_total{" in bare["metrics"]["body"]
    events = {row["event"]: row for row in bare["stopped"]["log"]}
    assert events["serving"].get("config") is None
    # The test shares its loopback: in a container of its own nobody would reach 127.0.0.1.
    assert events["serving"]["url"] == "http://0.0.0.0:8080/v1"
    assert events["serving"]["admin_url"] == "http://0.0.0.0:8081"
    assert "every answer is made up" in events["simulated_fleet"]["note"]


@slow
@can_build
def test_it_runs_without_rights_and_can_write_nowhere(tried):
    bare = tried["bare"]
    assert bare["status"]["Uid"].split() == ["65532"] * 4
    assert int(bare["status"]["CapEff"], 16) == 0
    assert bare["shell"]["rc"] == 127
    assert bare["writes"]["said"].count("Read-only file system") == 4
    assert bare["imports"]["rc"] == 0, bare["imports"]["said"]
    assert "telemetry" not in bare["imports"]["said"]
    assert int(bare["authorities"]["said"]) > 100


@slow
@can_build
def test_it_says_how_it_is_and_stops_when_told_to(tried):
    bare = tried["bare"]
    assert (bare["stopped"]["rc"], bare["health_after"]["rc"]) == (0, 1)
    assert bare["stopped"]["took_s"] < 15
    assert (bare["missing_config"]["rc"], "/nowhere.yaml" in bare["missing_config"]["said"]) == (2, True)


@slow
@can_build
def test_a_configuration_is_mounted_and_that_is_all(tried):
    mounted = tried["mounted"]
    assert "mounted-small" in mounted["models"]["body"]
    assert json.loads(mounted["explain"]["said"])["candidates"][0]["model"] == "mounted-small"
    assert mounted["stopped"]["log"][0]["config"] == "/etc/postern/postern.yaml"


@slow
@can_build
@pytest.mark.parametrize("where", ["memory", "folder"])
def test_several_workers_add_their_metrics_up_where_something_can_be_written(tried, where):
    workers = tried["workers"][where]
    assert (workers["metrics"]["status"], workers["stopped"]["rc"]) == (200, 0)
