"""One table from a remote server's gRPC status to our errors."""

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import grpc
from google.rpc import error_details_pb2  # type: ignore[import-untyped]  # has no types
from grpc_status import rpc_status

from facegen.errors import FacegenError
from facegen.serving.errors import (
    CallCancelledError,
    CapabilityError,
    DeadlineError,
    ForbiddenError,
    InferenceError,
    InputError,
    ModelNotFoundError,
    RemoteQueueFullError,
    UnauthenticatedError,
    UnreachableError,
)

__all__ = ["Call", "error_of_status"]

_Code = grpc.StatusCode
# For servers that do not say when: about as long as a batch takes.
_RETRY_AFTER_S = 0.1

# Triton says UNAVAILABLE for all of these; only what follows its colon differs.
_TRITON_UNAVAILABLE: Mapping[str, grpc.StatusCode] = {
    "Exceeds maximum queue size": _Code.RESOURCE_EXHAUSTED,
    "Request timeout expired": _Code.DEADLINE_EXCEEDED,
    "explicit model load / unload": _Code.FAILED_PRECONDITION,
}
_TRITON_PREFIX = re.compile(r"\[request id: [^\]]*\] ")
_RETRY = re.compile(r"; retry in [\d.]+ s$")
_TRITON_TENSOR = re.compile(r"(?:input|output)(?: tensor)? '([^']*)'")


@dataclass(frozen=True, slots=True)
class Call:
    """What was asked of whom, for the messages of errors.

    Attributes:
        address: The remote server.
        model: The model's name; empty if the call was about none.
        version: Its version; empty: the newest.
        begin: When, by `time.monotonic`.
    """

    address: str
    model: str = ""
    version: str = ""
    begin: float = field(default_factory=time.monotonic)


@dataclass(frozen=True, slots=True)
class _Details:
    """What google.rpc messages add to a status; a facegen server sends them, Triton none."""

    retry_after_s: float
    field: str
    description: str


def error_of_status(status: grpc.RpcError, call: Call) -> FacegenError:
    """Translate the status of a call that failed.

    Args:
        status: The error that gRPC raised; it is a `grpc.Call` too.
        call: What was asked.
    """
    problem = _TRITON_PREFIX.sub("", status.details() or "no reason given", count=1)
    match _code(status.code(), problem):
        case _Code.INVALID_ARGUMENT | _Code.OUT_OF_RANGE:
            details = _details(status, problem)
            return InputError(details.field, details.description)
        case _Code.NOT_FOUND:
            return ModelNotFoundError(call.model, call.version)
        case _Code.RESOURCE_EXHAUSTED:
            details = _details(status, problem)
            problem = _RETRY.sub("", problem)
            return RemoteQueueFullError(problem, retry_after_s=details.retry_after_s)
        case _Code.UNAVAILABLE:
            return UnreachableError(call.address, problem)
        case _Code.DEADLINE_EXCEEDED:
            return DeadlineError(call.model, timeout_s=time.monotonic() - call.begin)
        case _Code.CANCELLED:
            return CallCancelledError()
        case _Code.UNIMPLEMENTED | _Code.FAILED_PRECONDITION:
            return CapabilityError(f"{call.address} refuses: {problem}", "set it up for this")
        case _Code.UNAUTHENTICATED:
            return UnauthenticatedError(f"{call.address} refuses: {problem}", "let this server in")
        case _Code.PERMISSION_DENIED:
            return ForbiddenError(
                f"{call.address} refuses: {problem}", "give this server the right"
            )
        case _:
            return InferenceError(call.model, problem)


def _code(code: grpc.StatusCode, problem: str) -> grpc.StatusCode:
    """Tell apart what servers put under one code."""
    if code is _Code.UNAVAILABLE:
        return next((c for text, c in _TRITON_UNAVAILABLE.items() if text in problem), code)
    # gRPC's own refusal of a message by its size: no retry helps.
    if code is _Code.RESOURCE_EXHAUSTED and "larger than max" in problem:
        return _Code.INVALID_ARGUMENT
    return code


def _details(status: grpc.RpcError, problem: str) -> _Details:
    named = _TRITON_TENSOR.search(problem)
    retry_after_s, tensor, description = _RETRY_AFTER_S, named[1] if named else "request", problem
    for packed in _rich_details(status):
        retry, request = error_details_pb2.RetryInfo(), error_details_pb2.BadRequest()
        if packed.Unpack(retry):
            retry_after_s = retry.retry_delay.ToNanoseconds() / 1e9
        elif packed.Unpack(request) and request.field_violations:
            tensor = request.field_violations[0].field
            description = request.field_violations[0].description
    return _Details(retry_after_s, tensor, description)


def _rich_details(status: grpc.RpcError) -> Sequence[Any]:
    try:
        rich = rpc_status.from_call(cast(grpc.Call, status))
    except ValueError:  # the details are of another status, as a proxy between may make it
        return ()
    return rich.details if rich else ()
