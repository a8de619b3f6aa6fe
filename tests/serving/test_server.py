import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from grpc_status import rpc_status

from facegen.serving.config import ServerConfig
from facegen.serving.server import Server
from facegen.v1 import face_service_pb2 as pb
from facegen.v1 import image_pb2
from facegen.v1.face_service_pb2_grpc import FaceServiceStub

# `start_server` of conftest.py: flags to a running `facegen serve`.
StartServer = Callable[..., Any]

_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
_SERVICES = ("", "facegen.v1.FaceService", "facegen.v1.ModelService")
_RAW = image_pb2.ImageFormat(mime_type="application/octet-stream")


def _watch(channel: grpc.Channel) -> Any:
    stub: Any = health_pb2_grpc.HealthStub(channel)  # its stub's types lack the methods
    return stub.Watch(health_pb2.HealthCheckRequest())


async def test_health_is_not_serving_until_the_models_are_warm(tiny_repository: Path) -> None:
    server = Server(ServerConfig(engine=f"onnx:{tiny_repository}", address="127.0.0.1:0"))
    await server.listen()
    async with grpc.aio.insecure_channel(server.address) as channel:
        health: Any = health_pb2_grpc.HealthStub(channel)  # its stub's types lack the methods
        faces = FaceServiceStub(channel)

        async def statuses() -> list[int]:
            requests = [health_pb2.HealthCheckRequest(service=name) for name in _SERVICES]
            return [(await health.Check(request)).status for request in requests]

        assert await statuses() == [_NOT_SERVING] * 3
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await faces.Generate(pb.GenerateRequest(count=1))
        assert caught.value.code() == grpc.StatusCode.UNAVAILABLE

        await server.load()

        assert await statuses() == [_SERVING] * 3
        assert len((await faces.Generate(pb.GenerateRequest(count=1))).faces) == 1
    await server.stop()


def test_reflection_lists_the_services(server_address: str) -> None:
    with grpc.insecure_channel(server_address) as channel:
        stub: Any = reflection_pb2_grpc.ServerReflectionStub(channel)
        request = reflection_pb2.ServerReflectionRequest(list_services="")
        (answer,) = stub.ServerReflectionInfo(iter([request]))

    names = {service.name for service in answer.list_services_response.service}
    assert names >= {"facegen.v1.FaceService", "facegen.v1.ModelService", "grpc.health.v1.Health"}


def test_sigterm_turns_health_first_and_calls_are_still_taken(start_server: StartServer) -> None:
    server = start_server("--drain-delay-s", "600")
    with grpc.insecure_channel(server.address) as channel:
        watch = _watch(channel)
        first = next(watch).status
        server.terminate()
        second = next(watch).status
        answer = FaceServiceStub(channel).Generate(pb.GenerateRequest(count=1))
        watch.cancel()
        server.terminate()

        assert (first, second) == (_SERVING, _NOT_SERVING)
        assert len(answer.faces) == 1
        assert server.wait() == 1  # a second signal cuts the drain short


def test_calls_under_way_are_answered_after_sigterm(start_server: StartServer) -> None:
    server = start_server()
    with grpc.insecure_channel(server.address) as channel:
        watch = _watch(channel)
        request = pb.GenerateStreamRequest(count=3000, seed=1, format=_RAW)
        chunks = FaceServiceStub(channel).GenerateStream(request)
        received = len(next(chunks).faces)
        server.terminate()
        assert [next(watch).status, next(watch).status][-1] == _NOT_SERVING
        received += sum(len(chunk.faces) for chunk in chunks)

    assert received == 3000
    assert server.wait() == 0


def test_cancelled_stream_ends_on_the_server(start_server: StartServer) -> None:
    server = start_server("--drain-timeout-s", "600")
    with grpc.insecure_channel(server.address) as channel:
        request = pb.GenerateStreamRequest(count=2**60, seed=1, format=_RAW)
        chunks = FaceServiceStub(channel).GenerateStream(request)
        next(chunks)
        chunks.cancel()
        server.terminate()

        assert server.wait() == 0  # a stream that went on would keep the drain waiting


def test_passed_deadline_leaves_the_server_working(server_address: str) -> None:
    with grpc.insecure_channel(server_address) as channel:
        faces = FaceServiceStub(channel)
        for _ in range(20):
            with pytest.raises(grpc.RpcError) as caught:
                faces.Generate(pb.GenerateRequest(count=256), timeout=0.005)
            assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED

        assert len(faces.Generate(pb.GenerateRequest(count=256), timeout=60).faces) == 256


def test_full_queue_is_refused_with_the_time_to_retry(start_server: StartServer) -> None:
    server = start_server("--max-queue-rows", "1")
    with grpc.insecure_channel(server.address) as channel:
        generate = FaceServiceStub(channel).Generate
        calls = [generate.future(pb.GenerateRequest(count=256)) for _ in range(16)]
        errors = [error for call in calls if (error := call.exception()) is not None]

        assert 0 < len(errors) < 16
        for error in errors:
            assert isinstance(error, grpc.RpcError)
            assert error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
            assert "google.rpc.RetryInfo" in str(rpc_status.from_call(error))  # type: ignore[arg-type]  # it is the call


def test_default_family_and_limit_are_configured(start_server: StartServer) -> None:
    server = start_server("--default-family", "tiny-vae", "--max-images", "2")
    with grpc.insecure_channel(server.address) as channel:
        faces = FaceServiceStub(channel)

        assert faces.Generate(pb.GenerateRequest(count=2)).family == "tiny-vae"
        with pytest.raises(grpc.RpcError, match="must be 1 to 2"):
            faces.Generate(pb.GenerateRequest(count=3))


def test_port_in_use_is_told(start_server: StartServer) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        server = start_server("--address", address)

        assert server.wait() == 1
        assert f'cannot listen on "{address}"' in "".join(server.log)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--engine", "onnx:/nowhere"), "/nowhere: does not exist"),
        (("--engine", "tensorrt"), '"tensorrt" is no engine'),
        (("--default-family", "nobody"), 'the default family "nobody" is not served'),
    ],
)
def test_what_cannot_be_served_is_told(
    start_server: StartServer, flags: tuple[str, ...], said: str
) -> None:
    server = start_server(*flags)

    assert server.wait() == 1
    log = "".join(server.log)
    assert said in log
    assert "Traceback" not in log


def test_empty_repository_is_told(start_server: StartServer, tmp_path: Path) -> None:
    server = start_server("--engine", f"onnx:{tmp_path}")

    assert server.wait() == 1
    assert "holds no models" in "".join(server.log)
