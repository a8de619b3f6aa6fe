"""The gRPC health service: a watcher holds no thread while nothing changes, and delays nobody."""

import functools
import threading
from collections.abc import Callable, Mapping
from concurrent import futures
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from facegen.serving.call_context import CallContext
from facegen.serving.errors import ModelNotFoundError
from facegen.serving.rpc.calls import Calls, probe

__all__ = ["Health"]

_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
_SERVICE_UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
_ENDED = -1

Send = Callable[[Any], None]


class Health(health_pb2_grpc.HealthServicer):
    """`grpc.health.v1` over names that come and change.

    gRPC's own servicer sends to all watchers under one lock, so that one who does not read keeps
    the others waiting, and the server from draining. Here each is sent to by a thread that it has
    only while something is on its way.

    Args:
        calls: What all calls go through.
        max_watches: The most watchers; more are refused.
    """

    def __init__(self, calls: Calls, *, max_watches: int) -> None:
        self.calls = calls
        self._max_watches = max_watches
        self._lock = threading.Lock()
        self._serving: dict[str, bool] = {}
        self._watches: set[_Watch] = set()
        self._draining = False
        self._closed = False
        # Never shut down: gRPC's serving thread would not survive a watch that comes after that.
        self._pool = futures.ThreadPoolExecutor(max_watches, "health")
        # gRPC calls it with the way to answer, in this pool.
        watch: Any = functools.partial(self._watch)
        watch.experimental_non_blocking = True
        watch.experimental_thread_pool = self._pool
        self.Watch = watch  # type: ignore[method-assign]  # gRPC reads its attributes

    def update(self, serving: Mapping[str, bool]) -> None:
        """Set which names serve and which do not; other names stay as they are."""
        with self._lock:
            self._serving |= dict.fromkeys(serving, False) if self._draining else serving
            self._wake()

    def drain(self) -> None:
        """Set every name to not serving, for good."""
        with self._lock:
            self._draining = True
            self._serving = dict.fromkeys(self._serving, False)
            self._wake()

    def close(self) -> None:
        """Drain, end all watches, and refuse new ones."""
        self.drain()
        with self._lock:
            self._closed = True
            self._wake()

    @probe
    def Check(self, request: Any, context: CallContext) -> Any:  # noqa: N802 - gRPC's name
        """Tell whether a service or a model serves; the empty name is the server as a whole."""
        serving = self._serving.get(request.service)
        if serving is None:
            raise ModelNotFoundError(request.service, available=sorted(filter(None, self._serving)))
        return health_pb2.HealthCheckResponse(status=_SERVING if serving else _NOT_SERVING)

    def _watch(self, request: Any, context: Any, send: Send) -> None:
        """Tell it now, and whenever it changes."""
        watch = _Watch(request.service, send)
        with self._lock:
            closed, full = self._closed, len(self._watches) >= self._max_watches
            if not closed and not full:
                self._watches.add(watch)
                watch.sending = True
        if closed:
            context.abort(grpc.StatusCode.UNAVAILABLE, "the server is shutting down")
        if full:
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "too many watch; use Check")
        context.add_callback(lambda: self._forget(watch))
        self._send(watch)

    def _forget(self, watch: "_Watch") -> None:
        with self._lock:
            self._watches.discard(watch)

    def _wake(self) -> None:
        """Have threads send what has changed; the lock is held."""
        for watch in self._watches:
            if not watch.sending and watch.sent != self._status(watch):
                watch.sending = True
                self._pool.submit(self._send, watch)

    def _send(self, watch: "_Watch") -> None:
        """Send a watcher what has changed, until nothing has."""
        while True:
            with self._lock:
                status = self._status(watch)
                if status == watch.sent:
                    watch.sending = False
                    return
                watch.sent = status
            if status == _ENDED:
                watch.send(None)
                return
            watch.send(health_pb2.HealthCheckResponse(status=status))

    def _status(self, watch: "_Watch") -> int:
        if self._closed and watch.sent != _SERVING:
            return _ENDED
        serving = self._serving.get(watch.service)
        if serving is None:
            return _SERVICE_UNKNOWN
        return _SERVING if serving else _NOT_SERVING


class _Watch:
    """One watcher.

    Attributes:
        service: What it watches.
        send: Sends it a response, blocking until it is on its way; None ends the watch.
        sent: The status that it was sent last.
        sending: Whether a thread sends to it.
    """

    __slots__ = ("send", "sending", "sent", "service")

    def __init__(self, service: str, send: Send) -> None:
        self.service = service
        self.send = send
        self.sent: int | None = None
        self.sending = False
