import ctypes
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from grpc_status import rpc_status
from tritonclient.grpc import service_pb2 as kserve
from tritonclient.grpc.service_pb2_grpc import GRPCInferenceServiceStub
from typer.testing import CliRunner

from facegen.client.cli import app
from facegen.serving.config import ServerConfig
from facegen.serving.server import Server
from facegen.v1 import face_service_pb2 as pb
from facegen.v1 import image_pb2
from facegen.v1.face_service_pb2_grpc import FaceServiceStub
from tests.serving.properties.http2 import Connection

# `start_server` of conftest.py: flags to a running `facegen serve`.
StartServer = Callable[..., Any]
WriteModel = Callable[..., Path]

_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
_SERVICES = (
    "",
    "facegen.v1.FaceService",
    "facegen.v1.MeshService",
    "facegen.v1.ModelService",
    "inference.GRPCInferenceService",
)
_RAW = image_pb2.ImageFormat(mime_type="application/octet-stream")
# More than flow control lets a server send ahead, so that it is under way until it is read.
_LONG_STREAM = pb.GenerateStreamRequest(count=3000, seed=1, format=_RAW)
_ENDLESS_STREAM = pb.GenerateStreamRequest(count=2**60, seed=1, format=_RAW)
_LOOKS = 3  # at how soon something happens, on a machine that does much else


def _health(channel: grpc.Channel) -> Any:
    return health_pb2_grpc.HealthStub(channel)  # its stub's types lack the methods


def _watch(channel: grpc.Channel, service: str = "") -> Any:
    return _health(channel).Watch(health_pb2.HealthCheckRequest(service=service))


def _status(channel: grpc.Channel, service: str = "") -> int:
    request = health_pb2.HealthCheckRequest(service=service)
    return int(_health(channel).Check(request).status)


def _is_live(channel: grpc.Channel) -> bool:
    request = kserve.ServerLiveRequest()
    return bool(GRPCInferenceServiceStub(channel).ServerLive(request).live)


def _is_ready(channel: grpc.Channel) -> bool:
    request = kserve.ServerReadyRequest()
    return bool(GRPCInferenceServiceStub(channel).ServerReady(request).ready)


def test_health_is_not_serving_until_the_models_are_warm(tiny_repository: Path) -> None:
    server = Server(ServerConfig(engine=f"onnx:{tiny_repository}", address="127.0.0.1:0"))
    server.listen()
    with grpc.insecure_channel(server.address) as channel:
        faces = FaceServiceStub(channel)
        model_watch = _watch(channel, "tiny-vae-decoder")
        seen = [next(model_watch).status]

        assert [_status(channel, name) for name in _SERVICES] == [_NOT_SERVING] * len(_SERVICES)
        assert (_is_live(channel), _is_ready(channel)) == (True, False)
        with pytest.raises(grpc.RpcError) as caught:
            faces.Generate(pb.GenerateRequest(count=1))
        assert caught.value.code() == grpc.StatusCode.UNAVAILABLE

        server.load()

        seen.append(next(model_watch).status)
        assert [_status(channel, name) for name in _SERVICES] == [_SERVING] * len(_SERVICES)
        assert seen == [health_pb2.HealthCheckResponse.SERVICE_UNKNOWN, _SERVING]
        assert _is_ready(channel)
        assert len(faces.Generate(pb.GenerateRequest(count=1)).faces) == 1
    server.close()
    server.close()


def test_reflection_lists_the_services(server_address: str) -> None:
    with grpc.insecure_channel(server_address) as channel:
        stub: Any = reflection_pb2_grpc.ServerReflectionStub(channel)
        requests = [
            reflection_pb2.ServerReflectionRequest(list_services=""),
            reflection_pb2.ServerReflectionRequest(
                file_containing_symbol="inference.GRPCInferenceService"
            ),
        ]
        services, file = stub.ServerReflectionInfo(iter(requests))

    names = {service.name for service in services.list_services_response.service}
    assert names >= {*_SERVICES[1:], "grpc.health.v1.Health"}
    assert file.file_descriptor_response.file_descriptor_proto


def test_readiness_falls_within_100_ms_of_sigterm_and_liveness_stays(
    start_server: StartServer,
) -> None:
    soonest_s = 60.0
    for _ in range(_LOOKS):
        server = start_server("--drain-delay-s", "600")
        with grpc.insecure_channel(server.address) as channel:
            watch, model_watch = _watch(channel), _watch(channel, "tiny-vae-decoder")
            assert (next(watch).status, next(model_watch).status) == (_SERVING, _SERVING)
            assert _is_ready(channel)
            begin = time.monotonic()
            server.terminate()
            assert (next(watch).status, next(model_watch).status) == (_NOT_SERVING, _NOT_SERVING)
            assert not _is_ready(channel)
            soonest_s = min(soonest_s, time.monotonic() - begin)

            assert _is_live(channel)
            assert len(FaceServiceStub(channel).Generate(pb.GenerateRequest(count=1)).faces) == 1
            server.terminate()
            assert server.wait() == 0  # a second signal quits at once
        if soonest_s < 0.1:
            return
    assert soonest_s < 0.1


def test_interrupt_drains_too(start_server: StartServer) -> None:
    server = start_server()
    server.process.send_signal(signal.SIGINT)

    assert server.wait() == 0
    assert "draining" in "".join(server.log)


def test_signal_that_another_thread_takes_drains_too(start_server: StartServer) -> None:
    server = start_server()
    pid = server.process.pid
    threads = [int(task.name) for task in Path(f"/proc/{pid}/task").iterdir()]

    assert ctypes.CDLL(None).tgkill(pid, max(threads), signal.SIGTERM) == 0

    assert server.wait() == 0
    assert "draining" in "".join(server.log)


def test_sigterm_while_models_load_quits(tiny_repository: Path) -> None:
    command = [str(Path(sys.executable).with_name("facegen")), "serve"]
    flags = ["--address", "127.0.0.1:0", "--engine", f"onnx:{tiny_repository}"]
    with subprocess.Popen([*command, *flags], stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert process.stderr.readline()  # the first model is loaded
        process.send_signal(signal.SIGTERM)

        assert process.wait(timeout=60) == 0


def test_calls_under_way_are_answered_after_sigterm_and_new_ones_refused(
    start_server: StartServer,
) -> None:
    server = start_server("--drain-timeout-s", "600")
    with grpc.insecure_channel(server.address) as channel:
        chunks = FaceServiceStub(channel).GenerateStream(_LONG_STREAM)
        received = len(next(chunks).faces)
        watch = _watch(channel)
        assert next(watch).status == _SERVING
        server.terminate()
        statuses = [response.status for response in watch]  # until the server ends it
        with pytest.raises(grpc.RpcError) as caught:
            FaceServiceStub(channel).Generate(pb.GenerateRequest(count=1))
        received += sum(len(chunk.faces) for chunk in chunks)

    assert statuses == [_NOT_SERVING]
    assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
    assert received == 3000
    assert server.wait() == 0


@pytest.mark.parametrize("method", ["Encode", "Generate", "GenerateStream"])
def test_calls_left_without_a_message_end_with_the_server(
    start_server: StartServer, method: str
) -> None:
    server = start_server("--drain-timeout-s", "0.2")
    gone, there = Connection(server.address), Connection(server.address)
    for connection in (gone, there):
        for _ in range(200):
            connection.begin(f"/facegen.v1.FaceService/{method}")
        connection.ping()

    gone.close()  # its calls end while the server does
    server.terminate()

    assert server.wait() == 0, server.log[-5:]
    there.close()


def test_drain_ends_at_its_time_out(start_server: StartServer) -> None:
    server = start_server("--drain-timeout-s", "0.2")
    with grpc.insecure_channel(server.address) as channel:
        chunks = FaceServiceStub(channel).GenerateStream(_ENDLESS_STREAM)
        next(chunks)
        server.terminate()

        assert server.wait() == 0
        with pytest.raises(grpc.RpcError):
            list(chunks)


def test_open_inference_stream_does_not_keep_the_drain_waiting(start_server: StartServer) -> None:
    server = start_server("--drain-timeout-s", "600")
    requests: SimpleQueue[Any] = SimpleQueue()
    requests.put(kserve.ModelInferRequest(model_name="nobody"))
    with grpc.insecure_channel(server.address) as channel:
        stream = GRPCInferenceServiceStub(channel).ModelStreamInfer(iter(requests.get, None))
        assert next(stream).error_message
        server.terminate()

        assert server.wait() == 0
        requests.put(None)


def test_cancelled_stream_ends_on_the_server(start_server: StartServer) -> None:
    server = start_server("--drain-timeout-s", "600")
    with grpc.insecure_channel(server.address) as channel:
        chunks = FaceServiceStub(channel).GenerateStream(_ENDLESS_STREAM)
        next(chunks)
        chunks.cancel()
        server.terminate()

        assert server.wait() == 0  # a stream that went on would keep the drain waiting


def test_calls_past_the_most_are_refused_and_probes_answered(start_server: StartServer) -> None:
    server = start_server("--max-concurrent-calls", "1")
    with grpc.insecure_channel(server.address) as channel:
        faces = FaceServiceStub(channel)
        chunks = faces.GenerateStream(_ENDLESS_STREAM)
        next(chunks)
        with pytest.raises(grpc.RpcError) as caught:
            faces.Generate(pb.GenerateRequest(count=1))

        assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "--max-concurrent-calls" in (caught.value.details() or "")
        assert "google.rpc.RetryInfo" in str(rpc_status.from_call(caught.value))  # type: ignore[arg-type]  # it is the call
        assert next(_watch(channel)).status == _SERVING
        assert _status(channel) == _SERVING
        assert (_is_live(channel), _is_ready(channel)) == (True, True)
        chunks.cancel()


def test_health_follows_models_that_are_unloaded_and_loaded(start_server: StartServer) -> None:
    server = start_server("--model-control", "explicit", "--load-models", "*", "--allow-admin")
    name = "tiny-vae-decoder"
    with grpc.insecure_channel(server.address) as channel:
        stub = GRPCInferenceServiceStub(channel)
        watch = _watch(channel, name)
        seen = [next(watch).status]
        stub.RepositoryModelUnload(kserve.RepositoryModelUnloadRequest(model_name=name))
        seen.append(next(watch).status)
        stub.RepositoryModelLoad(kserve.RepositoryModelLoadRequest(model_name=name))
        seen.append(next(watch).status)

        assert seen == [_SERVING, _NOT_SERVING, _SERVING]
        assert _status(channel) == _SERVING


def test_repository_without_a_family_is_served(
    start_server: StartServer, write_model: WriteModel
) -> None:
    repository = write_model(factor=3.0)
    server = start_server("--engine", f"onnx:{repository}")
    rows = np.ones((2, 4), np.float32)
    request = kserve.ModelInferRequest(model_name="double", raw_input_contents=[rows.tobytes()])
    request.inputs.add(name="x", datatype="FP32", shape=rows.shape)
    with grpc.insecure_channel(server.address) as channel:
        answer = GRPCInferenceServiceStub(channel).ModelInfer(request)
        with pytest.raises(grpc.RpcError) as caught:
            FaceServiceStub(channel).Generate(pb.GenerateRequest(count=1))

    assert "serving 1 model (0 families)" in "".join(server.log)
    np.testing.assert_array_equal(np.frombuffer(answer.raw_output_contents[0], "<f4"), 3.0)
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT


def test_every_knob_is_in_the_help_with_its_variable_and_default() -> None:
    shown = CliRunner(env={"COLUMNS": "80"}).invoke(
        app, ["serve", "--help"], auto_envvar_prefix="FACEGEN"
    )
    words = set(re.split(r"[\s│\]]+", shown.stdout))

    assert shown.exit_code == 0
    for name, config_field in ServerConfig.model_fields.items():
        assert f"--{name.replace('_', '-')}" in words, name
        assert f"FACEGEN_SERVE_{name.upper()}" in words, name
        if config_field.default not in ("", None, (), False):
            assert str(config_field.default) in words, name


def test_help_needs_no_onnx_runtime() -> None:
    code = "import sys, facegen.serving.cli; sys.exit('onnxruntime' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("value", ["0", "-1", "many"])
def test_value_that_a_knob_cannot_have_is_misuse(value: str) -> None:
    told = CliRunner().invoke(app, ["serve", "--max-images", value])

    assert told.exit_code == 2
    assert "--max-images" in told.output


def test_knobs_are_read_from_the_environment(
    start_server: StartServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FACEGEN_SERVE_MAX_IMAGES", "2")
    server = start_server()
    with (
        grpc.insecure_channel(server.address) as channel,
        pytest.raises(grpc.RpcError, match="above the limit of 2"),
    ):
        FaceServiceStub(channel).Generate(pb.GenerateRequest(count=3))


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
        with pytest.raises(grpc.RpcError, match="above the limit of 2"):
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
