"""What every call of ours goes through: gate, context, observation, and errors made status."""

import functools
import itertools
import logging
import re
import secrets
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar, cast

import grpc
from grpc_status import rpc_status

from facegen.errors import FacegenError
from facegen.serving.call_context import CallContext, Spans
from facegen.serving.errors import CallCancelledError, NotReadyError, RateLimitError
from facegen.serving.rpc.deferred import Metadata, Rpc, wait_for
from facegen.serving.rpc.status import internal_status, status_of

__all__ = [
    "Admission",
    "Calls",
    "Finish",
    "Gate",
    "Observation",
    "Observer",
    "Peer",
    "answers",
    "deferred",
    "probe",
    "streams",
]

_LOGGER = logging.getLogger(__name__)

Request = TypeVar("Request")
Response = TypeVar("Response")
# Answers a call, with its response or an error; from any thread, and only the first counts.
Finish = Callable[[Any], None]
Method = Callable[[Any, Request, Any], Response]  # as gRPC calls it

# What a caller may name a call: enough for UUIDs and trace ids, nothing that a log line is made of.
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}")
_MADE_UP = secrets.token_hex(6)
_NUMBERS = itertools.count(1)
# gRPC gives centuries to a call without a deadline.
_ENDLESS_S = 1e9
# Calls leave within milliseconds: a client that comes back so soon may find room.
_RETRY_S = 0.1


class Peer(Protocol):
    """The other end of the connection; gRPC's own context is one."""

    def peer(self) -> str:
        """Give its address, as gRPC writes it: `ipv4:127.0.0.1:40112`."""
        ...

    def auth_context(self) -> Mapping[str, Iterable[bytes]]:
        """Give what its certificate tells, by gRPC's names."""
        ...


class Admission(Protocol):
    """A call that the gate let in."""

    @property
    def client(self) -> str:
        """Who calls, for fairness between clients."""
        ...

    @property
    def admin(self) -> bool:
        """Whether the caller may load, unload and change settings."""
        ...

    def release(self) -> None:
        """Tell that the call has ended; called once."""
        ...


class Gate(Protocol):
    """Decides whether a call may begin."""

    def admit(self, method: str, metadata: Metadata, peer: Callable[[], Peer]) -> Admission:
        """Let a call in; quick, from any thread.

        Args:
            method: `/package.Service/Method`.
            metadata: What came with the call.
            peer: Tells who is at the other end; costs microseconds.

        Raises:
            UnauthenticatedError: No credentials, or wrong ones.
            ForbiddenError: Not with these.
            RateLimitError: Too much at once. Retry.
        """
        ...


class Observation(Protocol):
    """A call that is followed."""

    @property
    def spans(self) -> Spans | None:
        """What takes its stages; None: nobody traces it."""
        ...

    def end(self, code: grpc.StatusCode) -> None:
        """Tell how it ended; called once, before the answer goes out."""
        ...


class Observer(Protocol):
    """Follows calls, for metrics and traces."""

    def begin(self, method: str, metadata: Metadata, request_id: str) -> Observation:
        """Follow a call, refused ones too."""
        ...


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


class Servicer(Protocol):
    """Anything whose methods are wrapped here."""

    calls: Calls


def answers(
    method: Callable[[Any, Request, CallContext], Response],
) -> Method[Request, Response]:
    """Wrap a unary method that blocks; it has a thread from its message to its answer."""
    return cast("Method[Request, Response]", _Unary(_finishing(method), blocking=True))


def deferred(
    method: Callable[[Any, Request, CallContext, Finish], None],
) -> Method[Request, Any]:
    """Wrap a unary method that begins its work and leaves `finish` to whoever ends it.

    It runs in the one thread that takes all calls, but for those with large messages, and must be
    quick.
    """
    return cast("Method[Request, Any]", _Unary(method))


def probe(
    method: Callable[[Any, Request, CallContext], Response],
) -> Method[Request, Response]:
    """Wrap a unary method by which supervisors tell how the server is.

    It is answered while the server starts and however many calls are under way, in the one thread
    that takes all calls, and must be quick.
    """
    return cast("Method[Request, Response]", _Unary(_finishing(method), probe=True))


def streams(
    method: Callable[[Any, Any, CallContext], Iterator[Response]],
) -> Callable[[Any, Any, Any], Iterator[Response]]:
    """Wrap a method that answers with a stream; it has a thread until the stream ends."""

    @functools.wraps(method)
    def wrapped(servicer: Servicer, request: Any, context: Any) -> Iterator[Response]:
        call = _Call(servicer.calls, _path(type(servicer), method.__name__), context)
        try:
            with servicer.calls.room():
                yield from method(servicer, request, call.admit())
        except (GeneratorExit, grpc.RpcError):  # the caller went away
            call.end(grpc.StatusCode.CANCELLED)
            raise
        except Exception as error:  # the outermost frame of a call
            status = call.status(error)
            call.end(status.code)
            context.abort_with_status(status)
        else:
            call.end(grpc.StatusCode.OK)

    return wrapped


def _finishing(method: Callable[[Any, Any, CallContext], Any]) -> Callable[..., None]:
    """Make a method that returns its response one that finishes with it."""

    @functools.wraps(method)
    def finishing(servicer: Any, request: Any, context: CallContext, finish: Finish) -> None:
        finish(method(servicer, request, context))

    return finishing


class _Unary:
    """A wrapped unary method in its class."""

    def __init__(
        self, method: Callable[..., None], *, blocking: bool = False, probe: bool = False
    ) -> None:
        self.method = method
        self.blocking = blocking
        self.probe = probe
        self.__doc__ = method.__doc__

    def __get__(self, servicer: Servicer, owner: type) -> "_BoundUnary":
        return _BoundUnary(self, servicer, _path(owner, self.method.__name__))


class _BoundUnary:
    """A wrapped unary method of a servicer: `rpc.deferred.UnaryMethod`, and plain gRPC's."""

    def __init__(self, unary: _Unary, servicer: Servicer, path: str) -> None:
        self._method = unary.method
        self._servicer = servicer
        self._calls = servicer.calls
        self._path = path
        self._probe = unary.probe
        self.blocking = unary.blocking

    def enter(self, metadata: Metadata) -> grpc.Status | None:
        if self._probe or self._calls.take():
            return None
        return self._calls.refuse(self._path, metadata)

    def leave(self) -> None:
        if not self._probe:
            self._calls.leave()

    def start(self, request: Any, rpc: Rpc) -> None:
        call = _Call(self._calls, self._path, rpc, probe=self._probe)

        def finish(response: Any) -> None:
            if isinstance(response, Exception):
                status = call.status(response)
                if call.end(status.code):
                    rpc.refuse(status)
            elif call.end(grpc.StatusCode.OK):
                rpc.answer(response)

        try:
            self._method(self._servicer, request, call.admit(), finish)
        except Exception as error:  # the outermost frame of a call
            finish(error)

    def __call__(self, request: Any, context: Any) -> Any:
        return wait_for(self, request, context)


class _Call:
    """One call under way."""

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


@functools.cache
def _path(servicer: type, method: str) -> str:
    """Name a method in full: gRPC does not tell it where it has registered it itself.

    The generated `x_pb2_grpc.YServicer` lies beside `x_pb2`, which describes the service.
    """
    base = next(base for base in servicer.__mro__ if base.__module__.endswith("_pb2_grpc"))
    protos: Any = sys.modules[base.__module__.removesuffix("_grpc")]
    service = protos.DESCRIPTOR.services_by_name[base.__name__.removesuffix("Servicer")]
    return f"/{service.full_name}/{method}"


def _request_id(metadata: Metadata) -> str:
    """Take the caller's name for the call if a log can bear it; else make one up."""
    for key, value in metadata:
        if key == "x-request-id" and _REQUEST_ID.fullmatch(str(value)):
            return str(value)
    return f"{_MADE_UP}-{next(_NUMBERS)}"
