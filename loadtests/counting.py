"""What the operating system counted: CPU seconds and memory of a process tree, and how busy a core was."""

import os
from pathlib import Path
from typing import NamedTuple

TICKS_PER_S = os.sysconf("SC_CLK_TCK")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


def tree(pid: int) -> list[int]:
    """Return a process and all that live under it; nothing where it has ended."""
    found, waiting = [], [pid]
    while waiting:
        one = waiting.pop()
        try:
            threads = list(Path(f"/proc/{one}/task").iterdir())
            waiting += [int(child) for thread in threads for child in (thread / "children").read_text().split()]
        except OSError:
            continue
        found.append(one)
    return found


def cpu_s(pids: list[int]) -> float:
    """Return the CPU seconds of processes, all their threads and the children that ended and were awaited."""
    return sum(_cpu_s(pid) for pid in pids)


def _cpu_s(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    # utime, stime, cutime, cstime (proc(5), 14 to 17; the name and its bracket were cut off).
    return sum(int(field) for field in fields[11:15]) / TICKS_PER_S


def rss_bytes(pids: list[int]) -> int:
    """Return the resident bytes of processes; pages that they share count for each."""
    return sum(_rss_bytes(pid) for pid in pids)


def _rss_bytes(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE_BYTES
    except OSError:
        return 0


def idle_s(core: int) -> float:
    """Return the seconds for which a core has had nothing to do since the start."""
    for line in Path("/proc/stat").read_text().splitlines():
        name, _, counts = line.partition(" ")
        if name == f"cpu{core}":
            fields = counts.split()
            return (int(fields[3]) + int(fields[4])) / TICKS_PER_S  # idle and iowait
    raise ValueError(f"there is no core {core}")


class Shares(NamedTuple):
    """Who used the two cores in one turn, as shares of one core."""

    subject: float
    subject_idle: float
    """How idle the subject's core was: near 0 when the subject was what bounded the turn."""
    upstream: float
    load: float
    load_idle: float
    """How idle the other core was: above 0 when neither upstream nor load generator bounded the turn."""
    others: float
    """What processes that have no part in this used of both cores together."""


class Reading(NamedTuple):
    """The counters at one moment."""

    at_s: float
    subject_s: float
    upstream_s: float
    load_s: float
    subject_idle_s: float
    load_idle_s: float


def shares_between(before: Reading, after: Reading) -> Shares:
    """Return who used what between two readings."""
    wall_s = max(after.at_s - before.at_s, 1e-9)
    used = [(new - old) / wall_s for old, new in zip(before[1:], after[1:], strict=True)]
    subject, upstream, load, subject_idle, load_idle = used
    others = max(0.0, 2 - subject_idle - load_idle - subject - upstream - load)
    return Shares(subject, subject_idle, upstream, load, load_idle, others)
