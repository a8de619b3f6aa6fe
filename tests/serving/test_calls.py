import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import grpc.aio
import pytest

from facegen.serving.rpc.calls import Calls, answers, streams
from facegen.serving.errors import (
    CapabilityError,
    DeadlineError,
    EngineClosedError,
    InferenceError,
    ModelNotFoundError,
    QueueFullError,
)
from facegen.v1 import face_service_pb2 as pb
from facegen.v1.face_service_pb2_grpc import (
    FaceServiceServicer,
    FaceServiceStub,
    add_FaceServiceServicer_to_server,
)


class _Failing(FaceServiceServicer):
    """A servicer whose calls end with an error."""

    def __init__(self, error: Exception) -> None:
        self.calls = Calls()
        self._error = error

    @answers
    async def Generate(self, request: pb.GenerateRequest, context: Any) -> pb.GenerateResponse:  # noqa: N802 - gRPC's name
        raise self._error

    @streams
    async def GenerateStream(  # noqa: N802 - gRPC's name
        self, request: pb.GenerateStreamRequest, context: Any
    ) -> AsyncIterator[pb.GenerateStreamResponse]:
        yield pb.GenerateStreamResponse(seed=1)
        raise self._error


def _failing(error: Exception) -> Any:
    return _Failing(error)  # type: ignore[abstract]  # two methods are enough here


@asynccontextmanager
async def _served(servicer: Any) -> AsyncIterator[Any]:
    server = grpc.aio.server()
    add_FaceServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield FaceServiceStub(channel)
    await server.stop(None)


@pytest.mark.parametrize(
    ("error", "code", "reason"),
    [
        (CapabilityError("f", "encoder"), grpc.StatusCode.FAILED_PRECONDITION, b"CAPABILITY"),
        (ModelNotFoundError("f"), grpc.StatusCode.NOT_FOUND, b"MODEL_NOT_FOUND"),
        (
            QueueFullError("m", 1, queued=2, limit=2, retry_after_s=0.5),
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            b"QUEUE_FULL",
        ),
        (DeadlineError("m", timeout_s=1), grpc.StatusCode.DEADLINE_EXCEEDED, b"DEADLINE"),
        (EngineClosedError(), grpc.StatusCode.UNAVAILABLE, b"CLOSED"),
        (InferenceError("m", "out of memory"), grpc.StatusCode.INTERNAL, b"INFERENCE"),
    ],
)
async def test_errors_become_status_with_a_reason(
    error: Exception, code: grpc.StatusCode, reason: bytes
) -> None:
    async with _served(_failing(error)) as faces:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await faces.Generate(pb.GenerateRequest())

    assert caught.value.code() == code
    assert caught.value.details() == str(error)
    details = caught.value.trailing_metadata()["grpc-status-details-bin"]
    assert reason in details
    assert b"facegen" in details


async def test_bug_is_internal_with_a_request_id_that_the_log_knows(
    caplog: pytest.LogCaptureFixture,
) -> None:
    servicer = _failing(ZeroDivisionError("secret"))
    async with _served(servicer) as faces:
        with caplog.at_level(logging.ERROR), pytest.raises(grpc.aio.AioRpcError) as caught:
            await faces.Generate(pb.GenerateRequest())
        await servicer.calls.idle()

    details = caught.value.details() or ""
    assert caught.value.code() == grpc.StatusCode.INTERNAL
    assert "secret" not in details
    assert f"request={details.split()[-1]}" in caplog.text
    assert "ZeroDivisionError: secret" in caplog.text


async def test_stream_that_fails_midway_ends_with_status() -> None:
    async with _served(_failing(EngineClosedError())) as faces:
        stream = faces.GenerateStream(pb.GenerateStreamRequest())
        first = await stream.read()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stream.read()

    assert isinstance(first, pb.GenerateStreamResponse)
    assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
