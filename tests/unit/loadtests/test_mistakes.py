"""What was mistyped is told in one line that says what to write, and exit status 2."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
LOCUST = """
class HttpUser: pass
class LoadTestShape: pass
class events:
    class quitting:
        add_listener = staticmethod(lambda listener: listener)
constant_pacing = lambda seconds: None
task = lambda method: method
"""
"""As much of Locust, which has an environment of its own, as it takes to import the file."""


def run(*arguments, **environment):
    environment = {**os.environ, **environment}
    return subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )


def load_locustfile(folder, **environment):
    (folder / "locust.py").write_text(LOCUST)
    return run("loadtests/locustfile.py", PYTHONPATH=str(folder), **environment)


@pytest.mark.parametrize(
    ("name", "text", "right"),
    [
        ("POSTERN_STAGES", "", "USERSxSECONDS"),
        ("POSTERN_STAGES", "ten", "USERSxSECONDS"),
        ("POSTERN_STAGES", "10x30x5", "USERSxSECONDS"),
        ("POSTERN_STAGES", "10x0", "USERSxSECONDS"),
        ("POSTERN_STREAM_SHARE", "half", "from 0 to 1"),
        ("POSTERN_REPEAT_SHARE", "1.5", "from 0 to 1"),
        ("POSTERN_FAIL_SHARE", "nan", "from 0 to 1"),
        ("POSTERN_P95_MS", "1s", "milliseconds"),
    ],
)
def test_a_setting_of_the_locust_file_that_makes_no_sense_is_told(tmp_path, name, text, right):
    done = load_locustfile(tmp_path, **{name: text})
    (line,) = done.stderr.splitlines()
    assert done.returncode == 2
    assert line.startswith(f"{name}=")
    assert right in line


def test_settings_of_the_locust_file_that_make_sense_are_taken(tmp_path):
    done = load_locustfile(tmp_path, POSTERN_STAGES="1x2, 3x4", POSTERN_P95_MS="1500", POSTERN_STREAM_SHARE="1")
    assert (done.returncode, done.stderr) == (0, "")


def test_a_commit_that_is_none_is_told():
    done = run("-m", "loadtests.classify", "--against", "nosuch")
    (line,) = done.stderr.splitlines()
    assert done.returncode == 2
    assert "nosuch" in line
    assert "git log" in line
