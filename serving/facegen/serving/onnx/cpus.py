"""How many CPUs this process may really use."""

import math
import os
from pathlib import Path

__all__ = ["available_cpu_count", "cpu_quota"]

_CGROUP_ROOT = Path("/sys/fs/cgroup")
_OWN_CGROUP = Path("/proc/self/cgroup")


def available_cpu_count(*, cgroup_root: Path = _CGROUP_ROOT, own_cgroup: Path = _OWN_CGROUP) -> int:
    """Count the CPUs of the affinity mask, at most what the cgroup's quota pays for, at least 1.

    Containers and services limit CPUs by quota, which `os.cpu_count` does not see; a quota of 1.5
    CPUs counts as 2.

    Args:
        cgroup_root: Where the cgroup file system is mounted, version 2 or 1.
        own_cgroup: The file that names this process's group.
    """
    allowed = len(os.sched_getaffinity(0))
    quota = cpu_quota(cgroup_root=cgroup_root, own_cgroup=own_cgroup)
    return allowed if quota is None else max(1, min(allowed, math.ceil(quota)))


def cpu_quota(*, cgroup_root: Path = _CGROUP_ROOT, own_cgroup: Path = _OWN_CGROUP) -> float | None:
    """Give how many CPUs' time the cgroup may use; None: no quota. Arguments as above."""
    return min([*_quotas_v2(cgroup_root, own_cgroup), *_quotas_v1(cgroup_root)], default=None)


def _quotas_v2(root: Path, own_cgroup: Path) -> list[float]:
    """The quotas of the process's group and all above it; each of them holds."""
    groups = [line[4:] for line in _words(own_cgroup) if line.startswith("0::/")]
    folder = root / groups[0] if groups else root
    quotas = []
    for group in (folder, *folder.parents):
        words = _words(group / "cpu.max")
        if len(words) == 2 and words[0] != "max":
            quotas.append(int(words[0]) / int(words[1]))
        if group == root:
            break
    return quotas


def _quotas_v1(root: Path) -> list[float]:
    quota_us = _words(root / "cpu" / "cpu.cfs_quota_us")
    period_us = _words(root / "cpu" / "cpu.cfs_period_us")
    if quota_us and period_us and int(quota_us[0]) > 0:
        return [int(quota_us[0]) / int(period_us[0])]
    return []


def _words(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="ascii").split()
    except OSError:  # not this version of cgroups, or none
        return []
