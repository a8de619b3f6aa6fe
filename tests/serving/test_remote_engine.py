"""What is particular to the engine on a remote server; what engines share is in test_engines."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path

import grpc
import numpy as np
import pytest
from tritonclient.grpc import service_pb2_grpc

from benchmarks.triton_server import start_triton, triton_problem
from facegen.export.conversion import convert_repository
from facegen.serving.call_context import CallContext
from facegen.serving.engine import Array, InferRequest
from facegen.serving.errors import (
    CallCancelledError,
    CapabilityError,
    DeadlineError,
    ForbiddenError,
    InputError,
    QueueFullError,
    RemoteQueueFullError,
    ServerError,
    UnreachableError,
)
from facegen.serving.remote.engine import TritonEngine
from facegen.v1 import face_service_pb2, image_pb2
from facegen.v1.face_service_pb2_grpc import FaceServiceStub
from tests.serving.conftest import ServerProcess, WriteModel

Serve = Callable[..., ServerProcess]

_WAIT_S = 30
_EXPLICIT = ("--model-control", "explicit", "--load-models", "*", "--allow-admin")
_WAITING = """
dynamic_batching {
  preferred_batch_size: 16
  max_queue_delay_microseconds: 700000
  default_queue_policy { max_queue_size: 2 }
}
"""
_LARGE = """
backend: "onnxruntime"
max_batch_size: 400000
input { name: "x" data_type: TYPE_FP32 dims: 4 }
output { name: "y" data_type: TYPE_FP32 dims: 4 }
"""


@pytest.fixture
def double(write_model: WriteModel, serve: Serve) -> Iterator[str]:
    """The address of a server of one model that doubles, and of one that waits before."""
    write_model("waiting", extra=_WAITING)
    with serve(write_model("double"), *_EXPLICIT) as server:
        assert server.address, "".join(server.log)
        yield server.address


def _rows(count: int) -> dict[str, Array]:
    return {"x": np.arange(count * 4, dtype=np.float32).reshape(count, 4)}


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def test_no_server_is_an_error_after_the_time_to_start() -> None:
    engine = TritonEngine(f"127.0.0.1:{_free_port()}", start_timeout_s=0.3)
    begin = time.monotonic()

    with pytest.raises(ServerError, match=r"triton://127\.0\.0\.1.*start that server"):
        engine.start()

    assert time.monotonic() - begin < 5


def test_start_waits_for_the_server(write_model: WriteModel, serve: Serve) -> None:
    address = f"127.0.0.1:{_free_port()}"
    repository = write_model()

    with ThreadPoolExecutor() as pool:
        starting = pool.submit(TritonEngine(address).start)
        with serve(repository, "--address", address), closing(starting.result(_WAIT_S)) as engine:
            assert engine.model("double").version == "1"


def test_server_without_triton_s_extensions_is_refused_by_name() -> None:
    with _plain_kserve() as address, pytest.raises(ServerError) as refused:
        TritonEngine(address).start()

    assert "RepositoryIndex" in str(refused.value)
    assert address in str(refused.value)


@contextmanager
def _plain_kserve() -> Iterator[str]:
    """A server of the service with no method of it."""
    server = grpc.server(futures.ThreadPoolExecutor(1))
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(
        service_pb2_grpc.GRPCInferenceServiceServicer(), server
    )
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(None).wait()


def test_requests_fail_while_the_server_is_away_and_work_once_it_is_back(
    write_model: WriteModel, serve: Serve
) -> None:
    flags = (write_model(), "--address", f"127.0.0.1:{_free_port()}")
    with serve(*flags) as server:
        engine = TritonEngine(server.address, poll_s=0.05).start()
        assert (engine.infer("double", _rows(2))["y"] == 2 * _rows(2)["x"]).all()
    with pytest.raises(UnreachableError, match="triton://"):
        engine.infer("double", _rows(1))
    with pytest.raises(UnreachableError):
        engine.index()

    with serve(*flags), closing(engine):
        answer = _once_reachable(lambda: engine.infer("double", _rows(1)))

        assert (answer["y"] == 2 * _rows(1)["x"]).all()


def _once_reachable(call: Callable[[], dict[str, Array]]) -> dict[str, Array]:
    end = time.monotonic() + _WAIT_S
    while True:
        try:
            return call()
        except UnreachableError:
            if time.monotonic() > end:
                raise


def test_polling_finds_what_another_client_changed(double: str) -> None:
    changed = threading.Event()
    with TritonEngine(double) as other, TritonEngine(double, poll_s=0.05) as engine:
        engine.on_change(changed.set)

        other.unload("waiting")

        assert changed.wait(_WAIT_S)
        assert [info.name for info in engine.models()] == ["double"]


def test_rows_under_way_are_bounded_and_make_room_again(double: str) -> None:
    answers: list[object] = []
    answered = threading.Semaphore(0)

    def done(answer: object) -> None:
        answers.append(answer)
        answered.release()

    with TritonEngine(double, max_queue_rows=5) as engine:
        for count in (3, 2, 1):
            engine.submit(InferRequest("waiting", _rows(count)), done)

        (refusal,) = answers
        assert isinstance(refusal, QueueFullError)
        assert "5 of 5" in str(refusal)
        assert all(answered.acquire(timeout=_WAIT_S) for _ in range(3))
        assert (engine.infer("waiting", _rows(5))["y"] == 2 * _rows(5)["x"]).all()


def test_many_rows_are_sent_as_a_few_calls_at_a_time(double: str) -> None:
    rows = _rows(1000)

    with TritonEngine(double) as engine:
        assert (engine.infer("double", rows)["y"] == 2 * rows["x"]).all()


def test_cancelling_many_rows_ends_them_at_once(double: str) -> None:
    context = CallContext()
    answers: list[object] = []
    answered = threading.Event()

    def done(answer: object) -> None:
        answers.append(answer)
        answered.set()

    with TritonEngine(double) as engine:
        engine.submit(InferRequest("double", _rows(20_000), context=context), done)
        context.cancel()

        assert answered.wait(_WAIT_S)
    (answer,) = answers
    assert isinstance(answer, CallCancelledError)


def test_full_queue_of_the_server_tells_when_to_retry(double: str) -> None:
    answers: list[object] = []
    all_answered = threading.Barrier(2)

    def done(answer: object) -> None:
        answers.append(answer)
        if len(answers) == 4:
            all_answered.wait(_WAIT_S)

    with TritonEngine(double) as engine:
        for _ in range(4):
            engine.submit(InferRequest("waiting", _rows(1)), done)
        all_answered.wait(_WAIT_S)

    full = [answer for answer in answers if isinstance(answer, RemoteQueueFullError)]
    assert 1 <= len(full) <= 2
    assert all(0 < error.retry_after_s < 60 for error in full)
    assert all(str(error).count("retry in") == 1 for error in full)


def test_bad_input_keeps_the_field_that_the_server_named(double: str) -> None:
    with TritonEngine(double) as engine, pytest.raises(InputError) as refused:
        engine.infer("double", {"x": np.zeros((1, 5), np.float32)})

    assert refused.value.field == 'inputs["x"].shape'
    assert str(refused.value).count(refused.value.field) == 1


def test_answers_of_many_megabytes_come(write_model: WriteModel, serve: Serve) -> None:
    with (
        serve(write_model(config=_LARGE)) as server,
        TritonEngine(server.address) as engine,
    ):
        inputs = _rows(400_000)

        assert (engine.infer("double", inputs)["y"] == 2 * inputs["x"]).all()


def test_request_above_the_server_s_message_limit_is_bad_input(
    write_model: WriteModel, serve: Serve
) -> None:
    repository = write_model(config=_LARGE)
    with (
        serve(repository, "--max-message-bytes", "2000") as server,
        TritonEngine(server.address) as engine,
        pytest.raises(InputError, match="larger than max"),
    ):
        engine.infer("double", _rows(1000))


def test_loading_where_it_is_not_allowed_is_refused(write_model: WriteModel, serve: Serve) -> None:
    with serve(write_model()) as server, TritonEngine(server.address) as engine:
        with pytest.raises((CapabilityError, ForbiddenError), match="triton://"):
            engine.load("double")
        with pytest.raises((CapabilityError, ForbiddenError), match="triton://"):
            engine.unload("double")


@pytest.fixture(scope="module", params=["triton", "facegen"])
def backend(
    request: pytest.FixtureRequest,
    tiny_repository: Path,
    tmp_path_factory: pytest.TempPathFactory,
    server_address: str,
) -> Iterator[str]:
    """The address of a server of the tiny families of each kind."""
    if request.param == "facegen":
        yield server_address
        return
    if problem := triton_problem():
        pytest.skip(problem)
    flavour = tmp_path_factory.mktemp("python")
    convert_repository(tiny_repository, flavour, backend="python")
    with start_triton(flavour) as triton:
        yield triton.address


def test_server_in_front_of_a_server_draws_the_same_faces(
    backend: str, server_address: str, serve: Serve, tiny_repository: Path
) -> None:
    request = face_service_pb2.GenerateRequest(
        family="tiny-vae",
        seed=4,
        count=3,
        format=image_pb2.ImageFormat(mime_type="application/octet-stream"),
    )

    with serve(tiny_repository, "--engine", f"triton://{backend}") as front:
        got, wanted = (_generate(address, request) for address in (front.address, server_address))

        far = np.abs(got.astype(np.int16) - wanted.astype(np.int16)).max()
        assert far <= 1
        front.terminate()
        assert front.wait() == 0


def _generate(address: str, request: face_service_pb2.GenerateRequest) -> Array:
    with grpc.insecure_channel(address) as channel:
        answer = FaceServiceStub(channel).Generate(request, timeout=_WAIT_S)
    return np.stack([np.frombuffer(face.image.data, np.uint8) for face in answer.faces])


def test_triton_that_loads_nothing_says_so(
    write_model: WriteModel, tmp_path_factory: pytest.TempPathFactory
) -> None:
    if problem := triton_problem():
        pytest.skip(problem)
    flavour = tmp_path_factory.mktemp("python")
    convert_repository(write_model(), flavour, backend="python")

    with (
        start_triton(flavour, explicit=False) as triton,
        TritonEngine(triton.address) as engine,
        pytest.raises(CapabilityError, match="explicit model load"),
    ):
        engine.load("double")


def test_deadline_of_triton_s_queue_is_a_deadline(
    write_model: WriteModel, tmp_path_factory: pytest.TempPathFactory
) -> None:
    if problem := triton_problem():
        pytest.skip(problem)
    policy = "default_queue_policy { default_timeout_microseconds: 100000 }"
    delay = "preferred_batch_size: 16 max_queue_delay_microseconds: 500000"
    repository = write_model(extra=f"dynamic_batching {{ {delay} {policy} }}")
    flavour = tmp_path_factory.mktemp("python")
    convert_repository(repository, flavour, backend="python")

    with (
        start_triton(flavour) as triton,
        TritonEngine(triton.address) as engine,
        pytest.raises(DeadlineError),
    ):
        engine.infer("double", _rows(1))
