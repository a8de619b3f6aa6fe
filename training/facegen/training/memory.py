"""Keeps the memory of one training step for the next one."""

import ctypes
import platform

__all__ = ["keep_freed_memory"]

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4
"""From glibc's malloc.h."""

_SETTINGS = {_M_MMAP_MAX: 0, _M_TRIM_THRESHOLD: 2**31 - 1, _M_TOP_PAD: 2**28}
"""No block mapped apart, none trimmed off, and the heap grown by 256 MiB at a time."""


def keep_freed_memory() -> bool:
    """Tell glibc not to give freed memory back to the kernel.

    A step's activations are some hundred megabytes in blocks that glibc maps and unmaps, or trims
    off the heap's end, each time: the kernel then clears the same pages at every step. See
    mallopt(3). The process keeps its largest size until it ends.

    Returns:
        Whether there was a glibc to tell: on other systems nothing happens.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    heard = [mallopt(name, value) == 1 for name, value in _SETTINGS.items()]
    return all(heard)
