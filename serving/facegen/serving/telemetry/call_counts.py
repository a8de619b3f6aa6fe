"""Counts calls by method and code: a lock and integers, since every call goes through it."""

import threading
from bisect import bisect_left
from dataclasses import dataclass

import grpc

__all__ = ["DURATION_BOUNDS_S", "CallCounts", "MethodCount"]

DURATION_BOUNDS_S = (
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
)  # fmt: skip
"""The upper bounds of the histogram of durations, seconds; one bucket more is without bound."""

_BOUNDS_NS = tuple(round(bound * 1e9) for bound in DURATION_BOUNDS_S)


@dataclass(frozen=True, slots=True)
class MethodCount:
    """What the calls of one method did so far.

    Attributes:
        method: Its full name, `/package.Service/Method`.
        codes: Calls ended, by status code.
        buckets: Calls ended, by duration: at most each of `DURATION_BOUNDS_S`, then longer.
        total_s: Seconds of all calls ended.
        in_flight: Calls begun and not ended.
    """

    method: str
    codes: dict[grpc.StatusCode, int]
    buckets: tuple[int, ...]
    total_s: float
    in_flight: int


class MethodCounter:
    """Counts the calls of one method; safe to use from several threads."""

    __slots__ = ("_begun", "_buckets", "_codes", "_lock", "_total_ns", "method")

    def __init__(self, method: str) -> None:
        self.method = method
        self._lock = threading.Lock()
        self._begun = 0
        self._codes: dict[grpc.StatusCode, int] = {}
        self._buckets = [0] * (len(_BOUNDS_NS) + 1)
        self._total_ns = 0

    def begin(self) -> None:
        """Count a call that begins."""
        with self._lock:
            self._begun += 1

    def end(self, code: grpc.StatusCode, duration_ns: int) -> None:
        """Count its end."""
        bucket = bisect_left(_BOUNDS_NS, duration_ns)
        with self._lock:
            self._codes[code] = self._codes.get(code, 0) + 1
            self._buckets[bucket] += 1
            self._total_ns += duration_ns

    def read(self) -> MethodCount:
        """Give what was counted, all of one moment."""
        with self._lock:
            return MethodCount(
                method=self.method,
                codes=dict(self._codes),
                buckets=tuple(self._buckets),
                total_s=self._total_ns / 1e9,
                in_flight=self._begun - sum(self._codes.values()),
            )


class CallCounts:
    """Counts the calls of every method; safe to use from several threads."""

    def __init__(self) -> None:
        self._counters: dict[str, MethodCounter] = {}

    def of(self, method: str) -> MethodCounter:
        """Give the counter of a method; only methods that the server has may be named."""
        # `setdefault` makes two threads that come first agree.
        return self._counters.get(method) or self._counters.setdefault(
            method, MethodCounter(method)
        )

    def read(self) -> list[MethodCount]:
        """Give what was counted, by method."""
        return [counter.read() for _, counter in sorted(self._counters.items())]
