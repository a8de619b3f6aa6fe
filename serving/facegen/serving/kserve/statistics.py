"""The engine's statistics in the protocol's terms."""

from typing import Any

from tritonclient.grpc import service_pb2

from facegen.serving.statistics import Duration, ModelStatistics

__all__ = ["statistics_message"]


def statistics_message(statistics: ModelStatistics) -> Any:
    """Translate what a version of a model did."""
    failed = Duration()
    for failure in statistics.failures.values():
        failed.add(failure.total_ns, failure.count)
    return service_pb2.ModelStatistics(
        name=statistics.name,
        version=statistics.version,
        last_inference=statistics.last_inference_ms,
        inference_count=statistics.inference_count,
        execution_count=statistics.execution_count,
        inference_stats=service_pb2.InferStatistics(
            success=_duration(statistics.success),
            fail=_duration(failed),
            queue=_duration(statistics.queue),
            compute_input=_duration(statistics.compute_input),
            compute_infer=_duration(statistics.compute_infer),
            compute_output=_duration(statistics.compute_output),
            # There is no cache of answers: nothing hits or misses it.
            cache_hit=_duration(Duration()),
            cache_miss=_duration(Duration()),
        ),
        batch_stats=[
            service_pb2.InferBatchStatistics(
                batch_size=rows,
                compute_input=_duration(batch.compute_input),
                compute_infer=_duration(batch.compute_infer),
                compute_output=_duration(batch.compute_output),
            )
            for rows, batch in sorted(statistics.batches.items())
        ],
    )


def _duration(duration: Duration) -> Any:
    return service_pb2.StatisticDuration(count=duration.count, ns=duration.total_ns)
