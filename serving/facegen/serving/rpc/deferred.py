"""A unary call and its method, as `CallServer` and `calls` know them."""

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import grpc

__all__ = ["Metadata", "Rpc", "UnaryMethod", "wait_for"]

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
    """A unary method of a servicer that takes no thread to wait in.

    Attributes:
        blocking: Whether it needs a thread to begin in; else it must be quick.
    """

    blocking: bool

    def refusal(self, metadata: Metadata) -> grpc.Status | None:
        """Refuse a call before its message is read, if there is no room now; quick."""
        ...

    def enter(self, metadata: Metadata) -> grpc.Status | None:
        """Take in a call whose message is here, or refuse it with a status; quick.

        A caller that sends no message, which costs it nothing, takes no room.
        """
        ...

    def start(self, request: Any, rpc: Rpc) -> None:
        """Begin a call; `rpc` is answered from any thread."""
        ...

    def leave(self) -> None:
        """Note that a call which was taken in has come to its end."""
        ...


def wait_for(method: UnaryMethod, request: Any, context: Any) -> Any:
    """Run a method in the thread of a plain gRPC server, until it has answered.

    Args:
        method: The method.
        request: Its request.
        context: gRPC's own context.
    """
    if refusal := method.enter(context.invocation_metadata()):
        context.abort_with_status(refusal)
    try:
        rpc = _WaitingRpc(context)
        method.start(request, rpc)
        return rpc.wait()
    finally:
        method.leave()


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
