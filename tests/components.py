"""Install what the tests need beside Python: Debian packages when root, otherwise say which.

Run by `make test`. With CI=true a missing component is a failure.
"""

import ctypes
import os
import shutil
import subprocess
import sys

COMPONENTS = {
    "redis-server": "redis-server",
    "node": "nodejs",
    "npm": "npm",
    "nginx": "nginx-light",
    "wrk": "wrk",
    "prometheus": "prometheus",
    "buildah": "buildah",
    "debootstrap": "debootstrap",
}
TRITON_PYTHONS = ((3, 10), (3, 11), (3, 12))


def main() -> int:
    """Return the exit status: 0 when everything is there, or may be missing."""
    missing = find_missing()
    if missing and os.geteuid() == 0 and shutil.which("apt-get"):
        install(missing)
        missing = find_missing()
    if not missing:
        return 0
    print(f"missing: {' '.join(sorted(missing))}; as root: apt-get install {' '.join(sorted(missing))}")
    if os.environ.get("CI") == "true":
        return 1
    print("the tests that need them are skipped")
    return 0


def find_missing() -> set[str]:
    """Return the Debian packages to install."""
    missing = {package for command, package in COMPONENTS.items() if shutil.which(command) is None}
    return missing | find_missing_library()


def find_missing_library() -> set[str]:
    """Return Python's shared library where Debian's own Python lacks it: Triton's model processes link it."""
    if sys.version_info[:2] not in TRITON_PYTHONS or sys.base_prefix != "/usr":
        return set()
    library = f"libpython3.{sys.version_info[1]}"
    try:
        ctypes.CDLL(f"{library}.so.1.0")
    except OSError:
        return {library}
    return set()


def install(packages: set[str]) -> None:
    """Install Debian packages; a server that they bring is not started (tests start their own)."""
    quiet = {"stdout": subprocess.DEVNULL, "env": {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}}
    subprocess.run(["apt-get", "update", "-qq"], check=False, **quiet)
    subprocess.run(["apt-get", "install", "-y", "-qq", "--no-install-recommends", *packages], check=False, **quiet)


if __name__ == "__main__":
    sys.exit(main())
