"""What the figures were measured on, without a name that would lead to it."""

import os
import platform
import shlex
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

from loadtests.subjects import versions

ROOT = Path(__file__).parents[1]


def describe() -> dict[str, str]:
    """Return the machine, the programs and the code, each in a few words."""
    memory_bytes = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    programs = ", ".join(f"{name} {version}" for name, version in versions().items())
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "processor": f"{_processor()}, {os.cpu_count()} cores",
        "memory": f"{memory_bytes / 2**30:.0f} GiB",
        "system": f"Linux {'.'.join(platform.release().split('.')[:2])}",
        "programs": f"the load tests on Python {platform.python_version()}, {programs}",
        "code": _commit(),
        "command": shlex.join(["python", "-m", f"loadtests.{Path(sys.argv[0]).stem}", *sys.argv[1:]]),
        "load before": f"{os.getloadavg()[0]:.1f} processes wanted a core in the minute before the start",
    }


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.machine())


def _commit() -> str:
    asked = ["git", "-C", str(ROOT), "describe", "--always", "--dirty"]
    try:
        return subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "no checkout"
