import queue
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent import futures
from typing import Any

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as collector_pb
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as collector_grpc
from opentelemetry.proto.trace.v1 import trace_pb2 as trace_pb
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from facegen.serving.config import ServerConfig
from facegen.serving.telemetry import Observer, Telemetry
from facegen.serving.telemetry.call_counts import CallCounts
from facegen.serving.telemetry.trace_settings import TraceSettings
from facegen.serving.telemetry.tracing import Tracing
from facegen.v1 import face_service_pb2 as pb
from facegen.v1.face_service_pb2_grpc import FaceServiceStub

_METHOD = "/facegen.v1.FaceService/Generate"
_TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
_PARENT_ID = "b7ad6b7169203331"
_SAMPLED = (("traceparent", f"00-{_TRACE_ID}-{_PARENT_ID}-01"), ("tracestate", "vendor=7"))
_NOT_SAMPLED = (("traceparent", f"00-{_TRACE_ID}-{_PARENT_ID}-00"),)


class _Traced:
    """An observer whose spans stay in memory."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.settings = TraceSettings(available=True)
        self.observer = Observer(CallCounts(), Tracing(provider, self.settings))

    def spans(self) -> dict[str, ReadableSpan]:
        return {span.name: span for span in self._exporter.get_finished_spans()}


def _context_ids(span: ReadableSpan) -> tuple[str, str]:
    """The trace and the span itself."""
    assert span.context is not None
    return f"{span.context.trace_id:032x}", f"{span.context.span_id:016x}"


def test_call_is_a_server_span_under_its_callers() -> None:
    traced = _Traced()

    traced.observer.begin(_METHOD, _SAMPLED, "r1").end(grpc.StatusCode.OK)

    (span,) = traced.spans().values()
    assert (span.name, span.kind) == ("facegen.v1.FaceService/Generate", SpanKind.SERVER)
    assert _context_ids(span)[0] == _TRACE_ID
    assert span.parent is not None
    assert f"{span.parent.span_id:016x}" == _PARENT_ID
    assert span.context is not None
    assert dict(span.context.trace_state) == {"vendor": "7"}
    assert span.attributes == {
        "rpc.system": "grpc",
        "rpc.service": "facegen.v1.FaceService",
        "rpc.method": "Generate",
        "rpc.grpc.status_code": 0,
        "facegen.request_id": "r1",
    }
    assert span.status.status_code is StatusCode.UNSET


def test_stages_are_children_with_their_own_times() -> None:
    traced = _Traced()

    call = traced.observer.begin(_METHOD, _SAMPLED, "r1")
    assert call.spans is not None
    call.spans.add("queue", 1_000, 3_000)
    call.spans.add("compute", 3_000, 9_000, {"rows": 4})
    call.end(grpc.StatusCode.OK)

    spans = traced.spans()
    server_id = _context_ids(spans["facegen.v1.FaceService/Generate"])[1]
    for name, times in (("queue", (1_000, 3_000)), ("compute", (3_000, 9_000))):
        span = spans[name]
        assert (span.start_time, span.end_time) == times
        assert span.parent is not None
        assert f"{span.parent.span_id:016x}" == server_id
        assert _context_ids(span)[0] == _TRACE_ID
    assert spans["compute"].attributes == {"rows": 4}


def test_caller_that_samples_nothing_is_heeded() -> None:
    traced = _Traced()

    call = traced.observer.begin(_METHOD, _NOT_SAMPLED, "r1")
    call.end(grpc.StatusCode.OK)

    assert call.spans is None
    assert not traced.spans()


@pytest.mark.parametrize(
    "metadata", [(), (("traceparent", "garbage"),), (("traceparent", b"\xff"),)]
)
def test_call_without_context_begins_a_trace(
    metadata: tuple[tuple[str, str | bytes], ...],
) -> None:
    traced = _Traced()

    traced.observer.begin(_METHOD, metadata, "r1").end(grpc.StatusCode.OK)

    (span,) = traced.spans().values()
    assert span.parent is None


@pytest.mark.parametrize(
    ("code", "status"),
    [
        (grpc.StatusCode.INTERNAL, StatusCode.ERROR),
        (grpc.StatusCode.DEADLINE_EXCEEDED, StatusCode.ERROR),
        (grpc.StatusCode.INVALID_ARGUMENT, StatusCode.UNSET),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, StatusCode.UNSET),
    ],
)
def test_only_the_servers_faults_are_errors(code: grpc.StatusCode, status: StatusCode) -> None:
    traced = _Traced()

    traced.observer.begin(_METHOD, (), "r1").end(code)

    (span,) = traced.spans().values()
    assert span.status.status_code is status
    assert span.attributes is not None
    assert span.attributes["rpc.grpc.status_code"] == code.value[0]


def test_without_traces_and_metrics_their_libraries_are_not_imported() -> None:
    program = (
        "import sys\n"
        "from facegen.serving.config import ServerConfig\n"
        "from facegen.serving.telemetry import Telemetry\n"
        "telemetry = Telemetry(ServerConfig())\n"
        "telemetry.start()\n"
        "assert telemetry.observer.begin('/a.B/C', (), 'r').spans is None\n"
        "telemetry.close()\n"
        "print([n for n in sys.modules if n.startswith(('opentelemetry', 'prometheus'))])\n"
    )

    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)

    assert answer.stdout == b"[]\n"


class _Collector(collector_grpc.TraceServiceServicer):
    """An OTLP collector that keeps what it gets."""

    def __init__(self) -> None:
        self.requests: queue.Queue[collector_pb.ExportTraceServiceRequest] = queue.Queue()

    def Export(  # noqa: N802 - gRPC's name
        self, request: collector_pb.ExportTraceServiceRequest, context: grpc.ServicerContext
    ) -> collector_pb.ExportTraceServiceResponse:
        self.requests.put(request)
        return collector_pb.ExportTraceServiceResponse()

    def spans(self) -> Iterator[trace_pb.Span]:
        """The spans that have come."""
        while not self.requests.empty():
            for resource_spans in self.requests.get().resource_spans:
                for scope_spans in resource_spans.scope_spans:
                    yield from scope_spans.spans


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[_Collector]:
    """A collector that the OTEL_ variables name."""
    collector = _Collector()
    with futures.ThreadPoolExecutor(1) as threads:
        server = grpc.server(threads)
        collector_grpc.add_TraceServiceServicer_to_server(collector, server)  # type: ignore[no-untyped-call]  # generated without types
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{port}")
        monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment=test")
        yield collector
        server.stop(None).wait()


def test_spans_reach_a_collector_before_the_close_ends(collector: _Collector) -> None:
    telemetry = Telemetry(ServerConfig(traces="otlp"))

    telemetry.observer.begin(_METHOD, _SAMPLED, "r1").end(grpc.StatusCode.OK)
    telemetry.close()

    (resource_spans,) = collector.requests.get_nowait().resource_spans
    resource = {it.key: it.value.string_value for it in resource_spans.resource.attributes}
    assert resource["service.name"] == "facegen"
    assert resource["deployment.environment"] == "test"
    (span,) = resource_spans.scope_spans[0].spans
    assert span.trace_id.hex() == _TRACE_ID
    assert span.parent_span_id.hex() == _PARENT_ID


def test_variables_name_the_service(collector: _Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SERVICE_NAME", "faces-in-test")
    telemetry = Telemetry(ServerConfig(traces="otlp"))

    telemetry.observer.begin(_METHOD, (), "r1").end(grpc.StatusCode.OK)
    telemetry.close()

    (resource_spans,) = collector.requests.get_nowait().resource_spans
    resource = {it.key: it.value.string_value for it in resource_spans.resource.attributes}
    assert resource["service.name"] == "faces-in-test"


def test_call_of_a_server_is_traced_stage_by_stage(
    collector: _Collector, start_server: Callable[..., Any]
) -> None:
    server = start_server("--traces", "otlp")
    with grpc.insecure_channel(server.address) as channel:
        faces = FaceServiceStub(channel)
        request = pb.GenerateRequest(family="tiny-vae", count=2)
        metadata = (*_SAMPLED, ("x-request-id", "my-own-id"))
        assert len(faces.Generate(request, metadata=metadata).faces) == 2
        faces.Generate(request, metadata=_NOT_SAMPLED)
    server.terminate()
    assert server.wait() == 0

    spans = [span for span in collector.spans() if span.trace_id.hex() == _TRACE_ID]
    (call,) = [span for span in spans if span.name == "facegen.v1.FaceService/Generate"]
    assert call.parent_span_id.hex() == _PARENT_ID
    attributes = {it.key: it.value.string_value for it in call.attributes}
    assert attributes["facegen.request_id"] == "my-own-id"
    stages = [span for span in spans if span.parent_span_id == call.span_id]
    assert {"queue", "batch", "compute", "image coding"} == {stage.name for stage in stages}
    for stage in stages:
        assert call.start_time_unix_nano <= stage.start_time_unix_nano
        assert stage.start_time_unix_nano <= stage.end_time_unix_nano <= call.end_time_unix_nano
    assert len(spans) == 1 + len(stages)
