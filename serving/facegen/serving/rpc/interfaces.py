"""What a call meets on its way, as the layer of calls needs it: who decides, and who follows."""

from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

import grpc

from facegen.serving.call_context import Spans
from facegen.serving.rpc.deferred import Metadata

__all__ = ["Admission", "Gate", "Observation", "Observer", "Peer"]


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
