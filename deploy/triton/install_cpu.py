"""Install Triton for the CPU into `.triton`, from locks/triton.txt; `make triton` calls it.

Where it can't run, say why and leave nothing; the tests that need it are then skipped, with CI=true that is a failure.
"""

import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = ROOT / ".triton"
VERSIONS = ("3.12", "3.11", "3.10")
GLIBC = (2, 35)

# A model's process links libpython as a shared library, which Debian packages apart from the interpreter.
PROBE = """
import ctypes, os, sys, sysconfig, venv, ensurepip
name = f"libpython3.{sys.version_info[1]}.so.1.0"
path = os.path.join(sysconfig.get_config_var("LIBDIR"), name)
ctypes.CDLL(path if os.path.exists(path) else name)
print(*sys.version_info[:2], sep=".")
"""


def main() -> int:
    """Return the exit status: 1 where it could not be installed and must be."""
    problem = find_platform_problem()
    python = None if problem else find_python()
    if problem is None and python is None:
        problem = f"no Python of {', '.join(VERSIONS)} with its shared library and venv (Debian: libpython3.11)"
    if problem is None:
        print(f"installing Triton for the CPU into {ENVIRONMENT.name}, with {python}")
        problem = install(python)
    if problem is None:
        return 0
    print(f"Triton for the CPU is not installed: {problem}; the tests that need it are skipped")
    return int(os.environ.get("CI") == "true")


def find_platform_problem() -> str | None:
    """Return why the wheel can't run here."""
    if (sys.platform, platform.machine()) != ("linux", "x86_64"):
        return f"its wheel is for Linux on x86_64, this is {sys.platform} on {platform.machine()}"
    kind, version = platform.libc_ver()
    if kind != "glibc" or tuple(map(int, version.split(".")[:2])) < GLIBC:
        return f"it needs glibc {'.'.join(map(str, GLIBC))} or newer, this is {kind or 'another libc'} {version}"
    return None


def find_python() -> str | None:
    """Return an interpreter that the wheel has a model process for; the one that runs this first."""
    names = [sys.executable, *(f"python{version}" for version in VERSIONS), "python3"]
    for path in filter(None, map(shutil.which, names)):
        # A virtual environment of it would be one of its base in any case.
        found = subprocess.run([path, "-c", PROBE], capture_output=True, text=True, check=False)
        if found.returncode == 0 and found.stdout.strip() in VERSIONS:
            return path
    return None


def install(python: str) -> str | None:
    """Make the environment and its stamp; return what went wrong."""
    pip = [str(ENVIRONMENT / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    commands = [
        [python, "-m", "venv", "--clear", str(ENVIRONMENT)],
        [*pip, "--no-deps", "--require-hashes", "--only-binary=:all:", "-r", str(ROOT / "locks" / "triton.txt")],
    ]
    for command in commands:
        if subprocess.run(command, check=False).returncode:
            shutil.rmtree(ENVIRONMENT, ignore_errors=True)
            return f"failed: {' '.join(command)}"
    (ENVIRONMENT / ".made").touch()
    return None


if __name__ == "__main__":
    sys.exit(main())
