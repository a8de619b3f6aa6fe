"""The table from gRPC status to the client's errors; the one reader of google.rpc details."""

from dataclasses import dataclass

import grpc
from google.rpc import error_details_pb2  # type: ignore[import-untyped]  # ships no py.typed
from grpc_status import rpc_status

from facegen.client.errors import (
    CancelledError,
    ClientError,
    DeadlineError,
    FailedPreconditionError,
    InvalidRequestError,
    NotFoundError,
    PermissionDeniedError,
    ResourceExhaustedError,
    ServerError,
    UnauthenticatedError,
    UnavailableError,
)

__all__ = ["error_of_status"]

_PLAIN_ERRORS: dict[grpc.StatusCode, type[ClientError]] = {
    grpc.StatusCode.NOT_FOUND: NotFoundError,
    grpc.StatusCode.FAILED_PRECONDITION: FailedPreconditionError,
    grpc.StatusCode.UNAUTHENTICATED: UnauthenticatedError,
    grpc.StatusCode.PERMISSION_DENIED: PermissionDeniedError,
    grpc.StatusCode.CANCELLED: CancelledError,
}
_TOO_LARGE = "message larger than max"
# What gRPC makes of a stream that a proxy resets because the server behind it broke off.
_RESET = "RST_STREAM"
_INVALID = {grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.OUT_OF_RANGE}


@dataclass(frozen=True, slots=True)
class _Details:
    """What google.rpc messages in the trailing metadata add to a status."""

    reason: str = ""
    field: str = ""
    retry_after_s: float | None = None


def error_of_status(error: grpc.RpcError, *, address: str, timeout_s: float) -> ClientError:
    """Make our error of gRPC's.

    Args:
        error: What the call raised.
        address: The server's address, for the message.
        timeout_s: The call's timeout, for the message.
    """
    code, message = error.code(), error.details() or ""
    details = _details(error)
    if code in _INVALID:
        return InvalidRequestError(message, field=details.field, reason=details.reason)
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
        if _TOO_LARGE in message:  # gRPC's own words, which know nothing of the server's flag
            message += "; send less in one call, or raise --max-message-bytes of the server"
        return ResourceExhaustedError(
            message, reason=details.reason, retry_after_s=details.retry_after_s
        )
    if code is grpc.StatusCode.UNAVAILABLE or (
        code is grpc.StatusCode.INTERNAL and _RESET in message and not details.reason
    ):
        return UnavailableError(address=address, details=message, reason=details.reason)
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return DeadlineError(address=address, timeout_s=timeout_s, reason=details.reason)
    if code in _PLAIN_ERRORS:
        return _PLAIN_ERRORS[code](message, reason=details.reason)
    return ServerError(f"{address} failed with {code.name}: {message}", reason=details.reason)


def _details(error: grpc.RpcError) -> _Details:
    try:
        status = rpc_status.from_call(error)  # type: ignore[arg-type]  # an RpcError has what it reads
    except ValueError:  # details that contradict the status: a proxy changed one of them
        return _Details()
    reason, field, retry_after_s = "", "", None
    for packed in () if status is None else status.details:
        info = error_details_pb2.ErrorInfo()
        bad_request = error_details_pb2.BadRequest()
        retry = error_details_pb2.RetryInfo()
        if packed.Unpack(info):
            reason = info.reason
        elif packed.Unpack(bad_request) and bad_request.field_violations:
            field = bad_request.field_violations[0].field
        elif packed.Unpack(retry):
            retry_after_s = retry.retry_delay.ToTimedelta().total_seconds()
    return _Details(reason=reason, field=field, retry_after_s=retry_after_s)
