"""How busy this machine is, from /proc."""

import threading
from pathlib import Path

__all__ = ["CpuUse", "memory_bytes"]


class CpuUse:
    """Measures what share of the machine's CPU time is used; safe to use from several threads.

    Args:
        stat: The file of the kernel's counts.
    """

    def __init__(self, stat: Path = Path("/proc/stat")) -> None:
        self._stat = stat
        self._lock = threading.Lock()
        self._before = self._ticks()

    def read(self) -> float:
        """Give the share, 0 to 1, since this was last called, or since the beginning."""
        with self._lock:
            (idle_before, total_before), self._before = self._before, self._ticks()
            idle, total = self._before
        passed = total - total_before
        return 1 - (idle - idle_before) / passed if passed > 0 else 0.0

    def _ticks(self) -> tuple[int, int]:
        """Idle and all ticks, of all CPUs."""
        # user nice system idle iowait irq softirq steal; guests are within user
        ticks = [int(word) for word in self._stat.read_text("ascii").split("\n", 1)[0].split()[1:9]]
        return ticks[3] + ticks[4], sum(ticks)


def memory_bytes(meminfo: Path = Path("/proc/meminfo")) -> tuple[int, int]:
    """Give the machine's memory and how much of it cannot be had, bytes."""
    lines = (line.split() for line in meminfo.read_text("ascii").splitlines())
    kilobytes = {words[0]: int(words[1]) for words in lines}
    total = kilobytes["MemTotal:"]
    return total * 1024, (total - kilobytes["MemAvailable:"]) * 1024
