"""When a call that failed is made again."""

import random
import time
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import grpc

from facegen.client.channel import Retry
from facegen.client.errors import (
    ClientError,
    DeadlineError,
    ResourceExhaustedError,
    ServerError,
    UnavailableError,
)
from facegen.client.status import error_of_status
from facegen.v1 import face_service_pb2, mesh_service_pb2

__all__ = ["Attempts", "DrawStream"]

T = TypeVar("T")


class Attempts:
    """The attempts of one call, all within one deadline.

    gRPC could repeat calls itself, but not those whose answer broke off half-way, nor those of
    requests above 256 KiB, nor after a full queue's own time.
    """

    def __init__(
        self,
        *,
        address: str,
        timeout_s: float,
        retry: Retry,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._address = address
        self._timeout_s = timeout_s
        self._retry = retry
        self._clock = clock
        self._deadline_s = clock() + timeout_s
        self._number = 1

    def remaining_s(self) -> float:
        """Give the seconds left for the next attempt."""
        return max(self._deadline_s - self._clock(), 0.0)

    def failure(self, error: grpc.RpcError) -> ClientError:
        """Make our error of gRPC's."""
        return error_of_status(error, address=self._address, timeout_s=self._timeout_s)

    def pause_s(self, error: grpc.RpcError) -> float:
        """Give the pause before the next attempt.

        Raises:
            ClientError: There is none; this is the call's outcome.
        """
        failure = self.failure(error)
        pause_s = _pause_s(failure, self._retry, attempt=self._number)
        if pause_s is None or pause_s >= self.remaining_s():
            raise failure from error
        self._number += 1
        return pause_s


class DrawStream(Generic[T]):
    """A stream of faces that goes on where it broke off.

    A call has the client's timeout as its deadline. One that ran into it but brought faces is
    followed by another, so that a stream may last for ever and fails only when no face came for
    that long. The family, version, prior and seed of the first answer are kept: a server that
    reloads does not mix faces.

    Args:
        request: What to ask for.
        read: Gives the faces of a response.
        address: The server's address, for messages.
        timeout_s: Seconds within which a face must come.
        retry: When to go on.
    """

    def __init__(
        self,
        request: face_service_pb2.GenerateStreamRequest
        | mesh_service_pb2.GenerateMeshesStreamRequest,
        read: Callable[[Any], tuple[T, ...]],
        *,
        address: str,
        timeout_s: float,
        retry: Retry,
    ) -> None:
        self.request = request
        """What is still to be asked for."""
        self.timeout_s = timeout_s
        self._read = read
        self._address = address
        self._retry = retry
        self._failure_count = 0
        self._progressed = False

    def accept(self, response: Any) -> tuple[T, ...]:
        """Take the next faces off the request."""
        faces = self._read(response)
        self.request.family, self.request.version = response.family, response.version
        self.request.prior, self.request.seed = response.prior, response.seed
        self.request.first_index += len(faces)
        self.request.count -= len(faces)
        self._failure_count = 0
        self._progressed = True
        return faces

    def pause_s(self, error: grpc.RpcError) -> float:
        """Give the pause before the stream goes on.

        Raises:
            ClientError: It does not.
        """
        failure = error_of_status(error, address=self._address, timeout_s=self.timeout_s)
        progressed, self._progressed = self._progressed, False
        if isinstance(failure, DeadlineError) and progressed:
            return 0.0
        self._failure_count += 1
        pause_s = _pause_s(failure, self._retry, attempt=self._failure_count)
        if pause_s is None:
            raise failure from error
        return pause_s

    def finish(self) -> None:
        """Hold the server to its word once it says that was all.

        Raises:
            ServerError: Faces are missing.
        """
        if self.request.count:
            raise ServerError(
                f"{self._address} ended the stream with {self.request.count} faces still to come"
            )


def _pause_s(failure: ClientError, retry: Retry, *, attempt: int) -> float | None:
    """Give the pause after attempt number `attempt`, from 1; None: there is no other."""
    if attempt >= retry.max_attempts:
        return None
    backoff_s = retry.pause_s(attempt)
    if isinstance(failure, UnavailableError):
        return backoff_s * random.uniform(0.8, 1.2)
    if isinstance(failure, ResourceExhaustedError) and failure.retry_after_s is not None:
        # Clients refused together must not return together.
        return failure.retry_after_s + random.uniform(0, backoff_s)
    return None
