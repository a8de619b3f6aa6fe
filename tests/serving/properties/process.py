"""What a server's process holds, and whether it has come to harm."""

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["Resources", "unharmed"]

# What pools and allocator may keep from a run: three pools of 60 threads, which begin when they are
# needed, and the memory that these have set aside for themselves.
_MOST_THREADS = 240
_MORE_MIB = 96
_SETTLE_S = 30


@dataclass(frozen=True, slots=True)
class Resources:
    """What a process holds.

    Attributes:
        memory_mib: Resident memory.
        thread_count: Its threads.
        descriptor_count: Its open files and sockets.
    """

    memory_mib: float
    thread_count: int
    descriptor_count: int

    @classmethod
    def of(cls, pid: int) -> "Resources":
        """Look at a process."""
        process = Path(f"/proc/{pid}")
        pages = int((process / "statm").read_text().split()[1])
        return cls(
            memory_mib=pages * os.sysconf("SC_PAGE_SIZE") / 2**20,
            thread_count=len(list((process / "task").iterdir())),
            descriptor_count=len(list((process / "fd").iterdir())),
        )


@contextmanager
def unharmed(server: Any, answers: Callable[[], object]) -> Iterator[None]:
    """Check that what happens within does a server no lasting harm.

    Args:
        server: A `ServerProcess` that logs JSON.
        answers: Asks it something; the same must come back before and after.
    """
    wanted = answers()
    lines = len(server.log)
    before = Resources.of(server.process.pid)

    yield

    assert server.process.poll() is None, server.log[lines:]
    assert answers() == wanted
    _check_resources(server, before, answers)
    for line in server.log[lines:]:
        assert json.loads(line)["level"] != "ERROR", line


def _check_resources(server: Any, before: Resources, answers: Callable[[], object]) -> None:
    """Check what is held once all that is under way has ended."""
    until = time.monotonic() + _SETTLE_S
    while True:
        after = Resources.of(server.process.pid)
        settled = (
            after.descriptor_count <= before.descriptor_count
            and after.thread_count <= _MOST_THREADS
            and after.memory_mib <= before.memory_mib + _MORE_MIB
        )
        if settled or time.monotonic() > until:
            break
        answers()  # connections that were cut off are noticed meanwhile
    assert settled, (before, after)
