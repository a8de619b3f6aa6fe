"""The errors of the client.

FacegenError
└── ClientError                    every error below: what a server answered, or that none did
    ├── FileError                  a file cannot be read or written; no server was asked
    ├── TokenError                 a token that must not be sent so; no server was asked
    ├── InvalidRequestError        the request can never succeed; `field` names the culprit
    ├── NotFoundError              no such family, version or service
    ├── FailedPreconditionError    not on this family
    ├── AccessError                the server does not let this client do that
    │   ├── UnauthenticatedError       no token, or one that is not valid there
    │   └── PermissionDeniedError      a token that does not allow it
    ├── ResourceExhaustedError     the queue or a limit of this client is full (`retry_after_s` is
    │                              set), or a message too large
    ├── UnavailableError           no server answers there, or it is going away; retry
    ├── DeadlineError              no answer in time; retry with a longer timeout
    ├── CancelledError             the call was cancelled
    └── ServerError                a fault of the server's own
"""

import os

from facegen.errors import FacegenError

__all__ = [
    "AccessError",
    "CancelledError",
    "ClientError",
    "DeadlineError",
    "FailedPreconditionError",
    "FileError",
    "InvalidRequestError",
    "NotFoundError",
    "PermissionDeniedError",
    "ResourceExhaustedError",
    "ServerError",
    "TokenError",
    "UnauthenticatedError",
    "UnavailableError",
]


class ClientError(FacegenError):
    """An error met by the client.

    Attributes:
        reason: The server's machine-readable reason (google.rpc.ErrorInfo), for example
            `LATENT_SIZE`; empty if it gave none.
    """

    def __init__(self, message: str, *, reason: str = "") -> None:
        super().__init__(message)
        self.reason = reason


class FileError(ClientError):
    """A file cannot be read or written.

    Attributes:
        path: The file.
    """

    def __init__(self, path: str | os.PathLike[str], *, problem: str) -> None:
        self.path = os.fspath(path)
        super().__init__(f"{self.path}: {problem}")


class TokenError(ClientError):
    """A token must not be sent as it is, or over this connection."""

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(f"{problem}; {remedy}")


class InvalidRequestError(ClientError):
    """The request can never succeed as it is.

    Attributes:
        field: The field of the request at fault, for example `images[2]`; empty if not known.
    """

    def __init__(self, message: str, *, field: str = "", reason: str = "") -> None:
        super().__init__(message, reason=reason)
        self.field = field


class NotFoundError(ClientError):
    """The server has no such family, version or service."""


class FailedPreconditionError(ClientError):
    """The request makes no sense on this family, or not in the server's present state."""


class AccessError(ClientError):
    """The server does not let this client do what it asked for."""


class UnauthenticatedError(AccessError):
    """The server wants a token, or another one."""

    def __init__(self, message: str, *, reason: str = "") -> None:
        super().__init__(
            f"{message}; give one with --token or FACEGEN_TOKEN, or Client(token=…)", reason=reason
        )


class PermissionDeniedError(AccessError):
    """The server knows the client, and does not allow it this."""


class ResourceExhaustedError(ClientError):
    """The server's queue or a limit of this client is full, or a message is larger than allowed.

    Attributes:
        retry_after_s: When to try again; None: never, the message itself is the problem.
    """

    def __init__(
        self, message: str, *, reason: str = "", retry_after_s: float | None = None
    ) -> None:
        super().__init__(message, reason=reason)
        self.retry_after_s = retry_after_s


class UnavailableError(ClientError):
    """No server answers at the address, or it is starting or stopping. A retry may help."""

    def __init__(self, *, address: str, details: str, reason: str = "") -> None:
        super().__init__(
            f"no answer from {address}: is the server running there? ({details})", reason=reason
        )


class DeadlineError(ClientError):
    """The answer did not come in time. A retry with a longer timeout may help."""

    def __init__(self, *, address: str, timeout_s: float, reason: str = "") -> None:
        super().__init__(
            f"no answer from {address} within {timeout_s:g} s: allow more time, or ask for less",
            reason=reason,
        )


class CancelledError(ClientError):
    """The call was cancelled before its answer came."""


class ServerError(ClientError):
    """The server failed in a way that is not the request's fault."""
