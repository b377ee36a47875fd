"""Which Python a subject runs on: found, made into an environment of its own, and told in the report.

A Python that was built with profile-guided optimisation (PGO: compiled anew for what a first build spent its time on)
runs the same gateway in 9 to 14 % less CPU time. Nearly everyone's is: python.org's, Debian's, Docker's, uv's, conda's.
One compiled from source without `--enable-optimizations`, which is what pyenv does unless told otherwise, isn't, and
would measure what no user runs.
"""

import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[1]
PLACE = ROOT / ".bench"
POSTERN_LOCK = ROOT / "locks" / "serve.txt"
CHECKOUT = {"PYTHONPATH": str(ROOT)}
"""What a gateway is started with: its environment holds what it needs, the code is that of this checkout."""

Version = tuple[int, int]
VERSIONS: tuple[Version, ...] = ((3, 11), (3, 12), (3, 13))
"""Those that both Postern and LiteLLM support, so that one rule gives both the same Python."""

# It imports venv because Debian's smallest Python has none, and then no environment can be made of it.
ASK = (
    "import json, platform, sysconfig, venv; "
    "print(json.dumps([platform.python_version(), sysconfig.get_config_vars()]))"
)
PROFILE_FLAGS = ("-fprofile-use", "-fprofile-instr-use")
HOMES = (
    Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions",
    Path.home() / ".local/share/uv/python",
)


class MissingError(Exception):
    """Something isn't installed; the text says what to do."""


class Build(NamedTuple):
    """An interpreter: its version, and whether it was built with PGO."""

    version: str
    is_optimised: bool


def is_optimised(variables: Mapping[str, Any]) -> bool:
    """Say whether an interpreter was built with PGO, from its `sysconfig.get_config_vars()`.

    Debian and Ubuntu run `make profile-opt` without the configure flag and wipe `-fprofile-use -fprofile-correction`
    out of what sysconfig tells (`sysconfig_substflags` in their `debian/rules`). That leaves a flag empty which
    configure always fills where it fills its twin. On architectures where they skip the profile (riscv64 is one) this
    says yes all the same.
    """
    if variables.get("Py_DEBUG"):
        return False
    asked = shlex.split(variables.get("CONFIG_ARGS") or "")
    if "--enable-optimizations" in asked or "--enable-optimizations=yes" in asked:
        return True
    flags = f"{variables.get('PY_CFLAGS_NODIST')} {variables.get('PY_CORE_CFLAGS')}"
    if any(flag in flags for flag in PROFILE_FLAGS):
        return True
    return bool(variables.get("PGO_PROF_GEN_FLAG")) and variables.get("PGO_PROF_USE_FLAG") == ""


def build_of(python: str) -> Build | None:
    """Ask an interpreter how it was built; None for one that doesn't start or can't make environments."""
    try:
        done = subprocess.run([python, "-I", "-c", ASK], capture_output=True, text=True, check=True)
        version, variables = json.loads(done.stdout)
    except (OSError, subprocess.CalledProcessError, ValueError):
        return None
    return Build(version, is_optimised(variables))


def best(
    pythons: Iterable[str], wanted: Collection[Version], build_of: Callable[[str], Build | None] = build_of
) -> str | None:
    """Return the first of the wanted versions that was built with PGO, or else the first that starts."""
    plain = None
    for python in pythons:
        build = build_of(python)
        if build is None or _version(build) not in wanted:
            continue
        if build.is_optimised:
            return python
        plain = plain or python
    return plain


def find(*wanted: Version) -> str | None:
    """Return the best Python of these versions: the one that runs, or one on PATH or where pyenv and uv put theirs."""
    return best(_candidates(wanted), wanted)


def python_from(*wanted: Version) -> str:
    """Return what `find` does, or raise."""
    found = find(*wanted)
    if found is None:
        names = " or ".join(f"{major}.{minor}" for major, minor in wanted)
        raise MissingError(f"no Python {names} was found")
    return found


def _candidates(wanted: Collection[Version]) -> Iterator[str]:
    yield sys.executable
    places = os.environ.get("PATH", "").split(os.pathsep)
    places += [str(place / "bin") for home in HOMES for place in sorted(home.glob("*"))]
    for major, minor in wanted:
        found = (shutil.which(f"python{major}.{minor}", path=place) for place in places)
        yield from dict.fromkeys(python for python in found if python)


def _version(build: Build) -> Version:
    major, minor, *_ = build.version.split(".")
    return int(major), int(minor)


def stamp(name: str) -> Path:
    """Return where a copy of the lock stays that something was installed from."""
    return PLACE / f"{name}.installed"


def is_fresh(name: str, lock: Path) -> bool:
    """Say whether something was installed from the lock as it is now."""
    return stamp(name).exists() and stamp(name).read_text() == lock.read_text()


def environment(name: str, lock: Path) -> str | None:
    """Return the interpreter of an environment that was made from this lock."""
    python = PLACE / name / "bin" / "python"
    return str(python) if python.exists() and is_fresh(name, lock) else None


def is_outdone(mine: Build | None, found: Build | None) -> bool:
    """Say whether an environment is to be made anew: its Python is gone, or one built with PGO is there by now."""
    return mine is None or (not mine.is_optimised and found is not None and found.is_optimised)


def make(name: str, python: str, lock: Path) -> None:
    """Make an environment from a lock. The running pip fills it: Debian's Python brings none along."""
    place = (PLACE / name).resolve()  # the path stays in its scripts
    subprocess.run([python, "-m", "venv", "--clear", "--without-pip", place], check=True)
    pip = [sys.executable, "-m", "pip", "--python", str(place / "bin" / "python"), "--disable-pip-version-check"]
    subprocess.run([*pip, "install", "--quiet", "--require-hashes", "-r", str(lock)], check=True)


def postern() -> str:
    """Return the interpreter that a gateway is to be measured on: its own environment's, or else the running one."""
    return environment("postern", POSTERN_LOCK) or sys.executable


def describe(*, has_litellm: bool = False) -> str:
    """Say which Python Postern runs on here, and LiteLLM where it takes part."""
    found = {"Postern": build_of(postern())}
    if has_litellm:
        found["LiteLLM"] = build_of(str(PLACE / "litellm" / "bin" / "python"))
    builds = {name: build for name, build in found.items() if build is not None}
    return tell(builds, has_own=environment("postern", POSTERN_LOCK) is not None)


def tell(builds: dict[str, Build], *, has_own: bool) -> str:
    """Say in words which Python each subject runs on, and what that does to its figures."""
    parts: list[str] = []
    for name, build in builds.items():
        ran = "" if parts else "ran "
        what = "it" if parts else "profile-guided optimisation (PGO)"
        parts.append(
            f"{name} {ran}on Python {build.version}, built {'with' if build.is_optimised else 'without'} {what}"
        )
    told = f"{'; '.join(parts)}."
    if not all(build.is_optimised for build in builds.values()):
        told += (
            " Most users' Python has it (python.org's, Debian's, Docker's, uv's): with it, the same requests took "
            "Postern 9 to 14 % less CPU time."
        )
    if not has_own:
        told += (
            " Postern ran in the load tests' environment: `python -m loadtests.peers postern` makes it one of its own, "
            "on the best Python there is."
        )
    return told
