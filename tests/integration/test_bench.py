"""The load tests run: one short turn of a bare nginx and of Postern, counted, compared and told."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from loadtests.counting import tree
from loadtests.figures import Estimate
from loadtests.results import load

ROOT = Path(__file__).parents[2]

missing = [name for name in ("nginx", "wrk", "taskset", "setpriv") if shutil.which(name) is None]
if missing and os.environ.get("CI") == "true":
    raise RuntimeError(f"{missing} are missing: apt-get install nginx-light wrk util-linux")
pytestmark = pytest.mark.skipif(bool(missing), reason="apt-get install nginx-light wrk util-linux")


def run_bench(*arguments):
    command = [sys.executable, "-m", "loadtests.bench", "--rounds", "1", "--seconds", "1", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=100)


def test_a_turn_of_each_is_counted_and_told(tmp_path):
    done = run_bench("--only", "saturation", "--subjects", "postern-walk", "--save", str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert re.search(r"^\| nginx, a bare proxy .*\| 1\.00 \[1\.00, 1\.00\]", done.stdout, re.MULTILINE)
    result = load(tmp_path).scenarios["saturation"]
    times = result.against("postern-walk")
    assert times.median > 1
    assert result.against("nginx") == Estimate(1, 1, 1)
    assert 0.2 < result.shares("postern-walk").subject < 1.2
    assert done.stdout.strip() in (tmp_path / "report.md").read_text()
    assert (tmp_path / "report.png").stat().st_size > 5000


def test_chunks_of_open_streams_are_counted_as_they_arrive(tmp_path):
    done = run_bench("--only", "streams-60", "--subjects", "nginx", "--save", str(tmp_path))
    assert done.returncode == 0, done.stderr
    turn = load(tmp_path).scenarios["streams-60"].rounds[0]["nginx"]
    assert turn.values["delivered"] == pytest.approx(1, abs=0.2)


def test_latency_is_paired_with_nginxs_and_memory_is_counted_by_the_stream(tmp_path):
    done = run_bench("--only", "ttft,idle", "--subjects", "postern-walk", "--save", str(tmp_path))
    assert done.returncode == 0, done.stderr
    scenarios = load(tmp_path).scenarios
    values = scenarios["ttft"].rounds[0]["postern-walk"].values
    assert values["added_p50_ms"] == pytest.approx(values["p50_ms"] - values["nginx_p50_ms"], abs=0.001)
    assert 0 < values["nginx_p50_ms"] <= values["nginx_p99_ms"]
    memory = scenarios["idle"].rounds[0]
    assert memory["nginx"].values["rest_mb"] < memory["postern-walk"].values["rest_mb"] < 1000
    assert 1 < memory["postern-walk"].values["stream_kb"] < 1000


@pytest.mark.parametrize(("option", "kind"), [("--only", "scenario"), ("--subjects", "subject")])
def test_an_unknown_name_is_told_before_anything_starts_and_is_not_taken_for_a_worse_ratio(option, kind):
    done = run_bench(option, "nonsense")
    assert done.returncode == 2
    assert f"no {kind} is called nonsense" in done.stderr
    assert "starting" not in done.stderr


def test_an_interrupt_stops_all_that_was_started():
    command = [
        sys.executable,
        "-m",
        "loadtests.bench",
        "--only",
        "streams-60",
        "--subjects",
        "nginx",
        "--seconds",
        "60",
    ]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        deadline_s = time.monotonic() + 60
        while len(started := tree(process.pid)) < 6 and time.monotonic() < deadline_s:
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=60)
    # The bench, two nginx, each with a worker, and the fake upstream; or some of them and the load generator.
    assert len(started) >= 6
    assert process.returncode == 130, told
    assert [pid for pid in started if Path(f"/proc/{pid}").exists()] == []
