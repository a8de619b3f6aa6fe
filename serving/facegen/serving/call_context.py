"""What a call carries to the engine: its deadline, whether its caller still waits, who calls."""

import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

__all__ = ["CallContext", "Spans"]


class Spans(Protocol):
    """Takes the stages of a call, for its trace."""

    def add(
        self, name: str, start_ns: int, end_ns: int, attributes: dict[str, str | int] | None = None
    ) -> None:
        """Record a stage; times are `time.time_ns()`, after the fact, from any thread."""
        ...


class CallContext:
    """One call's deadline, cancellation and identity; safe to use from several threads.

    Args:
        timeout_s: Seconds until the answer is of no use, from now; None: without end.
        client: Who calls, for fairness between clients; empty: nobody in particular.
        priority: 1 is the highest that a model allows; 0 is the model's default.
        queue_timeout_s: Triton's `timeout`, which counts as the model's queue policy says; 0: none.
        request_id: Names the call in logs and traces.
        spans: Takes its stages; None: nobody traces it.
        admin: Whether the caller may load, unload and change settings.
        metadata: What came with the call, keys in lower case.
    """

    __slots__ = (
        "_callbacks", "_lock", "admin", "cancelled", "client", "deadline", "metadata", "priority",
        "queue_timeout_s", "request_id", "spans",
    )  # fmt: skip

    def __init__(
        self,
        *,
        timeout_s: float | None = None,
        client: str = "",
        priority: int = 0,
        queue_timeout_s: float = 0.0,
        request_id: str = "",
        spans: Spans | None = None,
        admin: bool = False,
        metadata: Sequence[tuple[str, str | bytes]] = (),
    ) -> None:
        self.deadline = math.inf if timeout_s is None else time.monotonic() + timeout_s
        self.client = client
        self.priority = priority
        self.queue_timeout_s = queue_timeout_s
        self.request_id = request_id
        self.spans = spans
        self.admin = admin
        self.metadata = metadata
        self.cancelled = False
        self._callbacks: dict[Callable[[], None], None] = {}
        self._lock = threading.Lock()

    def left_s(self) -> float | None:
        """Give the seconds left, at least 0; None is without end."""
        if math.isinf(self.deadline):
            return None
        return max(0.0, self.deadline - time.monotonic())

    def cancel(self) -> None:
        """Tell that nobody waits any more; again is no harm."""
        with self._lock:
            self.cancelled = True
            callbacks, self._callbacks = self._callbacks, {}
        for callback in callbacks:
            callback()

    def on_cancel(self, callback: Callable[[], None]) -> None:
        """Call back once when the call is cancelled; at once if it is already."""
        with self._lock:
            if not self.cancelled:
                self._callbacks[callback] = None
                return
        callback()

    def forget(self, callback: Callable[[], None]) -> None:
        """Do not call this back any more, so that a long call does not gather what is done."""
        with self._lock:
            self._callbacks.pop(callback, None)

    @contextmanager
    def part(self) -> Iterator["CallContext"]:
        """Give a context for a part of the call, cancelled with it and when the part is left."""
        part = CallContext(
            client=self.client,
            priority=self.priority,
            queue_timeout_s=self.queue_timeout_s,
            request_id=self.request_id,
            spans=self.spans,
            admin=self.admin,
            metadata=self.metadata,
        )
        part.deadline = self.deadline
        self.on_cancel(part.cancel)
        try:
            yield part
        finally:
            self.forget(part.cancel)
            part.cancel()
