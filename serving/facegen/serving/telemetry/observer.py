"""Follows every call from its beginning to its end, for metrics, traces and the log."""

import logging
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import grpc

from facegen.serving.call_context import Spans
from facegen.serving.telemetry.call_counts import CallCounts, MethodCounter

if TYPE_CHECKING:
    from facegen.serving.telemetry.tracing import CallTrace, Tracing

__all__ = ["Observation", "Observer"]

_LOGGER = logging.getLogger(__name__)

Metadata = Sequence[tuple[str, str | bytes]]


class Observation:
    """One call under way.

    Attributes:
        spans: Takes its stages; None: nobody traces it.
    """

    __slots__ = ("_begun_ns", "_counter", "_request_id", "_trace", "spans")

    def __init__(
        self, counter: MethodCounter, request_id: str, trace: "CallTrace | None" = None
    ) -> None:
        self._counter = counter
        self._request_id = request_id
        self._trace = trace
        self.spans: Spans | None = trace
        self._begun_ns = time.perf_counter_ns()
        counter.begin()

    def end(self, code: grpc.StatusCode) -> None:
        """Tell how the call ended; exactly once, from any thread.

        Before the answer goes out, so that a client that has it finds it counted.
        """
        duration_ns = time.perf_counter_ns() - self._begun_ns
        self._counter.end(code, duration_ns)
        if self._trace is not None:
            self._trace.end(code)
        if _LOGGER.isEnabledFor(logging.DEBUG):
            _LOGGER.debug(
                "call ended method=%s code=%s duration_ms=%.3f request=%s trace=%s",
                self._counter.method,
                code.name,
                duration_ns / 1e6,
                self._request_id,
                self._trace.trace_id if self._trace else "",
            )


class Observer:
    """Follows the calls of a server; safe to use from several threads.

    Args:
        counts: Counts them.
        tracing: Traces them; None: nobody does.
    """

    def __init__(self, counts: CallCounts, tracing: "Tracing | None" = None) -> None:
        self._counts = counts
        self._tracing = tracing

    def begin(self, method: str, metadata: Metadata, request_id: str) -> Observation:
        """Begin to follow a call.

        Args:
            method: Its full name, `/package.Service/Method`; one that the server has.
            metadata: What the caller sent with it, the trace context among it.
            request_id: Names it in the log and in the trace.
        """
        trace = None
        if self._tracing is not None:
            trace = self._tracing.begin(method, metadata, request_id)
        return Observation(self._counts.of(method), request_id, trace)
