"""Any bytes to any method of a server, and how that ended."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import grpc
from google.protobuf.descriptor import MethodDescriptor
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2
from tritonclient.grpc import service_pb2

from facegen.v1 import face_service_pb2, mesh_service_pb2, model_service_pb2

__all__ = ["METHODS", "Ending", "call", "path_of", "proper"]

# No call here has as much to do.
TIMEOUT_S = 20.0
_MOST_ANSWERS = 3  # some streams never end

METHODS: tuple[MethodDescriptor, ...] = tuple(
    method
    for module in (
        face_service_pb2, mesh_service_pb2, model_service_pb2, service_pb2, health_pb2,
        reflection_pb2,
    )
    for service in module.DESCRIPTOR.services_by_name.values()
    for method in service.methods
)  # fmt: skip
"""Every method of every service."""

_Code = grpc.StatusCode
# UNKNOWN is an exception that nobody made a status of, INTERNAL a bug of ours.
_PROPER = {
    _Code.OK, _Code.INVALID_ARGUMENT, _Code.NOT_FOUND, _Code.UNIMPLEMENTED,
    _Code.FAILED_PRECONDITION, _Code.ALREADY_EXISTS, _Code.RESOURCE_EXHAUSTED,
    _Code.DEADLINE_EXCEEDED, _Code.CANCELLED,
}  # fmt: skip
# But these are gRPC's own word for bytes that are no message of the method's.
_NO_MESSAGE = (_Code.INTERNAL, "Exception deserializing request!")


@dataclass(frozen=True, slots=True)
class Ending:
    """How a call ended.

    Attributes:
        code: With which code.
        details: With which message.
        answers: What came before that, serialised.
        seconds: After how long.
    """

    code: grpc.StatusCode
    details: str
    answers: tuple[bytes, ...]
    seconds: float


def path_of(method: MethodDescriptor) -> str:
    """Give a method's path in HTTP/2."""
    return f"/{method.containing_service.full_name}/{method.name}"


def call(
    channel: grpc.Channel,
    method: MethodDescriptor,
    messages: Sequence[bytes],
    *,
    metadata: Sequence[tuple[str, str | bytes]] = (),
) -> Ending:
    """Send messages to a method, all of them if it takes a stream, and read what comes back."""
    began = time.monotonic()
    answers: list[bytes] = []
    code, details = _Code.OK, ""
    try:
        answers.extend(_answers(channel, method, messages, metadata))
    except grpc.RpcError as error:
        failed: Any = error
        code, details = failed.code(), failed.details()
    return Ending(code, details, tuple(answers), time.monotonic() - began)


def proper(ending: Ending) -> bool:
    """Whether a call ended as any call may, whatever was sent, and by the server's own word."""
    if ending.seconds > TIMEOUT_S - 1:
        return False
    return ending.code in _PROPER or (ending.code, ending.details) == _NO_MESSAGE


def _answers(
    channel: Any, method: MethodDescriptor, messages: Sequence[bytes], metadata: Any
) -> Iterator[bytes]:
    path = path_of(method)
    options = {"timeout": TIMEOUT_S, "metadata": metadata}
    if not method.server_streaming:
        yield channel.unary_unary(path)(messages[0], **options)
        return
    if method.client_streaming:
        answers: Any = channel.stream_stream(path)(iter(messages), **options)
    else:
        answers = channel.unary_stream(path)(messages[0], **options)
    # What is watched does not change.
    yield from islice(answers, 1 if method.name == "Watch" else _MOST_ANSWERS)
    answers.cancel()
