"""Callbacks at a time: one thread, and no wake-up for what is cancelled before it."""

import heapq
import itertools
import logging
import math
import threading
import time
from collections.abc import Callable

__all__ = ["Timer", "Timers"]

_LOGGER = logging.getLogger(__name__)

# Fewer cancelled timers are not worth a new heap.
_MIN_CANCELLED = 64


class Timer:
    """A callback to come."""

    __slots__ = ("_timers", "callback")

    def __init__(self, timers: "Timers", callback: Callable[[], None]) -> None:
        self._timers = timers
        self.callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        """Do not call back, unless it is being done; lets go of the callback. Again is no harm."""
        if self.callback is not None:
            self.callback = None
            self._timers.count_cancelled()


class Timers:
    """A thread that calls back at given times.

    Most timers are deadlines that are cancelled long before they come. These cost a push on a heap;
    the thread sleeps on, and is woken only for a time before the one that it sleeps to.

    Args:
        name: What its thread is called.
    """

    def __init__(self, name: str) -> None:
        self._heap: list[tuple[float, int, Timer]] = []
        self._order = itertools.count()  # so that equal times do not compare timers
        self._cancelled = 0
        self._lock = threading.Lock()  # guards all here
        self._wakes_at = -math.inf  # -inf: it is awake
        self._alarm = threading.Lock()  # the thread sleeps in acquiring it
        self._alarm.acquire()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def __len__(self) -> int:
        return len(self._heap)

    def call_at(self, when: float, callback: Callable[[], None]) -> Timer:
        """Call back at a time of `time.monotonic()`, from the timers' thread; must be quick."""
        timer = Timer(self, callback)
        with self._lock:
            heapq.heappush(self._heap, (when, next(self._order), timer))
            if when < self._wakes_at:
                self._wake()
        return timer

    def count_cancelled(self) -> None:
        """Note one more cancelled timer, and clear them away when they are the most."""
        with self._lock:
            self._cancelled += 1
            if self._cancelled > max(_MIN_CANCELLED, len(self._heap) // 2):
                self._heap = [entry for entry in self._heap if entry[2].callback is not None]
                heapq.heapify(self._heap)
                self._cancelled = 0

    def close(self) -> None:
        """End the thread; what is to come does not. Blocks until it has ended."""
        with self._lock:
            self._closed = True
            if self._wakes_at > -math.inf:
                self._wake()
        self._thread.join()

    def _wake(self) -> None:
        self._wakes_at = -math.inf
        self._alarm.release()

    def _run(self) -> None:
        while not self._closed:
            for timer in self._due():
                callback = timer.callback
                if callback is not None:
                    timer.callback = None
                    try:
                        callback()
                    except Exception:  # the callback's outermost frame: the thread must live on
                        _LOGGER.exception("timer failed callback=%r", callback)
            self._sleep()

    def _due(self) -> list[Timer]:
        now = time.monotonic()
        due = []
        with self._lock:
            while self._heap and self._heap[0][0] <= now:
                timer = heapq.heappop(self._heap)[2]
                if timer.callback is None:
                    self._cancelled = max(0, self._cancelled - 1)
                due.append(timer)
        return due

    def _sleep(self) -> None:
        with self._lock:
            if self._closed:
                return
            self._alarm.acquire(blocking=False)  # a wake-up that crossed the end of a sleep
            until = self._heap[0][0] if self._heap else math.inf
            left_s = until - time.monotonic()
            if left_s <= 0:
                return
            self._wakes_at = until
        self._alarm.acquire(timeout=min(left_s, threading.TIMEOUT_MAX))
        with self._lock:
            self._wakes_at = -math.inf
