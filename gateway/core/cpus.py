"""How much CPU this process may use: the limit of its container, which no library asks for."""

import math
from pathlib import Path
from typing import Final

V2: Final = Path("sys/fs/cgroup/cpu.max")
V1_QUOTA: Final = Path("sys/fs/cgroup/cpu/cpu.cfs_quota_us")
V1_PERIOD: Final = Path("sys/fs/cgroup/cpu/cpu.cfs_period_us")


def cpu_limit(root: Path = Path("/")) -> int | None:
    """Return the CPUs that a container is limited to, rounded up; None: there is no limit.

    A container sees its own cgroup as the root of the tree, version 2 or 1:
    https://docs.kernel.org/admin-guide/cgroup-v2.html#cpu-interface-files
    """
    try:
        quota, period = (root / V2).read_text().split()
    except (OSError, ValueError):
        try:
            quota, period = (root / V1_QUOTA).read_text(), (root / V1_PERIOD).read_text()
        except OSError:
            return None
    try:
        share = int(quota) / int(period)
    except (ValueError, ZeroDivisionError):  # `max`
        return None
    return math.ceil(share) if share > 0 else None  # -1 in version 1
