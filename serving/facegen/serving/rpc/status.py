"""One table from serving's errors to gRPC status, with google.rpc details."""

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.protobuf.message import Message
from google.rpc import (  # type: ignore[import-untyped]  # has no types
    error_details_pb2,
    status_pb2,
)

from facegen.errors import FacegenError
from facegen.serving import errors

__all__ = ["DOMAIN", "internal_status", "status_of"]

DOMAIN = "facegen"

# A status travels in the trailing metadata, of which clients take 8 KiB: the message in it twice,
# up to three bytes for one. Names that a caller sent may be megabytes.
_MOST_MESSAGE_BYTES = 1024

_Code = grpc.StatusCode
_TABLE: dict[type[FacegenError], tuple[grpc.StatusCode, str]] = {
    errors.UnknownFamilyError: (_Code.INVALID_ARGUMENT, "UNKNOWN_FAMILY"),
    errors.LatentSizeError: (_Code.INVALID_ARGUMENT, "LATENT_SIZE"),
    errors.PictureError: (_Code.INVALID_ARGUMENT, "PICTURE"),
    errors.PictureSizeError: (_Code.INVALID_ARGUMENT, "PICTURE_SIZE"),
    errors.RequestSizeError: (_Code.INVALID_ARGUMENT, "REQUEST_SIZE"),
    errors.ResponseSizeError: (_Code.INVALID_ARGUMENT, "RESPONSE_SIZE"),
    errors.NoFaceError: (_Code.INVALID_ARGUMENT, "NO_FACE"),
    errors.FaceTooSmallError: (_Code.INVALID_ARGUMENT, "FACE_TOO_SMALL"),
    errors.TooManyFacesError: (_Code.INVALID_ARGUMENT, "TOO_MANY_FACES"),
    errors.MeshError: (_Code.INVALID_ARGUMENT, "MESH"),
    errors.TopologyError: (_Code.INVALID_ARGUMENT, "TOPOLOGY"),
    errors.InputError: (_Code.INVALID_ARGUMENT, "INPUT"),
    errors.CapabilityError: (_Code.FAILED_PRECONDITION, "CAPABILITY"),
    errors.RepositoryError: (_Code.FAILED_PRECONDITION, "REPOSITORY"),
    errors.UnsupportedError: (_Code.UNIMPLEMENTED, "UNSUPPORTED"),
    errors.UnauthenticatedError: (_Code.UNAUTHENTICATED, "UNAUTHENTICATED"),
    errors.ForbiddenError: (_Code.PERMISSION_DENIED, "FORBIDDEN"),
    errors.ModelNotFoundError: (_Code.NOT_FOUND, "MODEL_NOT_FOUND"),
    errors.RegionError: (_Code.NOT_FOUND, "REGION_NOT_FOUND"),
    errors.QueueFullError: (_Code.RESOURCE_EXHAUSTED, "QUEUE_FULL"),
    errors.RateLimitError: (_Code.RESOURCE_EXHAUSTED, "RATE_LIMIT"),
    errors.DeadlineError: (_Code.DEADLINE_EXCEEDED, "DEADLINE"),
    errors.CallCancelledError: (_Code.CANCELLED, "CANCELLED"),
    errors.NotReadyError: (_Code.UNAVAILABLE, "NOT_READY"),
    errors.EngineClosedError: (_Code.UNAVAILABLE, "CLOSED"),
    errors.InferenceError: (_Code.INTERNAL, "INFERENCE"),
    FacegenError: (_Code.INTERNAL, "INTERNAL"),
}


def status_of(error: FacegenError) -> status_pb2.Status:
    """Translate an error.

    Args:
        error: Any of ours; the nearest class in the table decides.

    Returns:
        Its status, with ErrorInfo, and BadRequest or RetryInfo where they apply.
    """
    code, reason = next(_TABLE[kind] for kind in type(error).__mro__ if kind in _TABLE)
    if isinstance(error, errors.RegionError) and error.exists:
        code, reason = _Code.ALREADY_EXISTS, "REGION_EXISTS"
    details: list[Message] = [error_details_pb2.ErrorInfo(reason=reason, domain=DOMAIN)]
    if isinstance(error, errors.InputError):
        violation = error_details_pb2.BadRequest.FieldViolation(
            field=_shortened(error.field),
            description=_shortened(str(error).removeprefix(f"{error.field}: ")),
            reason=reason,
        )
        details.append(error_details_pb2.BadRequest(field_violations=[violation]))
    if isinstance(error, errors.QueueFullError | errors.RateLimitError):
        delay = duration_pb2.Duration()
        delay.FromNanoseconds(round(error.retry_after_s * 1e9))
        details.append(error_details_pb2.RetryInfo(retry_delay=delay))
    return _status(code, str(error), details)


def internal_status(request_id: str) -> status_pb2.Status:
    """Give the status of a bug: it tells no more than which line of the log to ask for."""
    info = error_details_pb2.ErrorInfo(
        reason="INTERNAL", domain=DOMAIN, metadata={"request_id": request_id}
    )
    message = f"internal error; the server's log tells more under request {request_id}"
    return _status(_Code.INTERNAL, message, [info])


def _status(code: grpc.StatusCode, message: str, details: list[Message]) -> status_pb2.Status:
    """Pack a status with its details."""
    status = status_pb2.Status(code=code.value[0], message=_shortened(message))
    for detail in details:
        packed = any_pb2.Any()
        packed.Pack(detail)
        status.details.append(packed)
    return status


def _shortened(text: str) -> str:
    """Cut a text that is too long for a status."""
    data = text.encode(errors="replace")
    if len(data) <= _MOST_MESSAGE_BYTES:
        return text
    return data[: _MOST_MESSAGE_BYTES - 3].decode(errors="ignore") + "…"
