"""Traces calls with OpenTelemetry, in the W3C context that their callers send.

Imported only where traces are wanted: OpenTelemetry costs a quarter of a second at the start.
"""

import os
from collections.abc import Sequence

import grpc
from opentelemetry import propagate, trace
from opentelemetry.context import Context
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer

from facegen.serving.telemetry.trace_settings import TraceSettings

__all__ = ["CallTrace", "Tracing", "otlp_provider"]

Metadata = Sequence[tuple[str, str | bytes]]

# The codes that are the server's fault, by OpenTelemetry's conventions for RPCs.
_FAULTS = frozenset(
    {
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.UNIMPLEMENTED,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DATA_LOSS,
    }
)


class CallTrace:
    """One call's server span, which takes the call's stages as its children (`Spans`).

    Args:
        tracer: Makes the children.
        span: The server span, recording.
    """

    __slots__ = ("_context", "_span", "_tracer", "trace_id")

    def __init__(self, tracer: Tracer, span: Span) -> None:
        self._tracer = tracer
        self._span = span
        self._context: Context = trace.set_span_in_context(span, Context())
        self.trace_id = trace.format_trace_id(span.get_span_context().trace_id)

    def add(
        self, name: str, start_ns: int, end_ns: int, attributes: dict[str, str | int] | None = None
    ) -> None:
        """Record a stage; times are `time.time_ns()`, after the fact, from any thread."""
        span = self._tracer.start_span(
            name, self._context, attributes=attributes, start_time=start_ns
        )
        span.end(end_ns)

    def end(self, code: grpc.StatusCode) -> None:
        """End the server span with the call's status."""
        self._span.set_attribute("rpc.grpc.status_code", code.value[0])
        if code in _FAULTS:
            self._span.set_status(Status(StatusCode.ERROR, code.name))
        self._span.end()


class Tracing:
    """Begins the server span of every call that its caller or the sampler wants traced.

    Args:
        provider: Samples the spans and takes them where they go.
        settings: Which calls may be traced at all, while the server runs.
    """

    def __init__(self, provider: TracerProvider, settings: TraceSettings) -> None:
        self._provider = provider
        self._settings = settings
        self._tracer = provider.get_tracer("facegen.serving")

    def begin(self, method: str, metadata: Metadata, request_id: str) -> CallTrace | None:
        """Begin a span under the caller's; None: this call is not traced.

        Args:
            method: The call's full name, `/package.Service/Method`.
            metadata: What the caller sent, `traceparent` and `tracestate` perhaps among it.
            request_id: Names the call.
        """
        if not self._settings.take():
            return None
        carrier = {key: value for key, value in metadata if isinstance(value, str)}
        name = method.removeprefix("/")
        service, _, short_name = name.rpartition("/")
        attributes = {
            "rpc.system": "grpc",
            "rpc.service": service,
            "rpc.method": short_name,
            "facegen.request_id": request_id,
        }
        context = propagate.extract(carrier, Context())
        span = self._tracer.start_span(name, context, SpanKind.SERVER, attributes)
        return CallTrace(self._tracer, span) if span.is_recording() else None

    def close(self) -> None:
        """Send what is left; blocks as long as the exporter may."""
        self._provider.shutdown()


def otlp_provider() -> TracerProvider:
    """Make a provider that exports over OTLP and gRPC, as the OTEL_ variables say."""
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter

    # Attributes given here would win over the variables.
    named = "OTEL_SERVICE_NAME" in os.environ or "service.name=" in os.environ.get(
        "OTEL_RESOURCE_ATTRIBUTES", ""
    )
    resource = Resource.create(None if named else {SERVICE_NAME: "facegen"})
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return provider
