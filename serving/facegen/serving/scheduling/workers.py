"""The threads that run models: as many as there may be executions at a time, over all models."""

import logging
import threading
from collections.abc import Callable
from queue import SimpleQueue

__all__ = ["Workers"]

_LOGGER = logging.getLogger(__name__)


class Workers:
    """Threads that take tasks in the order they were put.

    A task that has more to do puts itself again, behind the others' tasks: so models take turns. A
    `concurrent.futures` pool would do, at ten times the cost of a `SimpleQueue`.

    Args:
        count: How many threads.
        name: What their names begin with.
    """

    def __init__(self, count: int, name: str) -> None:
        self._tasks: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._threads = [
            threading.Thread(target=self._run, name=f"{name}-{index}", daemon=True)
            for index in range(count)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def count(self) -> int:
        """How many threads there are."""
        return len(self._threads)

    def put(self, task: Callable[[], None]) -> None:
        """Run a task as soon as a thread is free; never blocks."""
        self._tasks.put(task)

    def close(self) -> None:
        """Run what was put, then end the threads; blocks until they have ended."""
        for _ in self._threads:
            self._tasks.put(None)
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        while (task := self._tasks.get()) is not None:
            try:
                task()
            except Exception:  # the task's outermost frame: the thread must live on
                _LOGGER.exception("worker task failed task=%r", task)
