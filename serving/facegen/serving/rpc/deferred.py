"""Unary calls that hold no thread while they wait.

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
    from grpc._cython import cygrpc

    _CANCELLED, _TO_CYGRPC = _server._CANCELLED, _common.STATUS_CODE_TO_CYGRPC_STATUS_CODE
    _RECEIVED, _SENT = _server._RECEIVE_MESSAGE_TOKEN, _server._SEND_STATUS_FROM_SERVER_TOKEN
    _finish_if_ended, _unary_in_pool = (
        _server._possibly_finish_call,
        _server._unary_response_in_pool,
    )
    # An operation belongs to its batch: to start one twice frees it twice.
    _ReceiveMessage, _SendMessage = cygrpc.ReceiveMessageOperation, cygrpc.SendMessageOperation
    _SendMetadata, _SendStatus = (
        cygrpc.SendInitialMetadataOperation,
        cygrpc.SendStatusFromServerOperation,
    )
except (ImportError, AttributeError):
    _unary_in_pool = None

__all__ = ["CallExecutor", "Metadata", "Rpc", "UnaryMethod", "wait_for"]

_LOGGER = logging.getLogger(__name__)

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
    """A unary method of a servicer that the executor begins by itself."""

    blocking: bool

    def start(self, request: Any, rpc: Rpc) -> None:
        """Begin a call, in a thread of the pool if `blocking`; answer it from any thread."""
        ...


class CallExecutor(futures.ThreadPoolExecutor):
    """The thread pool of a gRPC server; unary methods that have `start` take no thread to wait in.

    Args:
        max_workers: The most methods that block at a time.
    """

    def __init__(self, max_workers: int) -> None:
        super().__init__(max_workers, "call")

    def submit(self, run: Any, target: Any = None, /, *args: Any, **kwargs: Any) -> Any:
        """Run something in a thread, or begin a call."""
        # gRPC's call: submit(context.run, _unary_response_in_pool, event, state, method, …).
        if target is _unary_in_pool and target is not None and hasattr(args[2], "start"):
            event, state, method, _, parse, serialize = args
            return _DeferredRpc(event, state, parse, serialize).receive(method, super().submit)
        return super().submit(run, *(() if target is None else (target,)), *args, **kwargs)


class _DeferredRpc:
    """A unary call on its way through; for gRPC, the future of its end.

    `state.condition` guards the state, and `state.due` names the operations that core has not
    completed: when it is empty and a status was sent or the caller is gone, the call has ended.
    """

    __slots__ = ("_call", "_deadline", "_metadata", "_parse", "_serialize", "_start", "_state")

    def __init__(self, event: Any, state: Any, parse: Any, serialize: Any) -> None:
        self._call = event.call
        self._deadline: float = event.call_details.deadline
        self._metadata: Metadata = event.invocation_metadata
        self._state = state
        self._parse, self._serialize = parse, serialize

    def receive(self, method: UnaryMethod, submit: Callable[..., Any]) -> "_DeferredRpc":
        """Ask for the message, then begin; gRPC holds `state.condition`."""
        start = method.start
        if method.blocking:
            self._start: Callable[..., Any] = lambda *call: submit(start, *call)
        else:
            self._start = start
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
        if ended[0] is None:
            self._begin(message)
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
        try:
            self._start(request, self)
        except Exception:  # a bug of ours, or the pool is closed
            _LOGGER.exception("call did not begin")
            self._send(grpc.StatusCode.INTERNAL, "the call could not be begun")

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
