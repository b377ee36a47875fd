"""Namespaces of Linux for tests: a network of one's own, mounts that end with the process, and nothing left behind."""

import ctypes
import fcntl
import json
import os
import shutil
import socket
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
ISOLATED = ["unshare", "--net", "--mount", "--pid", "--ipc", "--fork", "--kill-child", "--mount-proc"]
MS_RDONLY, MS_NOSUID, MS_REMOUNT, MS_BIND, MS_REC = 1, 2, 32, 4096, 16384
SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 1

libc = ctypes.CDLL(None, use_errno=True)


def find_problem(*commands: str) -> str | None:
    """Return why there can be no namespaces here, or which of `commands` is missing. Raises where there must be."""
    missing = [command for command in ("unshare", *commands) if shutil.which(command) is None]
    problem = f"missing: {', '.join(missing)} (make components)" if missing else None
    if problem is None and (os.geteuid() != 0 or subprocess.run([*ISOLATED, "true"], check=False).returncode):
        problem = "only root may make namespaces here"
    if problem and os.environ.get("CI") == "true":
        raise RuntimeError(problem)
    return problem


def run_isolated(module: str, told: dict[str, Any], timeout_s: float = 100.0) -> dict[str, Any]:
    """Run a module of the tests in namespaces of its own; it reads `told` and answers, both as JSON."""
    done = subprocess.run(
        [*ISOLATED, sys.executable, "-m", module],
        input=json.dumps(told),
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=timeout_s,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def bring_up_loopback() -> None:
    """Let a new network namespace reach itself."""
    with socket.socket() as any_socket:
        asked = struct.pack("16sH22x", b"lo", 0)
        flags = struct.unpack("16sH22x", fcntl.ioctl(any_socket, SIOCGIFFLAGS, asked))[1]
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sH22x", b"lo", flags | IFF_UP))


def mount(source: str | Path, target: str | Path, kind: str = "none", flags: int = 0) -> None:
    """Mount, as mount(2) does. Raises OSError."""
    if libc.mount(*(os.fsencode(one) for one in (source, target, kind)), flags, None):
        problem = ctypes.get_errno()
        raise OSError(problem, os.strerror(problem), str(target))


def bind(source: Path, target: Path, *, is_writable: bool = False) -> None:
    """Show `source` at `target`, an empty file or folder that is there."""
    mount(source, target, flags=MS_BIND | MS_REC)
    if not is_writable:
        mount("none", target, flags=MS_BIND | MS_REMOUNT | MS_RDONLY)
