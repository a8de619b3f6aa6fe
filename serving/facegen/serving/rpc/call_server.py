"""A gRPC server whose unary methods are served by a loop of its own, and hold no thread.

gRPC's threaded server in Python gives every call a thread from its arrival to its answer, hands it
from thread to thread three times, and runs some hundred lines of Python beside. Here a unary
method of ours is begun in the one thread that takes all calls and answered from whichever thread
has the answer. With one row a call that is worth a quarter of the throughput (docs/design/0005).

All else is public gRPC: connections, TLS, streams, services of others. The loop takes its calls
from gRPC's core through the same bindings as `grpc._server`, from a queue of its own. Where they
have changed, the same methods run in gRPC's threads and wait there.
"""

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent import futures
from typing import Any

import grpc

from facegen.serving.rpc.deferred import Metadata, UnaryMethod

try:
    from grpc import _common
    from grpc._cython import cygrpc  # type: ignore[attr-defined]  # has no types

    _TO_CYGRPC: Any = _common.STATUS_CODE_TO_CYGRPC_STATUS_CODE
    # An operation belongs to its batch: to start one twice frees it twice.
    _ReceiveMessage, _SendMessage = cygrpc.ReceiveMessageOperation, cygrpc.SendMessageOperation
    _ReceiveClose = cygrpc.ReceiveCloseOnServerOperation
    _SendMetadata = cygrpc.SendInitialMetadataOperation
    _SendStatus = cygrpc.SendStatusFromServerOperation
    _QUEUE_SHUTDOWN = cygrpc.CompletionType.queue_shutdown
    _INTERNALS = all(
        hasattr(cygrpc.Server, name)
        for name in ("register_completion_queue", "register_method", "request_registered_call")
    )
except (ImportError, AttributeError):
    _INTERNALS = False

__all__ = ["CallServer"]

_LOGGER = logging.getLogger(__name__)

# A message this long may hold thousands of things to look at, one by one for milliseconds: it is
# read in a thread of its own, which costs a tenth of one, so that no other call waits for it.
_LARGE_BYTES = 32 * 1024


class CallServer:
    """A `grpc.Server`, for servicers to be added to, with a loop for unary methods of ours.

    Args:
        pool: Runs streams, methods that block, and those of others.
        options: gRPC's channel options.
    """

    def __init__(
        self, pool: futures.ThreadPoolExecutor, options: Sequence[tuple[str, Any]] = ()
    ) -> None:
        self._server: Any = grpc.server(pool, options=options)
        core = getattr(self._server, "_cy_server", None)
        self._loop = _Loop(core, pool) if _INTERNALS and core is not None else None
        self.add_generic_rpc_handlers = self._server.add_generic_rpc_handlers
        self.add_insecure_port = self._server.add_insecure_port
        self.add_secure_port = self._server.add_secure_port

    def add_registered_method_handlers(self, service: str, handlers: Mapping[str, Any]) -> None:
        """Take the methods of a service: those that have `start` (`UnaryMethod`) for the loop."""
        others = dict(handlers)
        for name, handler in handlers.items():
            if self._loop is not None and hasattr(handler.unary_unary, "start"):
                self._loop.add(f"/{service}/{name}", others.pop(name))
        self._server.add_registered_method_handlers(service, others)

    def start(self) -> None:
        """Take calls from now on."""
        self._server.start()
        if self._loop is not None:
            self._loop.start()

    def stop(self, grace_s: float | None) -> threading.Event:
        """Take no more calls; what is under way has so long, with None no time.

        Returns:
            Set when all have ended.
        """
        ended: threading.Event = self._server.stop(grace_s)
        return ended

    def close(self) -> None:
        """End at once, and for good."""
        self.stop(None)
        if self._loop is not None:
            self._loop.join()


class _Loop:
    """Serves methods from one thread; gRPC's core is told which, and gives their calls here.

    The thread ends once the server takes no more calls and those it took have ended. Only then is
    the queue shut down: core ends the process when an operation is begun on one that is.
    """

    def __init__(self, server: Any, pool: futures.ThreadPoolExecutor) -> None:
        self.queue = cygrpc.CompletionQueue()
        self.submit = pool.submit
        self._server = server
        self._methods: list[_Method] = []
        self._owed = 0  # methods whose next call was asked for, and calls that have not ended
        self._thread = threading.Thread(target=self._run, name="rpc", daemon=True)
        server.register_completion_queue(self.queue)

    def add(self, path: str, handler: Any) -> None:
        self._server.register_method(path)
        self._methods.append(_Method(self, path, handler))

    def start(self) -> None:
        for method in self._methods:
            self.request(method)
        self._thread.start()

    def join(self) -> None:
        """Wait until the thread has ended, which the server's end brings about."""
        if self._thread.is_alive():
            self._thread.join()

    def request(self, method: "_Method") -> None:
        """Ask for the next call of a method."""
        self._server.request_registered_call(self.queue, self.queue, method.path, method.arrived)
        self._owed += 1

    def expect(self) -> None:
        """Note that a call has begun whose end will come."""
        self._owed += 1

    def settle(self) -> None:
        """Note that what was expected has come."""
        self._owed -= 1
        if not self._owed:
            self.queue.shutdown()

    def _run(self) -> None:
        poll = self.queue.poll
        while True:
            event = poll(None)
            if event.completion_type == _QUEUE_SHUTDOWN:
                return
            try:
                event.tag(event)
            except Exception:  # a bug of ours: the next call may fare better
                _LOGGER.exception("call was lost")
            # Core's calls must not outlive their ends.
            event = None


class _Method:
    """A method and how its messages are read and written."""

    def __init__(self, loop: _Loop, path: str, handler: Any) -> None:
        self.loop = loop
        self.path = path
        self.unary: UnaryMethod = handler.unary_unary
        self.parse: Callable[[bytes], Any] = handler.request_deserializer
        self.serialize: Callable[[Any], bytes] = handler.response_serializer

    def arrived(self, event: Any) -> None:
        """Begin a call, and ask for the next."""
        try:
            if event.success:  # else the server takes no more
                self._begin(event)
        finally:
            if event.success:
                with contextlib.suppress(ValueError):  # likewise
                    self.loop.request(self)
            self.loop.settle()

    def _begin(self, event: Any) -> None:
        call, metadata = event.call, event.invocation_metadata
        refusal = self.unary.refusal(metadata)
        if refusal is None:
            rpc = _LoopRpc(self, call, metadata, event.call_details.deadline)
            call.start_server_batch((_ReceiveClose(0),), rpc.ended)
            self.loop.expect()
            call.start_server_batch((_ReceiveMessage(0),), rpc.received)
        else:
            status = _SendStatus(
                refusal.trailing_metadata, _TO_CYGRPC[refusal.code], refusal.details.encode(), 0
            )
            call.start_server_batch((_SendMetadata(None, 0), _ReceiveClose(0), status), _sent)


class _LoopRpc:
    """A unary call on its way through: `rpc.deferred.Rpc`."""

    __slots__ = (
        "_call", "_callbacks", "_deadline", "_entered", "_lock", "_metadata", "_method", "_over",
    )  # fmt: skip

    def __init__(self, method: _Method, call: Any, metadata: Metadata, deadline: float) -> None:
        self._method = method
        self._call = call
        self._metadata = metadata
        self._deadline = deadline
        self._lock = threading.Lock()
        self._entered = False  # whether it counts; the loop's thread alone knows
        self._over = False  # whether it was answered, or its caller is gone
        self._callbacks: list[Callable[[], None]] | None = []

    def received(self, event: Any) -> None:
        """Begin the method, its message being here."""
        message = event.batch_operations[0].message()
        method = self._method
        if message is not None and not self._over:
            if refusal := method.unary.enter(self._metadata):
                self.refuse(refusal)
                return
            self._entered = True
        if method.unary.blocking or (message is not None and len(message) > _LARGE_BYTES):
            method.loop.submit(self._begin, message)
        else:
            self._begin(message)

    def _begin(self, message: bytes | None) -> None:
        if message is None:
            self._send(grpc.StatusCode.UNIMPLEMENTED, "the call brought no request message")
            return
        try:
            request = self._method.parse(message)
        except Exception:  # whatever a deserialiser raises
            self._send(grpc.StatusCode.INTERNAL, "Exception deserializing request!")
            return
        try:
            self._method.unary.start(request, self)
        except Exception:  # a bug of ours
            _LOGGER.exception("call did not begin")
            self._send(grpc.StatusCode.INTERNAL, "the call could not be begun")

    def ended(self, event: Any) -> None:
        """Note that the call has come to its end, whichever side it was that ended it."""
        with self._lock:
            self._over = True
            callbacks, self._callbacks = self._callbacks, None
        try:
            if self._entered:
                self._method.unary.leave()
            for callback in callbacks or ():
                callback()
        finally:
            self._method.loop.settle()

    def invocation_metadata(self) -> Metadata:
        return self._metadata

    def time_remaining(self) -> float:
        return max(self._deadline - time.time(), 0.0)

    def peer(self) -> str:
        address: str = _common.decode(self._call.peer())
        return address

    def auth_context(self) -> Mapping[str, Sequence[bytes]]:
        return {key.decode(): value for key, value in cygrpc.auth_context(self._call).items()}

    def add_callback(self, callback: Callable[[], None]) -> bool:
        with self._lock:
            if self._callbacks is None:
                return False
            self._callbacks.append(callback)
            return True

    def answer(self, response: Any) -> None:
        try:
            message = self._method.serialize(response)
        except Exception:  # whatever a serialiser raises
            _LOGGER.exception("response could not be serialised")
            self._send(grpc.StatusCode.INTERNAL, "Failed to serialize response!")
            return
        status = _SendStatus(None, 0, b"", 0)
        self._finish((_SendMetadata(None, 0), _SendMessage(message, 0), status))

    def refuse(self, status: grpc.Status) -> None:
        self._send(status.code, status.details, status.trailing_metadata)

    def _send(self, code: grpc.StatusCode, details: str, metadata: Metadata | None = None) -> None:
        status = _SendStatus(metadata, _TO_CYGRPC[code], details.encode(), 0)
        self._finish((_SendMetadata(None, 0), status))

    def _finish(self, operations: tuple[Any, ...]) -> None:
        # Under the lock that `ended` takes: after that the queue may be shut down.
        with self._lock:
            if not self._over:
                self._over = True
                self._call.start_server_batch(operations, _sent)


def _sent(_event: Any) -> None:
    """Take note of an answer that is out; nothing is left to do."""
