"""What the operating system counted."""

import os
import subprocess
import sys
import time

import pytest

from loadtests.counting import cpu_s, idle_s, rss_bytes, tree

SPIN = "import time; end = time.process_time() + 0.3\nwhile time.process_time() < end: pass\n"


def test_the_cpu_of_children_that_live_and_that_have_ended_is_counted():
    program = f"import subprocess, sys, time; subprocess.run([sys.executable, '-c', {SPIN!r}]); print(1, flush=True)\n"
    program += f"subprocess.Popen([sys.executable, '-c', {SPIN + 'time.sleep(60)'!r}]); time.sleep(60)"
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True) as process:
        try:
            process.stdout.readline()
            deadline_s = time.monotonic() + 20
            while cpu_s(tree(process.pid)) < 0.6 and time.monotonic() < deadline_s:
                time.sleep(0.05)
            assert len(tree(process.pid)) == 2
            assert cpu_s(tree(process.pid)) >= 0.6
            assert rss_bytes(tree(process.pid)) > rss_bytes([process.pid])
        finally:
            os.killpg(process.pid, 9)


def test_a_process_that_has_ended_counts_nothing():
    with subprocess.Popen(["true"]) as process:
        process.wait()
    assert tree(process.pid) == []
    assert cpu_s([process.pid]) == rss_bytes([process.pid]) == 0


def test_a_core_that_is_not_there_is_a_fault():
    assert idle_s(min(os.sched_getaffinity(0))) > 0
    with pytest.raises(ValueError, match="no core 9999"):
        idle_s(9999)
