"""What tests have from npm, as a package-lock.json names it."""

import fcntl
import filecmp
import os
import shutil
import subprocess
from pathlib import Path

import pytest


def install(folder: Path) -> None:
    """Install what a folder's lock names, once; again when it has changed. Skips without Node.js; in CI, fails."""
    missing = [command for command in ("node", "npm") if shutil.which(command) is None]
    if missing:
        problem = f"missing: {' '.join(missing)}; install Node.js 18 or later, such as: apt-get install nodejs npm"
        if os.environ.get("CI") == "true":
            pytest.fail(problem)
        pytest.skip(problem)
    wanted, installed = folder / "package-lock.json", folder / "node_modules" / ".installed-lock.json"
    with wanted.open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)  # several processes may run these tests
        if installed.exists() and filecmp.cmp(wanted, installed, shallow=False):
            return
        command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=100, check=False)
        assert done.returncode == 0, done.stderr
        shutil.copyfile(wanted, installed)
