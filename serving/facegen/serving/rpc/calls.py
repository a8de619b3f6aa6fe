"""The wrappers of servicers' methods: every call of ours goes through one of them."""

import functools
import sys
from collections.abc import Callable, Iterator
from typing import Any, Protocol, TypeVar, cast

import grpc

from facegen.serving.call_context import CallContext
from facegen.serving.rpc.call import Call, Calls
from facegen.serving.rpc.deferred import Metadata, Rpc, wait_for

__all__ = ["Calls", "Finish", "answers", "deferred", "probe", "streams"]

Request = TypeVar("Request")
Response = TypeVar("Response")
# Answers a call, with its response or an error; from any thread, and only the first counts.
Finish = Callable[[Any], None]
Method = Callable[[Any, Request, Any], Response]  # as gRPC calls it


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
        call = Call(servicer.calls, _path(type(servicer), method.__name__), context)
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

    def refusal(self, metadata: Metadata) -> grpc.Status | None:
        if self._probe or self._calls.has_room():
            return None
        return self._calls.refuse(self._path, metadata)

    def enter(self, metadata: Metadata) -> grpc.Status | None:
        if self._probe or self._calls.take():
            return None
        return self._calls.refuse(self._path, metadata)

    def leave(self) -> None:
        if not self._probe:
            self._calls.leave()

    def start(self, request: Any, rpc: Rpc) -> None:
        call = Call(self._calls, self._path, rpc, probe=self._probe)

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


@functools.cache
def _path(servicer: type, method: str) -> str:
    """Name a method in full: gRPC does not tell it where it has registered it itself.

    The generated `x_pb2_grpc.YServicer` lies beside `x_pb2`, which describes the service.
    """
    base = next(base for base in servicer.__mro__ if base.__module__.endswith("_pb2_grpc"))
    protos: Any = sys.modules[base.__module__.removesuffix("_grpc")]
    service = protos.DESCRIPTOR.services_by_name[base.__name__.removesuffix("Servicer")]
    return f"/{service.full_name}/{method}"
