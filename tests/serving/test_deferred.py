import threading
from collections.abc import Callable, Iterator
from concurrent import futures
from contextlib import contextmanager
from queue import SimpleQueue
from typing import Any

import grpc
import pytest
from grpc_status import rpc_status

from facegen.serving.call_context import CallContext
from facegen.serving.errors import QueueFullError
from facegen.serving.rpc import call_server
from facegen.serving.rpc.call_server import CallServer
from facegen.serving.rpc.calls import Calls, Finish, answers, deferred, probe
from facegen.v1 import face_service_pb2 as pb
from facegen.v1.face_service_pb2_grpc import (
    FaceServiceServicer,
    FaceServiceStub,
    add_FaceServiceServicer_to_server,
)

Begin = Callable[[pb.GenerateRequest, CallContext, Finish], None]
_GENERATE = "/facegen.v1.FaceService/Generate"


class _Service(FaceServiceServicer):
    """Generate is what a test wants; Encode blocks until it is let go; Decode is a probe."""

    def __init__(self, begin: Begin, max_calls: int) -> None:
        self.calls = Calls(max_calls=max_calls)
        self.entered = threading.Semaphore(0)
        self.let_go = threading.Event()
        self._begin = begin

    @deferred
    def Generate(  # noqa: N802 - gRPC's name
        self, request: pb.GenerateRequest, context: CallContext, finish: Finish
    ) -> None:
        self._begin(request, context, finish)

    @answers
    def Encode(self, request: pb.EncodeRequest, context: CallContext) -> pb.EncodeResponse:  # noqa: N802 - gRPC's name
        self.entered.release()
        assert self.let_go.wait(30)
        return pb.EncodeResponse()

    @probe
    def Decode(self, request: pb.DecodeRequest, context: CallContext) -> pb.DecodeResponse:  # noqa: N802 - gRPC's name
        return pb.DecodeResponse(family="alive")


@contextmanager
def _served(service: Any) -> Iterator[tuple[CallServer, grpc.Channel]]:
    pool = futures.ThreadPoolExecutor(8, "call")
    server = CallServer(pool)
    add_FaceServiceServicer_to_server(service, server)  # type: ignore[arg-type]  # stands for one
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield server, channel
    server.close()
    pool.shutdown()


@contextmanager
def _channel(service: Any) -> Iterator[grpc.Channel]:
    with _served(service) as (_, channel):
        yield channel


def _service(begin: Begin, max_calls: int = 1000) -> Any:
    return _Service(begin, max_calls)  # type: ignore[abstract]  # three methods are enough here


def _is_taken(faces: Any) -> bool:
    try:
        faces.Generate(pb.GenerateRequest(count=1))
    except grpc.RpcError as error:
        if error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED:
            return False
        raise
    return True


def _at_once(request: pb.GenerateRequest, context: CallContext, finish: Finish) -> None:
    finish(pb.GenerateResponse(seed=request.count))


def test_call_is_answered_in_its_own_thread() -> None:
    with _channel(_service(_at_once)) as channel:
        assert FaceServiceStub(channel).Generate(pb.GenerateRequest(count=3)).seed == 3


def test_large_message_is_read_in_another_thread_than_the_one_that_takes_all_calls() -> None:
    names: SimpleQueue[str] = SimpleQueue()

    def begin(request: pb.GenerateRequest, context: CallContext, finish: Finish) -> None:
        names.put(threading.current_thread().name)
        finish(pb.GenerateResponse())

    with _channel(_service(begin)) as channel:
        for family in ("small", "large" * 10_000):
            FaceServiceStub(channel).Generate(pb.GenerateRequest(family=family))

    assert not names.get().startswith("call")
    assert names.get().startswith("call")


def test_calls_that_wait_hold_no_threads_and_are_answered_from_any() -> None:
    begun: SimpleQueue[tuple[int, Finish]] = SimpleQueue()

    def begin(request: pb.GenerateRequest, context: CallContext, finish: Finish) -> None:
        begun.put((request.count, finish))

    threads = set(threading.enumerate())
    with _channel(_service(begin)) as channel:
        generate = FaceServiceStub(channel).Generate
        calls = [generate.future(pb.GenerateRequest(count=count)) for count in range(1, 65)]
        waiting = [begun.get(timeout=30) for _ in calls]
        names = [thread.name for thread in set(threading.enumerate()) - threads]
        for count, finish in reversed(waiting):
            finish(pb.GenerateResponse(seed=count))

        assert [call.result().seed for call in calls] == list(range(1, 65))
        assert not [name for name in names if name.startswith("call")]


def test_error_from_any_thread_is_a_rich_status() -> None:
    error = QueueFullError("m", 1, queued=2, limit=2, retry_after_s=0.5)

    def begin(request: pb.GenerateRequest, context: CallContext, finish: Finish) -> None:
        threading.Thread(target=finish, args=(error,)).start()

    with _channel(_service(begin)) as channel, pytest.raises(grpc.RpcError) as caught:
        FaceServiceStub(channel).Generate(pb.GenerateRequest())

    status = rpc_status.from_call(caught.value)  # type: ignore[arg-type]  # it is the call
    assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "google.rpc.RetryInfo" in str(status)


def test_only_the_first_answer_counts() -> None:
    def begin(request: pb.GenerateRequest, context: CallContext, finish: Finish) -> None:
        finish(pb.GenerateResponse(seed=1))
        finish(pb.GenerateResponse(seed=2))
        raise ZeroDivisionError

    with _channel(_service(begin)) as channel:
        stub = FaceServiceStub(channel)

        assert [stub.Generate(pb.GenerateRequest()).seed for _ in range(3)] == [1, 1, 1]


def test_exception_before_the_answer_is_internal_and_the_server_goes_on() -> None:
    def begin(request: pb.GenerateRequest, context: CallContext, finish: Finish) -> None:
        finish(pb.GenerateResponse(seed=1 // request.count))

    with _channel(_service(begin)) as channel:
        stub = FaceServiceStub(channel)
        with pytest.raises(grpc.RpcError) as caught:
            stub.Generate(pb.GenerateRequest(count=0))

        assert caught.value.code() == grpc.StatusCode.INTERNAL
        assert stub.Generate(pb.GenerateRequest(count=1)).seed == 1


def test_response_that_cannot_be_serialised_is_internal() -> None:
    def begin(request: pb.GenerateRequest, context: CallContext, finish: Finish) -> None:
        finish("no message")

    with _channel(_service(begin)) as channel, pytest.raises(grpc.RpcError) as caught:
        FaceServiceStub(channel).Generate(pb.GenerateRequest())

    assert caught.value.code() == grpc.StatusCode.INTERNAL


@pytest.mark.parametrize("cut", ["cancel", "deadline"])
def test_caller_that_goes_away_cancels_its_context_and_a_late_answer_is_no_harm(cut: str) -> None:
    begun: SimpleQueue[tuple[CallContext, Finish]] = SimpleQueue()
    gone = threading.Event()

    def begin(request: pb.GenerateRequest, context: CallContext, finish: Finish) -> None:
        if request.count:
            finish(pb.GenerateResponse(seed=request.count))
        else:
            context.on_cancel(gone.set)
            begun.put((context, finish))

    with _channel(_service(begin)) as channel:
        stub = FaceServiceStub(channel)
        timeout_s = 0.2 if cut == "deadline" else None
        call = stub.Generate.future(pb.GenerateRequest(), timeout=timeout_s)
        context, finish = begun.get(timeout=30)
        if cut == "cancel":
            call.cancel()

        assert gone.wait(30)
        assert context.cancelled
        finish(pb.GenerateResponse())
        assert stub.Generate(pb.GenerateRequest(count=7)).seed == 7


def test_deadline_of_the_call_is_the_contexts() -> None:
    left: SimpleQueue[float | None] = SimpleQueue()

    def begin(request: pb.GenerateRequest, context: CallContext, finish: Finish) -> None:
        left.put(context.left_s())
        finish(pb.GenerateResponse())

    with _channel(_service(begin)) as channel:
        stub = FaceServiceStub(channel)
        stub.Generate(pb.GenerateRequest(), timeout=60)
        stub.Generate(pb.GenerateRequest())

    with_timeout, without = left.get(timeout=30), left.get(timeout=30)
    assert with_timeout is not None
    assert 30 < with_timeout <= 60.5
    assert without is None


def test_bytes_that_do_not_parse_are_internal() -> None:
    with _channel(_service(_at_once)) as channel:
        generate: Any = channel.unary_unary(_GENERATE)
        with pytest.raises(grpc.RpcError) as caught:
            generate(b"\xff\xff\xff")

    assert caught.value.code() == grpc.StatusCode.INTERNAL


@pytest.mark.parametrize("method", ["Generate", "Encode"])
def test_call_without_a_message_is_unimplemented(method: str) -> None:
    with _channel(_service(_at_once)) as channel, pytest.raises(grpc.RpcError) as caught:
        channel.stream_unary(f"/facegen.v1.FaceService/{method}")(iter(()))

    assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED


def test_calls_past_the_most_are_refused_without_a_thread_and_probes_are_not() -> None:
    service = _service(_at_once, max_calls=2)
    with _channel(service) as channel:
        stub = FaceServiceStub(channel)
        held = [stub.Encode.future(pb.EncodeRequest()) for _ in range(2)]
        for _ in held:
            assert service.entered.acquire(timeout=30)
        for _ in range(3):
            with pytest.raises(grpc.RpcError) as caught:
                stub.Generate(pb.GenerateRequest())
            assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
            assert "2 calls are under way" in (caught.value.details() or "")
            assert stub.Decode(pb.DecodeRequest()).family == "alive"
        service.let_go.set()

        assert [call.result() for call in held] == [pb.EncodeResponse()] * 2
        assert stub.Generate(pb.GenerateRequest(count=5), wait_for_ready=True).seed == 5


def test_cancelled_calls_make_room_again() -> None:
    def begin(request: pb.GenerateRequest, context: CallContext, finish: Finish) -> None:
        if request.count:
            finish(pb.GenerateResponse(seed=request.count))
        else:
            begun.put(finish)

    begun: SimpleQueue[Finish] = SimpleQueue()
    with _channel(_service(begin, max_calls=1)) as channel:
        stub = FaceServiceStub(channel)
        for _ in range(20):
            call = stub.Generate.future(pb.GenerateRequest())
            finish = begun.get(timeout=30)
            call.cancel()
            # Core tells of the cancellation and of the next call in any order.
            while not _is_taken(stub):
                pass
            finish(pb.GenerateResponse())


def test_server_that_stops_waits_for_calls_under_way_and_takes_no_more() -> None:
    begun: SimpleQueue[Finish] = SimpleQueue()

    def begin(request: pb.GenerateRequest, context: CallContext, finish: Finish) -> None:
        begun.put(finish)

    with _served(_service(begin)) as (server, channel):
        stub = FaceServiceStub(channel)
        call = stub.Generate.future(pb.GenerateRequest())
        finish = begun.get(timeout=30)
        stopped = server.stop(600)
        with pytest.raises(grpc.RpcError) as caught:
            stub.Generate(pb.GenerateRequest())
        under_way = not stopped.is_set()
        finish(pb.GenerateResponse(seed=9))

        assert call.result().seed == 9
        assert stopped.wait(30)
    assert under_way
    assert caught.value.code() == grpc.StatusCode.UNAVAILABLE


def test_server_that_closes_cancels_calls_and_later_answers_are_no_harm() -> None:
    begun: SimpleQueue[tuple[CallContext, Finish]] = SimpleQueue()

    def begin(request: pb.GenerateRequest, context: CallContext, finish: Finish) -> None:
        begun.put((context, finish))

    with _served(_service(begin)) as (server, channel):
        call = FaceServiceStub(channel).Generate.future(pb.GenerateRequest())
        context, finish = begun.get(timeout=30)
        server.close()

        assert call.exception(timeout=30) is not None
        assert context.cancelled
        finish(pb.GenerateResponse())


@pytest.mark.parametrize("plain", [True, False])
def test_without_the_internals_calls_wait_in_threads(
    plain: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def begin(request: pb.GenerateRequest, context: CallContext, finish: Finish) -> None:
        error = QueueFullError("m", 1, queued=2, limit=2, retry_after_s=0.5)
        answer = pb.GenerateResponse(seed=request.count) if request.count else error
        threading.Thread(target=finish, args=(answer,)).start()

    monkeypatch.setattr(call_server, "_INTERNALS", False)
    pool = futures.ThreadPoolExecutor(4)
    server: Any = grpc.server(pool) if plain else CallServer(pool)
    service = _service(begin, max_calls=1)
    add_FaceServiceServicer_to_server(service, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = FaceServiceStub(channel)
        answer = stub.Generate(pb.GenerateRequest(count=4))
        with pytest.raises(grpc.RpcError) as caught:
            stub.Generate(pb.GenerateRequest())
        held = stub.Encode.future(pb.EncodeRequest())
        assert service.entered.acquire(timeout=30)
        with pytest.raises(grpc.RpcError) as refused:
            stub.Encode(pb.EncodeRequest())

        assert answer.seed == 4
        assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "under way" in (refused.value.details() or "")
        assert stub.Decode(pb.DecodeRequest()).family == "alive"
        service.let_go.set()
        assert held.result() == pb.EncodeResponse()
    server.stop(None)
    pool.shutdown()
