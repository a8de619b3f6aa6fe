import queue
import threading
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from tritonclient.grpc import service_pb2_grpc

from facegen.serving.call_context import CallContext
from facegen.serving.config import ServerConfig
from facegen.serving.kserve.service import KserveService
from facegen.serving.kserve.streaming import Streams
from facegen.serving.onnx.engine import OnnxEngine
from facegen.serving.rpc.calls import Calls
from facegen.serving.statistics import ModelStatistics
from tests.serving.kserve.conftest import ROW, StartServer, infer, tensor

_STRICT = (("triton_grpc_error", "true"),)
_LIMIT = 64


@dataclass(frozen=True, slots=True)
class Rig:
    """A service and the engine below it, so that a test sees what waits there."""

    service: KserveService
    engine: OnnxEngine
    stub: Any

    def waiting(self) -> ModelStatistics:
        return self.engine.statistics("waiting")[0]


@pytest.fixture
def rig(same_repository: Path) -> Iterator[Rig]:
    engine = OnnxEngine(
        same_repository,
        threads=1,
        max_batch_rows=100,
        model_control="explicit",
        load_models=("waiting",),
    )
    with engine, futures.ThreadPoolExecutor() as threads:
        service = KserveService(engine, Calls(), ServerConfig())
        server = grpc.server(threads)
        service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(service, server)
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield Rig(service, engine, service_pb2_grpc.GRPCInferenceServiceStub(channel))
        server.stop(None).wait()


def _rows(count: int) -> Any:
    return infer("waiting", tensor("x", (count, 4)), raw=(ROW * count,), id=str(count))


def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline


def _open_stream(stub: Any, requests: list[Any]) -> tuple[Any, threading.Event]:
    """Send requests in a stream that stays open until the event is set."""
    end = threading.Event()

    def send() -> Iterator[Any]:
        yield from requests
        end.wait(60)

    return stub.ModelStreamInfer(send(), timeout=60), end


def test_answers_of_a_stream_come_in_order_with_their_ids(stub: Any) -> None:
    requests = [infer(("row", "counted")[index % 2], id=str(index)) for index in range(300)]

    answers = list(stub.ModelStreamInfer(iter(requests)))

    assert [answer.infer_response.id for answer in answers] == [str(i) for i in range(300)]
    assert {bytes(answer.infer_response.raw_output_contents[0]) for answer in answers} == {ROW}


def test_every_answer_of_a_stream_is_marked_final(stub: Any) -> None:
    wanted = {"triton_enable_empty_final_response": ("bool_param", True)}

    answers = list(stub.ModelStreamInfer(iter([infer(), infer(parameters=wanted)])))

    for answer in answers:
        assert answer.infer_response.parameters["triton_final_response"].bool_param


def test_a_stream_without_requests_ends_well(stub: Any) -> None:
    assert list(stub.ModelStreamInfer(iter([]))) == []


def test_an_error_is_told_within_the_stream_and_those_behind_it_are_answered(stub: Any) -> None:
    requests = [infer(id="a"), infer("nothing", id="b"), infer(raw=(b"",), id="c"), infer(id="d")]

    answers = list(stub.ModelStreamInfer(iter(requests)))

    assert [answer.infer_response.id for answer in answers] == ["a", "b", "c", "d"]
    assert [bool(answer.error_message) for answer in answers] == [False, True, True, False]
    assert 'no model "nothing"' in answers[1].error_message


def test_a_strict_stream_ends_at_the_first_error_with_its_status(stub: Any) -> None:
    stream = stub.ModelStreamInfer(
        iter([infer(id="a"), infer("nothing"), infer()]), metadata=_STRICT
    )

    assert next(stream).infer_response.id == "a"
    with pytest.raises(grpc.RpcError) as caught:
        next(stream)
    assert caught.value.code() == grpc.StatusCode.NOT_FOUND


def test_each_request_of_a_stream_has_a_timeout_of_its_own(stub: Any) -> None:
    late = infer("waiting", parameters={"timeout": ("int64_param", 1000)}, id="late")

    answers = list(stub.ModelStreamInfer(iter([late, infer(id="next")]), timeout=60))

    assert "did not answer within 0.001 s" in answers[0].error_message
    assert not answers[1].error_message


def test_what_a_gone_client_left_in_the_queue_never_runs(rig: Rig) -> None:
    stream, end = _open_stream(rig.stub, [_rows(1), _rows(2), _rows(3)])
    _until(lambda: rig.waiting().pending_rows == 6)

    stream.cancel()
    _until(lambda: rig.waiting().failures.keys() == {"CANCELED"})
    end.set()

    rig.stub.ModelInfer(_rows(100), timeout=60)
    assert rig.waiting().failures["CANCELED"].count == 3
    assert (rig.waiting().inference_count, rig.waiting().execution_count) == (100, 1)


def test_a_server_that_finishes_answers_what_streams_have_sent_and_ends_them(rig: Rig) -> None:
    stream, end = _open_stream(rig.stub, [_rows(1)])
    _until(lambda: rig.waiting().pending_rows == 1)

    rig.service.close_streams()
    rig.stub.ModelInfer(_rows(99), timeout=60)

    assert next(stream).infer_response.id == "1"
    with pytest.raises(grpc.RpcError) as caught:
        next(stream)
    assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
    end.set()


def test_a_stream_begins_no_more_than_its_limit_before_answers_are_taken() -> None:
    finishes: queue.SimpleQueue[Callable[[Any], None]] = queue.SimpleQueue()
    read = 0

    def requests() -> Iterator[Any]:
        nonlocal read
        for read in range(1, _LIMIT + 3):  # noqa: B007 - read outside
            yield infer()

    def begin(request: Any, context: CallContext, finish: Callable[[Any], None]) -> None:
        finishes.put(finish)

    answers = Streams().answer(requests(), CallContext(), begin)
    first = threading.Thread(target=lambda: next(answers))
    first.start()
    _until(lambda: read == _LIMIT + 1)

    assert finishes.qsize() == _LIMIT
    finishes.get()("answer")
    first.join()
    _until(lambda: read == _LIMIT + 2)
    assert finishes.qsize() == _LIMIT
    answers.close()


def test_streams_of_broken_messages_leave_no_call_behind(start_same: StartServer) -> None:
    server = start_same(max_concurrent_calls=3)
    path = "/inference.GRPCInferenceService/ModelStreamInfer"

    for _ in range(40):
        with grpc.insecure_channel(server.address) as channel:
            messages = [infer("counted").SerializeToString(), b"\xff"]
            method: Any = channel.stream_stream(path)  # of bytes, which its type lacks
            stream = method(iter(messages), timeout=30)
            next(stream)  # what came before it is answered
            with pytest.raises(grpc.RpcError) as caught:
                next(stream)
            assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT

    with grpc.insecure_channel(server.address) as channel:
        stub: Any = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        stub.ModelInfer(infer("counted"), timeout=30)
