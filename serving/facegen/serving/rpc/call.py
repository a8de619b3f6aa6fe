"""One call from its beginning to its end: room, gate, context, observation, status."""

import itertools
import logging
import re
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import grpc
from grpc_status import rpc_status

from facegen.errors import FacegenError
from facegen.serving.call_context import CallContext
from facegen.serving.errors import CallCancelledError, NotReadyError, RateLimitError
from facegen.serving.rpc.deferred import Metadata
from facegen.serving.rpc.interfaces import Admission, Gate, Observation, Observer, Peer
from facegen.serving.rpc.status import internal_status, status_of

__all__ = ["Call", "Calls"]

_LOGGER = logging.getLogger(__name__)

# What a caller may name a call: enough for UUIDs and trace ids, nothing that a log line is made of.
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}")
_MADE_UP = secrets.token_hex(6)
_NUMBERS = itertools.count(1)
# gRPC gives centuries to a call without a deadline.
_ENDLESS_S = 1e9
# Calls leave within milliseconds: a client that comes back so soon may find room.
_RETRY_S = 0.1


class Calls:
    """What the calls of a server have in common.

    Attributes:
        starting: Whether the models are not there yet: all calls but probes are refused.
        ready: Whether callers should come: not while starting, nor while draining.

    Args:
        gate: Decides which may begin; None: all may.
        observer: Follows them; None: nobody does.
        max_calls: The most under way, probes not counted.
    """

    def __init__(
        self,
        gate: Gate | None = None,
        observer: Observer | None = None,
        *,
        max_calls: int = 2**31 - 1,
    ) -> None:
        self.gate = gate
        self.observer = observer
        self.starting = False
        self.ready = True
        self._max_calls = max_calls
        self._count = 0
        self._lock = threading.Lock()
        self._refusal = RateLimitError(
            f"{max_calls} calls are under way, the most that this server takes "
            "(--max-concurrent-calls)",
            retry_after_s=_RETRY_S,
        )
        self._refusal_status: grpc.Status = rpc_status.to_status(status_of(self._refusal))

    def has_room(self) -> bool:
        """Tell whether one more may be under way, as it looks now."""
        return self._count < self._max_calls

    def take(self) -> bool:
        """Count a call that begins; False: there is no room for it."""
        with self._lock:
            if self._count >= self._max_calls:
                return False
            self._count += 1
            return True

    def leave(self) -> None:
        """Count the end of a call that was taken."""
        with self._lock:
            self._count -= 1

    @contextmanager
    def room(self) -> Iterator[None]:
        """Count a call for as long as the context lasts.

        Raises:
            RateLimitError: There is no room for it. Retry.
        """
        if not self.take():
            raise self._refusal
        try:
            yield
        finally:
            self.leave()

    def refuse(self, path: str, metadata: Metadata) -> grpc.Status:
        """Give the status of a call for which there was no room, and tell the observer."""
        if self.observer is not None:
            self.observer.begin(path, metadata, "").end(self._refusal_status.code)
        return self._refusal_status


class Call:
    """One call under way.

    Args:
        calls: What it has in common with others.
        path: Its method, `/package.Service/Method`.
        rpc: gRPC's side of it.
        probe: Whether it is taken while the server starts.
    """

    __slots__ = (
        "_admission", "_calls", "_context", "_ended", "_observation", "_path", "_probe", "_rpc",
    )  # fmt: skip

    def __init__(self, calls: Calls, path: str, rpc: Any, *, probe: bool = False) -> None:
        self._calls, self._path, self._rpc, self._probe = calls, path, rpc, probe
        self._admission: Admission | None = None
        self._observation: Observation | None = None
        self._ended = threading.Lock()  # taken for good by the first that ends the call
        metadata = rpc.invocation_metadata()
        left_s = rpc.time_remaining()
        self._context = CallContext(
            timeout_s=left_s if left_s < _ENDLESS_S else None,
            request_id=_request_id(metadata),
            metadata=metadata,
        )
        if calls.observer is not None:
            self._observation = calls.observer.begin(path, metadata, self._context.request_id)
            self._context.spans = self._observation.spans

    def admit(self) -> CallContext:
        """Ask the gate, and follow the caller.

        Raises:
            NotReadyError: The models are not there yet.
            CallCancelledError: The caller is gone.
            FacegenError: As the gate's.
        """
        context = self._context
        if self._calls.starting and not self._probe:
            raise NotReadyError("the server")
        if self._calls.gate is not None:
            self._admission = self._calls.gate.admit(self._path, context.metadata, self._peer)
            context.client = self._admission.client
            context.admin = self._admission.admin
        if not self._rpc.add_callback(self._rpc_ended):
            raise CallCancelledError
        return context

    def status(self, error: Exception) -> grpc.Status:
        """Make an error a status; what it hides from the caller is in the log."""
        request_id = self._context.request_id
        if isinstance(error, FacegenError):
            status = status_of(error)
            _LOGGER.debug(
                "call refused method=%s code=%d request=%s error=%s",
                self._path, status.code, request_id, error,
            )  # fmt: skip
        else:
            status = internal_status(request_id)
            _LOGGER.error(
                "call failed method=%s request=%s", self._path, request_id, exc_info=error
            )
        return rpc_status.to_status(status)

    def end(self, code: grpc.StatusCode) -> bool:
        """Tell gate and observer, the first time; False: the call had ended."""
        if not self._ended.acquire(blocking=False):
            return False
        if self._admission is not None:
            self._admission.release()
        if self._observation is not None:
            self._observation.end(self._seen(code))
        return True

    def _seen(self, code: grpc.StatusCode) -> grpc.StatusCode:
        """Give the code that the caller saw, who may have gone before."""
        if code is not grpc.StatusCode.OK or not self._context.cancelled:
            return code
        late = time.monotonic() >= self._context.deadline
        return grpc.StatusCode.DEADLINE_EXCEEDED if late else grpc.StatusCode.CANCELLED

    def _rpc_ended(self) -> None:
        if not self._ended.locked():
            self._context.cancel()

    def _peer(self) -> Peer:
        peer: Peer = self._rpc
        return peer


def _request_id(metadata: Metadata) -> str:
    """Take the caller's name for the call if a log can bear it; else make one up."""
    for key, value in metadata:
        if key == "x-request-id" and _REQUEST_ID.fullmatch(str(value)):
            return str(value)
    return f"{_MADE_UP}-{next(_NUMBERS)}"
