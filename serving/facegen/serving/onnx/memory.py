"""Gives freed memory back to the system."""

import ctypes

__all__ = ["release_memory"]


def release_memory() -> None:
    """Return what freed sessions leave in the heaps of malloc, which keeps it otherwise."""
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except AttributeError:  # not glibc
        return
    trim(0)
