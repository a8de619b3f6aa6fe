"""What models did, as Prometheus metrics.

The names `nv_…` are Triton's, with its labels, so that its dashboards work. Of its failure reasons
REJECTED takes our timeouts too: Triton counts under it what its queue refused and what it gave up.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import accumulate

from prometheus_client.core import (
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
    UntypedMetricFamily,
)

from facegen.serving.engine import VersionState
from facegen.serving.statistics import ModelStatistics

__all__ = ["model_metrics", "ready_metric", "with_bounds"]

_BATCH_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
_LABELS = ("model", "version")
_REASONS = {
    "REJECTED": ("REJECTED", "TIMEOUT"),
    "CANCELED": ("CANCELED",),
    "BACKEND": ("BACKEND",),
    "OTHER": ("OTHER",),
}
_CACHED = "(includes cached requests)"
_UNCACHED = "(does not include cached requests)"
_TRITON_COUNTERS: Mapping[str, tuple[str, Callable[[ModelStatistics], int]]] = {
    "nv_inference_request_success": (
        "Number of successful inference requests, all batch sizes",
        lambda model: model.success.count,
    ),
    "nv_inference_count": (
        f"Number of inferences performed {_UNCACHED}",
        lambda model: model.inference_count,
    ),
    "nv_inference_exec_count": (
        f"Number of model executions performed {_UNCACHED}",
        lambda model: model.execution_count,
    ),
    "nv_inference_request_duration_us": (
        f"Cumulative inference request duration in microseconds {_CACHED}",
        lambda model: model.success.total_ns // 1000,
    ),
    "nv_inference_queue_duration_us": (
        f"Cumulative inference queuing duration in microseconds {_CACHED}",
        lambda model: model.queue.total_ns // 1000,
    ),
    "nv_inference_compute_input_duration_us": (
        f"Cumulative compute input duration in microseconds {_UNCACHED}",
        lambda model: model.compute_input.total_ns // 1000,
    ),
    "nv_inference_compute_infer_duration_us": (
        f"Cumulative compute inference duration in microseconds {_UNCACHED}",
        lambda model: model.compute_infer.total_ns // 1000,
    ),
    "nv_inference_compute_output_duration_us": (
        f"Cumulative inference compute output duration in microseconds {_UNCACHED}",
        lambda model: model.compute_output.total_ns // 1000,
    ),
}


def model_metrics(statistics: Sequence[ModelStatistics]) -> Iterable[Metric]:
    """Tell what models did.

    Triton's counters lack the `_total` that the library puts behind a counter's name; they come
    untyped, as nothing else here does.
    """
    for name, (text, value) in _TRITON_COUNTERS.items():
        counter = UntypedMetricFamily(name, text, labels=_LABELS)
        for model in statistics:
            counter.add_metric((model.name, model.version), value(model))
        yield counter
    yield _failures(statistics)
    yield from _queues(statistics)
    yield _batch_rows(statistics)


def ready_metric(index: Sequence[VersionState]) -> Metric:
    """Tell which models serve."""
    ready = GaugeMetricFamily(
        "facegen_model_ready", "Whether a version of a model serves: 1 or 0", labels=_LABELS
    )
    for line in index:
        ready.add_metric((line.name, line.version), int(line.state == "READY"))
    return ready


def with_bounds(bounds: Sequence[float], counts: Sequence[int]) -> list[tuple[str, float]]:
    """Make a histogram's buckets of counts, of which there is one more than bounds."""
    names = [*(f"{bound:g}" for bound in bounds), "+Inf"]
    return list(zip(names, accumulate(counts), strict=True))


def _failures(statistics: Sequence[ModelStatistics]) -> Metric:
    failures = UntypedMetricFamily(
        "nv_inference_request_failure",
        "Number of failed inference requests, all batch sizes",
        labels=(*_LABELS, "reason"),
    )
    for model in statistics:
        for name, ours in _REASONS.items():
            count = sum(model.failures[reason].count for reason in ours if reason in model.failures)
            failures.add_metric((model.name, model.version, name), count)
    return failures


def _queues(statistics: Sequence[ModelStatistics]) -> Iterable[Metric]:
    requests = GaugeMetricFamily(
        "nv_inference_pending_request_count",
        "Instantaneous number of pending requests awaiting execution per-model.",
        labels=_LABELS,
    )
    rows = GaugeMetricFamily("facegen_queue_rows", "Rows that wait for a model", labels=_LABELS)
    for model in statistics:
        requests.add_metric((model.name, model.version), model.pending_requests)
        rows.add_metric((model.name, model.version), model.pending_rows)
    return requests, rows


def _batch_rows(statistics: Sequence[ModelStatistics]) -> Metric:
    histogram = HistogramMetricFamily(
        "facegen_batch_rows", "Rows of each execution of a model", labels=_LABELS
    )
    for model in statistics:
        counts = [0] * (len(_BATCH_ROWS) + 1)
        for rows, batch in model.batches.items():
            counts[bisect_left(_BATCH_ROWS, rows)] += batch.compute_infer.count
        total = sum(rows * batch.compute_infer.count for rows, batch in model.batches.items())
        histogram.add_metric(
            (model.name, model.version), with_bounds(_BATCH_ROWS, counts), sum_value=total
        )
    return histogram
