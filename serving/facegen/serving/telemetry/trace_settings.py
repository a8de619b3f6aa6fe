"""Which calls are traced, in Triton's terms: every so many, so many in all."""

import threading
from dataclasses import dataclass, replace

__all__ = ["TraceSettings", "TraceValues"]


@dataclass(frozen=True, slots=True)
class TraceValues:
    """Which calls are traced.

    Attributes:
        on: Whether any is.
        rate: Every how many of them, at least 1.
        count: How many more; -1: without end.
    """

    on: bool = True
    rate: int = 1
    count: int = -1


class TraceSettings:
    """Decides, call by call, which are traced; safe to use from several threads.

    Args:
        available: Whether traces go anywhere.
    """

    def __init__(self, *, available: bool) -> None:
        self.available = available
        self.initial = TraceValues(on=available)
        self._lock = threading.Lock()
        self._values = self.initial
        self._seen = 0

    @property
    def values(self) -> TraceValues:
        """What is set now; `count` falls as calls are traced."""
        return self._values

    def change(self, **values: bool | int) -> TraceValues:
        """Set some of `TraceValues`, and count calls anew."""
        with self._lock:
            self._values = replace(self._values, **values)  # type: ignore[arg-type] # by name
            self._seen = 0
            return self._values

    def take(self) -> bool:
        """Whether to trace the call that begins now."""
        values = self._values
        if values == self.initial:  # the usual case
            return values.on
        with self._lock:
            values = self._values
            if not values.on or values.count == 0:
                return False
            self._seen += 1
            if self._seen < values.rate:
                return False
            self._seen = 0
            if values.count > 0:
                self._values = replace(values, count=values.count - 1)
            return True
