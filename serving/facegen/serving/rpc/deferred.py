"""Unary calls that hold no thread while they wait, and the limit of calls under way.

gRPC's threaded server gives every call a thread from its arrival to its answer, and hands it from
thread to thread three times. A unary method of ours is begun in the thread that received its
message and answered from whichever thread has the answer. With one row a call that is worth a
fifth of the throughput (docs/design/0005).

This reaches into `grpc._server`, whose names it uses have been there since 2016. Where they are
missing, the same methods run in gRPC's threads and wait there.
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent import futures
from typing import Any, Protocol

import grpc

try:
    from grpc import _common, _server
    from grpc._cython import cygrpc  # type: ignore[attr-defined]  # has no types

    _CANCELLED, _TO_CYGRPC = _server._CANCELLED, _common.STATUS_CODE_TO_CYGRPC_STATUS_CODE
    _RECEIVED, _SENT = _server._RECEIVE_MESSAGE_TOKEN, _server._SEND_STATUS_FROM_SERVER_TOKEN
    _abort, _finish_if_ended = _server._abort, _server._possibly_finish_call
    _UNARY: Any = _server._unary_response_in_pool
    _STREAM: Any = _server._stream_response_in_pool
    # An operation belongs to its batch: to start one twice frees it twice.
    _ReceiveMessage, _SendMessage = cygrpc.ReceiveMessageOperation, cygrpc.SendMessageOperation
    _SendMetadata = cygrpc.SendInitialMetadataOperation
    _SendStatus = cygrpc.SendStatusFromServerOperation
    _INTERNALS = True
except (ImportError, AttributeError):
    _INTERNALS = False

__all__ = ["CallExecutor", "Metadata", "Rpc", "UnaryMethod", "wait_for"]

_LOGGER = logging.getLogger(__name__)

# A message this long may hold thousands of things to look at, one by one for milliseconds: it is
# read in a thread of its own, which costs a tenth of one, so that no other call waits for it.
_LARGE_BYTES = 32 * 1024

Metadata = Sequence[tuple[str, str | bytes]]


class Rpc(Protocol):
    """gRPC's side of a unary call: what the caller sent along, and the way to answer."""

    def invocation_metadata(self) -> Metadata:
        """Give the metadata that came with the call."""
        ...

    def time_remaining(self) -> float:
        """Give the seconds until its deadline; without one, centuries."""
        ...

    def peer(self) -> str:
        """Give the caller's address, as gRPC writes it."""
        ...

    def auth_context(self) -> Mapping[str, Sequence[bytes]]:
        """Give what the transport knows of the caller."""
        ...

    def add_callback(self, callback: Callable[[], None]) -> bool:
        """Call back when the call has ended, however it did; False: it has."""
        ...

    def answer(self, response: Any) -> None:
        """End the call well; nothing happens if it has ended."""
        ...

    def refuse(self, status: grpc.Status) -> None:
        """End the call with a status; nothing happens if it has ended."""
        ...


class UnaryMethod(Protocol):
    """A unary method of a servicer that the executor begins by itself.

    Attributes:
        blocking: Whether it needs a thread of the pool; else it must be quick.
        probe: Whether it is answered however many calls are under way.
    """

    blocking: bool
    probe: bool

    def start(self, request: Any, rpc: Rpc) -> None:
        """Begin a call; `rpc` is answered from any thread."""
        ...


class CallExecutor(futures.ThreadPoolExecutor):
    """The thread pool of a gRPC server, which gives it every call.

    Methods that have `start` (`UnaryMethod`) take no thread to wait in, and those with a true
    `probe` are not counted.

    Args:
        max_calls: The most calls under way.
        refusal: How more are refused, before their message is read.
        refused: Told of each that is: its method, its metadata and the code; quick.

    Attributes:
        maximum_concurrent_rpcs: What gRPC itself is to limit.
    """

    def __init__(
        self,
        max_calls: int,
        refusal: grpc.Status,
        refused: Callable[[Any, Metadata, grpc.StatusCode], None] | None = None,
    ) -> None:
        super().__init__(max_calls, "call")
        self._max_calls = max_calls
        self._refusal = refusal
        self._refused = refused
        self._call_count = 0  # changed by gRPC's serving thread alone
        self.maximum_concurrent_rpcs = None if _INTERNALS else max_calls

    def submit(self, run: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Run something in a thread, or begin a call."""
        # gRPC's calls: submit(context.run, _…_response_in_pool, event, state, method, …).
        if not _INTERNALS or not args or (args[0] is not _UNARY and args[0] is not _STREAM):
            return super().submit(run, *args, **kwargs)
        target, event, state, method, _, parse, serialize = args
        if not getattr(method, "probe", False):
            if self._call_count >= self._max_calls:
                return self._refuse(event, state, method)
            self._call_count += 1
            state.callbacks.append(self._call_ended)
        if target is _STREAM or not hasattr(method, "start"):
            return super().submit(run, *args)
        return _DeferredRpc(event, state, parse, serialize).receive(method, super().submit)

    def _refuse(self, event: Any, state: Any, method: Any) -> Any:
        if self._refused is not None:
            self._refused(method, event.invocation_metadata, self._refusal.code)
        state.trailing_metadata = self._refusal.trailing_metadata
        _abort(state, event.call, _TO_CYGRPC[self._refusal.code], self._refusal.details.encode())
        ended: futures.Future[None] = futures.Future()
        ended.set_result(None)
        return ended

    def _call_ended(self) -> None:
        self._call_count -= 1


class _DeferredRpc:
    """A unary call on its way through; for gRPC, the future of its end.

    `state.condition` guards the state, and `state.due` names the operations that core has not
    completed: when it is empty and a status was sent or the caller is gone, the call has ended.
    """

    __slots__ = (
        "_call", "_deadline", "_metadata", "_method", "_parse", "_serialize", "_state", "_submit",
    )  # fmt: skip

    def __init__(self, event: Any, state: Any, parse: Any, serialize: Any) -> None:
        self._call = event.call
        self._deadline: float = event.call_details.deadline
        self._metadata: Metadata = event.invocation_metadata
        self._state = state
        self._parse, self._serialize = parse, serialize

    def receive(self, method: UnaryMethod, submit: Callable[..., Any]) -> "_DeferredRpc":
        """Ask for the message, then begin; gRPC holds `state.condition`."""
        self._method, self._submit = method, submit
        self._call.start_server_batch((_ReceiveMessage(0),), self._received)
        self._state.due.add(_RECEIVED)
        return self

    def add_done_callback(self, callback: Callable[[Any], None]) -> None:
        self._state.callbacks.append(lambda: callback(self))

    def _received(self, event: Any) -> Any:
        """Begin the method; in gRPC's serving thread, which no exception may end."""
        message = event.batch_operations[0].message()
        with self._state.condition:
            ended = _finish_if_ended(self._state, _RECEIVED)
        if ended[0] is not None:
            return ended
        try:
            if self._method.blocking or len(message or b"") > _LARGE_BYTES:
                self._submit(self._begin, message)
            else:
                self._begin(message)
        except Exception:  # a bug of ours, or the pool is closed
            _LOGGER.exception("call did not begin")
            self._send(grpc.StatusCode.INTERNAL, "the call could not be begun")
        return ended

    def _begin(self, message: bytes | None) -> None:
        if message is None:
            self._send(grpc.StatusCode.UNIMPLEMENTED, "the call brought no request message")
            return
        try:
            request = self._parse(message)
        except Exception:  # whatever a deserialiser raises
            self._send(grpc.StatusCode.INTERNAL, "Exception deserializing request!")
            return
        self._method.start(request, self)

    def invocation_metadata(self) -> Metadata:
        return self._metadata

    def time_remaining(self) -> float:
        return max(self._deadline - time.time(), 0.0)

    def peer(self) -> str:
        return _common.decode(self._call.peer())

    def auth_context(self) -> Mapping[str, Sequence[bytes]]:
        return {key.decode(): value for key, value in cygrpc.auth_context(self._call).items()}

    def add_callback(self, callback: Callable[[], None]) -> bool:
        with self._state.condition:
            if self._state.callbacks is None:
                return False
            self._state.callbacks.append(callback)
            return True

    def answer(self, response: Any) -> None:
        try:
            message = self._serialize(response)
        except Exception:  # whatever a serialiser raises
            _LOGGER.exception("response could not be serialised")
            self._send(grpc.StatusCode.INTERNAL, "Failed to serialize response!")
            return
        self._send(grpc.StatusCode.OK, "", message=message)

    def refuse(self, status: grpc.Status) -> None:
        self._send(status.code, status.details, status.trailing_metadata)

    def _send(
        self,
        code: grpc.StatusCode,
        details: str,
        metadata: Metadata | None = None,
        message: bytes | None = None,
    ) -> None:
        operations: tuple[Any, ...] = (
            _SendMetadata(None, 0),
            _SendStatus(metadata, _TO_CYGRPC[code], details.encode(), 0),
        )
        if message is not None:
            operations = (_SendMessage(message, 0), *operations)
        state = self._state
        with state.condition:
            if state.statused or state.client is _CANCELLED:
                return
            self._call.start_server_batch(operations, self._sent)
            state.statused = True
            state.due.add(_SENT)

    def _sent(self, _event: Any) -> Any:
        with self._state.condition:
            return _finish_if_ended(self._state, _SENT)


def wait_for(method: UnaryMethod, request: Any, context: Any) -> Any:
    """Run a method in the thread of a plain gRPC server, until it has answered.

    Args:
        method: The method.
        request: Its request.
        context: gRPC's own context.
    """
    rpc = _WaitingRpc(context)
    method.start(request, rpc)
    return rpc.wait()


class _WaitingRpc:
    """A unary call that a thread waits for."""

    def __init__(self, context: Any) -> None:
        self._context = context
        self._answered = threading.Event()
        self._response: Any = None
        self._status: grpc.Status | None = None
        self.invocation_metadata = context.invocation_metadata
        self.time_remaining = context.time_remaining
        self.peer = context.peer
        self.auth_context = context.auth_context
        self.add_callback = context.add_callback

    def answer(self, response: Any) -> None:
        self._response = response
        self._answered.set()

    def refuse(self, status: grpc.Status) -> None:
        self._status = status
        self._answered.set()

    def wait(self) -> Any:
        self._answered.wait()
        if self._status is not None:
            self._context.abort_with_status(self._status)
        return self._response
