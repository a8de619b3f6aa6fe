"""How many CPUs this process may really use."""

import math
import os
from pathlib import Path

__all__ = ["available_cpu_count"]


def available_cpu_count(*, cgroup_root: Path = Path("/sys/fs/cgroup")) -> int:
    """Count the CPUs of the affinity mask, at most what the cgroup's quota pays for, at least 1.

    Containers limit CPUs by quota, which `os.cpu_count` does not see. Inside a container its own
    group is mounted at the root; a quota of 1.5 CPUs counts as 2.

    Args:
        cgroup_root: Where the cgroup file system is mounted, version 2 or 1.
    """
    allowed = len(os.sched_getaffinity(0))
    quota = _quota_v2(cgroup_root) or _quota_v1(cgroup_root)
    return max(1, allowed if quota is None else min(allowed, math.ceil(quota)))


def _quota_v2(root: Path) -> float | None:
    words = _words(root / "cpu.max")
    if len(words) == 2 and words[0] != "max":
        return int(words[0]) / int(words[1])
    return None


def _quota_v1(root: Path) -> float | None:
    quota_us = _words(root / "cpu" / "cpu.cfs_quota_us")
    period_us = _words(root / "cpu" / "cpu.cfs_period_us")
    if quota_us and period_us and int(quota_us[0]) > 0:
        return int(quota_us[0]) / int(period_us[0])
    return None


def _words(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="ascii").split()
    except OSError:  # not this version of cgroups, or none
        return []
