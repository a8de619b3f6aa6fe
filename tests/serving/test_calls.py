import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_status import rpc_status

from facegen.serving.call_context import CallContext
from facegen.serving.errors import (
    CallCancelledError,
    CapabilityError,
    DeadlineError,
    EngineClosedError,
    ForbiddenError,
    InferenceError,
    InputError,
    ModelNotFoundError,
    NotReadyError,
    QueueFullError,
    RateLimitError,
    RegionError,
    RepositoryError,
    UnauthenticatedError,
    UnsupportedError,
)
from facegen.serving.rpc.call_server import CallServer
from facegen.serving.rpc.calls import Calls, answers, probe, streams
from facegen.serving.rpc.interfaces import Peer
from facegen.v1 import face_service_pb2 as pb
from facegen.v1.face_service_pb2_grpc import (
    FaceServiceServicer,
    FaceServiceStub,
    add_FaceServiceServicer_to_server,
)

_GENERATE = "/facegen.v1.FaceService/Generate"
_STREAM = "/facegen.v1.FaceService/GenerateStream"
_CODE = grpc.StatusCode


class _Service(FaceServiceServicer):
    """Generate and GenerateStream end with an error, or well; Decode is a probe."""

    def __init__(self, error: Exception | None = None, calls: Calls | None = None) -> None:
        self.calls = calls or Calls()
        self.contexts: list[CallContext] = []
        self.stream_closed = threading.Event()
        self._error = error

    @answers
    def Generate(self, request: pb.GenerateRequest, context: CallContext) -> pb.GenerateResponse:  # noqa: N802 - gRPC's name
        self.contexts.append(context)
        if self._error:
            raise self._error
        return pb.GenerateResponse()

    @streams
    def GenerateStream(  # noqa: N802 - gRPC's name
        self, request: pb.GenerateStreamRequest, context: CallContext
    ) -> Iterator[pb.GenerateStreamResponse]:
        try:
            for seed in range(request.count or 1):
                yield pb.GenerateStreamResponse(seed=seed)
            if self._error:
                raise self._error
        finally:
            self.stream_closed.set()

    @probe
    def Decode(self, request: pb.DecodeRequest, context: CallContext) -> pb.DecodeResponse:  # noqa: N802 - gRPC's name
        return pb.DecodeResponse()


def _service(error: Exception | None = None, calls: Calls | None = None) -> Any:
    return _Service(error, calls)  # type: ignore[abstract]  # three methods are enough here


@pytest.fixture(params=["deferred", "threads"])
def served(request: pytest.FixtureRequest) -> Any:
    """Serve a servicer, by our server and by gRPC's own."""

    @contextmanager
    def serve(service: Any) -> Iterator[Any]:
        pool = ThreadPoolExecutor(8)
        server: Any = CallServer(pool) if request.param == "deferred" else grpc.server(pool)
        add_FaceServiceServicer_to_server(service, server)
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield FaceServiceStub(channel)
        server.stop(None)
        pool.shutdown()

    return serve


@pytest.mark.parametrize(
    ("error", "code", "reason"),
    [
        (InputError("x", "is wrong"), _CODE.INVALID_ARGUMENT, "INPUT"),
        (CapabilityError("no encoder", "use another"), _CODE.FAILED_PRECONDITION, "CAPABILITY"),
        (RepositoryError(Path("m"), "is broken", "mend it"), _CODE.FAILED_PRECONDITION, "REPOS"),
        (UnsupportedError("no CUDA", "use the CPU"), _CODE.UNIMPLEMENTED, "UNSUPPORTED"),
        (UnauthenticatedError("no token", "send one"), _CODE.UNAUTHENTICATED, "UNAUTHENTICATED"),
        (ForbiddenError("not you", "ask"), _CODE.PERMISSION_DENIED, "FORBIDDEN"),
        (ModelNotFoundError("f"), _CODE.NOT_FOUND, "MODEL_NOT_FOUND"),
        (RegionError("r", "is not registered"), _CODE.NOT_FOUND, "REGION_NOT_FOUND"),
        (RegionError("r", "is there", exists=True), _CODE.ALREADY_EXISTS, "REGION_EXISTS"),
        (
            QueueFullError("m", 1, queued=2, limit=2, retry_after_s=0.5),
            _CODE.RESOURCE_EXHAUSTED,
            "QUEUE_FULL",
        ),
        (RateLimitError("too much", retry_after_s=2), _CODE.RESOURCE_EXHAUSTED, "RATE_LIMIT"),
        (DeadlineError("m", timeout_s=1), _CODE.DEADLINE_EXCEEDED, "DEADLINE"),
        (CallCancelledError(), _CODE.CANCELLED, "CANCELLED"),
        (NotReadyError("the server"), _CODE.UNAVAILABLE, "NOT_READY"),
        (EngineClosedError(), _CODE.UNAVAILABLE, "CLOSED"),
        (InferenceError("m", "out of memory"), _CODE.INTERNAL, "INFERENCE"),
    ],
)
def test_errors_become_status_with_a_reason(
    served: Any, error: Exception, code: grpc.StatusCode, reason: str
) -> None:
    with served(_service(error)) as faces, pytest.raises(grpc.RpcError) as caught:
        faces.Generate(pb.GenerateRequest())

    status = str(rpc_status.from_call(caught.value))  # type: ignore[arg-type]  # it is the call
    assert caught.value.code() == code
    assert caught.value.details() == str(error)
    assert reason in status
    assert "facegen" in status
    assert ("google.rpc.RetryInfo" in status) == (code == _CODE.RESOURCE_EXHAUSTED)


def test_message_that_repeats_megabytes_is_cut(served: Any) -> None:
    error = ModelNotFoundError("ü" * 1_000_000)
    with served(_service(error)) as faces, pytest.raises(grpc.RpcError) as caught:
        faces.Generate(pb.GenerateRequest())

    details = caught.value.details() or ""
    assert caught.value.code() == _CODE.NOT_FOUND
    assert details.startswith('no model "ü')
    assert len(details.encode()) <= 1024


def test_bug_is_internal_with_a_request_id_that_the_log_knows(
    served: Any, caplog: pytest.LogCaptureFixture
) -> None:
    error = ZeroDivisionError("secret")
    with (
        caplog.at_level(logging.ERROR),
        served(_service(error)) as faces,
        pytest.raises(grpc.RpcError) as caught,
    ):
        faces.Generate(pb.GenerateRequest())

    details = caught.value.details() or ""
    assert caught.value.code() == _CODE.INTERNAL
    assert "secret" not in details
    assert f"request={details.split()[-1]}" in caplog.text
    assert "ZeroDivisionError: secret" in caplog.text


def test_stream_that_fails_midway_ends_with_status(served: Any) -> None:
    with served(_service(EngineClosedError())) as faces:
        stream = faces.GenerateStream(pb.GenerateStreamRequest())
        first = next(stream)
        with pytest.raises(grpc.RpcError) as caught:
            next(stream)

    assert isinstance(first, pb.GenerateStreamResponse)
    assert caught.value.code() == _CODE.UNAVAILABLE


def test_stream_that_nobody_reads_any_more_is_closed(served: Any) -> None:
    observer = _Observer()
    service = _service(calls=Calls(observer=observer))
    with served(service) as faces:
        stream = faces.GenerateStream(pb.GenerateStreamRequest(count=2**40))
        next(stream)
        stream.cancel()

        assert service.stream_closed.wait(30)
        assert observer.ended.acquire(timeout=30)
    assert observer.codes == [(_STREAM, _CODE.CANCELLED)]


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("0af7651916cd43dd-8448eb21/1", True),
        ("a b", False),
        ('x"y=1', False),
        ("a" * 129, False),
        ("", False),
    ],
)
def test_request_id_is_the_callers_if_a_log_can_bear_it(served: Any, sent: str, kept: bool) -> None:
    service = _service()
    with served(service) as faces:
        faces.Generate(pb.GenerateRequest(), metadata=(("x-request-id", sent),))
        faces.Generate(pb.GenerateRequest())

    first, second = (context.request_id for context in service.contexts)
    assert (first == sent) == kept
    assert "" != first != second != ""


@dataclass
class _Admission:
    gate: "_Gate"
    client: str = "anna"
    admin: bool = True

    def release(self) -> None:
        self.gate.released.release()


@dataclass
class _Gate:
    """Lets calls in, or refuses them."""

    error: Exception | None = None
    asked: list[tuple[str, str]] = field(default_factory=list)
    released: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))

    def admit(
        self, method: str, metadata: Sequence[tuple[str, str | bytes]], peer: Callable[[], Peer]
    ) -> _Admission:
        self.asked.append((method, peer().peer()))
        if self.error:
            raise self.error
        return _Admission(self)


@dataclass
class _Observation:
    observer: "_Observer"
    method: str
    spans: None = None

    def end(self, code: grpc.StatusCode) -> None:
        self.observer.codes.append((self.method, code))
        self.observer.ended.release()


@dataclass
class _Observer:
    """Notes how calls ended."""

    codes: list[tuple[str, grpc.StatusCode]] = field(default_factory=list)
    ended: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))

    def begin(self, method: str, metadata: Any, request_id: str) -> _Observation:
        return _Observation(self, method)


def test_gate_and_observer_see_every_call_once(served: Any) -> None:
    gate, observer = _Gate(), _Observer()
    service = _service(calls=Calls(gate, observer))
    with served(service) as faces:
        faces.Generate(pb.GenerateRequest())
        list(faces.GenerateStream(pb.GenerateStreamRequest()))

        assert observer.codes == [(_GENERATE, _CODE.OK), (_STREAM, _CODE.OK)]
    assert [method for method, _ in gate.asked] == [_GENERATE, _STREAM]
    assert all(peer.startswith("ipv4:127.0.0.1:") for _, peer in gate.asked)
    assert all(gate.released.acquire(timeout=30) for _ in range(2))
    assert not gate.released.acquire(blocking=False)
    assert service.contexts[0].client == "anna"
    assert service.contexts[0].admin


def test_call_that_the_gate_refuses_does_not_begin_and_is_observed(served: Any) -> None:
    observer = _Observer()
    gate = _Gate(UnauthenticatedError("no token", "send one"))
    service = _service(calls=Calls(gate, observer))
    with served(service) as faces:
        for call in (
            lambda: faces.Generate(pb.GenerateRequest()),
            lambda: list(faces.GenerateStream(pb.GenerateStreamRequest())),
        ):
            with pytest.raises(grpc.RpcError) as caught:
                call()
            assert caught.value.code() == _CODE.UNAUTHENTICATED

    assert not service.contexts
    assert [code for _, code in observer.codes] == [_CODE.UNAUTHENTICATED] * 2


def test_server_that_starts_answers_probes_alone(served: Any) -> None:
    calls = Calls()
    calls.starting = True
    with served(_service(calls=calls)) as faces:
        faces.Decode(pb.DecodeRequest())
        with pytest.raises(grpc.RpcError) as caught:
            faces.Generate(pb.GenerateRequest())
        calls.starting = False
        faces.Generate(pb.GenerateRequest())

    assert caught.value.code() == _CODE.UNAVAILABLE
