"""All that is counted, as Prometheus metrics: read when asked for, never on a call's path."""

import platform
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from itertools import chain

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from facegen.errors import FacegenError
from facegen.serving.engine import Engine
from facegen.serving.telemetry.call_counts import DURATION_BOUNDS_S, CallCounts
from facegen.serving.telemetry.machine import CpuUse, memory_bytes
from facegen.serving.telemetry.model_metrics import model_metrics, ready_metric, with_bounds

__all__ = ["Metrics"]

_DISTRIBUTIONS = ("facegen", "grpcio", "onnxruntime", "onnxruntime-gpu")


class Metrics(Collector):
    """Everything counted, in a registry of its own.

    Args:
        counts: What calls did.
    """

    def __init__(self, counts: CallCounts) -> None:
        self._counts = counts
        self._engine: Engine | None = None
        self._cpu_use = CpuUse()
        self._build = _build()
        self._registry = CollectorRegistry()
        self._registry.register(self)
        ProcessCollector(registry=self._registry)

    def watch(self, engine: Engine) -> None:
        """Tell of this engine's models from now on."""
        self._engine = engine

    def render(self) -> bytes:
        """Give all metrics in Prometheus's text format 0.0.4."""
        # See `model_metrics`: what is untyped are Triton's counters.
        return generate_latest(self._registry).replace(b" untyped\n", b" counter\n")

    def collect(self) -> Iterable[Metric]:
        """Read all counts but the process's, which the library adds."""
        return chain(self._calls(), self._models(), (self._build,), self._machine())

    def _calls(self) -> Iterable[Metric]:
        total = CounterMetricFamily(
            "facegen_calls", "Calls ended, by status code", labels=("method", "code")
        )
        duration = HistogramMetricFamily(
            "facegen_call_duration_seconds", "How long calls took", labels=("method",)
        )
        in_flight = GaugeMetricFamily(
            "facegen_calls_in_flight", "Calls begun and not ended", labels=("method",)
        )
        for count in self._counts.read():
            for code, number in count.codes.items():
                total.add_metric((count.method, code.name), number)
            buckets = with_bounds(DURATION_BOUNDS_S, count.buckets)
            duration.add_metric((count.method,), buckets, sum_value=count.total_s)
            in_flight.add_metric((count.method,), count.in_flight)
        return total, duration, in_flight

    def _models(self) -> Iterable[Metric]:
        if self._engine is None:
            return ()
        try:
            statistics, index = self._engine.statistics(), self._engine.index()
        except FacegenError:  # closing, or a remote server out of reach: the rest still counts
            return ()
        return chain(model_metrics(statistics), (ready_metric(index),))

    def _machine(self) -> Iterable[Metric]:
        total, used = memory_bytes()
        return (
            GaugeMetricFamily(
                "nv_cpu_utilization",
                "CPU utilization rate [0.0 - 1.0]; of the machine, since the scrape before",
                self._cpu_use.read(),
            ),
            GaugeMetricFamily(
                "nv_cpu_memory_total_bytes", "CPU total memory (RAM), in bytes", total
            ),
            GaugeMetricFamily("nv_cpu_memory_used_bytes", "CPU used memory (RAM), in bytes", used),
        )


def _build() -> Metric:
    labels = {"python": platform.python_version()}
    for name in _DISTRIBUTIONS:
        try:
            labels[name.replace("-", "_")] = version(name)
        except PackageNotFoundError:  # one of the two ONNX Runtimes at least
            continue
    build = GaugeMetricFamily(
        "facegen_build_info", "Versions of what serves; always 1", labels=tuple(labels)
    )
    build.add_metric(tuple(labels.values()), 1)
    return build
