"""What ran and how long it took, counted in Triton's terms and shown to traces."""

import time
from collections.abc import Sequence

from facegen.serving.scheduling.batch import Execution
from facegen.serving.scheduling.request import Piece, Request
from facegen.serving.statistics import BatchStatistics, ModelStatistics

__all__ = ["count_execution", "count_success", "trace_execution", "trace_wait"]


def count_execution(
    statistics: ModelStatistics, pieces: Sequence[Piece], rows: int, execution: Execution
) -> None:
    """Count an execution, and its times for each request with rows in it. Its lock is held."""
    joining_ns = execution.joined_ns - execution.began_ns
    running_ns = execution.ran_ns - execution.joined_ns
    splitting_ns = execution.split_ns - execution.ran_ns
    statistics.inference_count += rows
    statistics.execution_count += 1
    statistics.last_inference_ms = time.time_ns() // 1_000_000
    batch = statistics.batches.get(rows)
    if batch is None:
        batch = statistics.batches[rows] = BatchStatistics()
    batch.compute_input.add(joining_ns)
    batch.compute_infer.add(running_ns)
    batch.compute_output.add(splitting_ns)
    for request, _, _ in pieces:
        request.joining_ns += joining_ns
        request.running_ns += running_ns
        request.splitting_ns += splitting_ns


def count_success(statistics: ModelStatistics, request: Request) -> None:
    """Count a request that is about to be answered. The statistics' lock is held."""
    statistics.success.add(time.monotonic_ns() - request.arrived_ns)
    statistics.queue.add(request.began_ns - request.arrived_ns)
    statistics.compute_input.add(request.joining_ns)
    statistics.compute_infer.add(request.running_ns)
    statistics.compute_output.add(request.splitting_ns)


def trace_execution(pieces: Sequence[Piece], rows: int, execution: Execution) -> None:
    """Show an execution to the traces of the requests with rows in it."""
    for request, start, stop in pieces:
        spans = request.context.spans
        if spans is None or request.settled:
            continue
        epoch_ns = time.time_ns() - time.monotonic_ns()
        if start == 0:
            trace_wait(request, request.began_ns)
        facts: dict[str, str | int] = {"rows": stop - start, "batch_rows": rows}
        spans.add("batch", execution.began_ns + epoch_ns, execution.split_ns + epoch_ns, facts)
        spans.add("compute", execution.joined_ns + epoch_ns, execution.ran_ns + epoch_ns, facts)


def trace_wait(request: Request, until_ns: int) -> None:
    """Show how long a request waited to its trace."""
    spans = request.context.spans
    if spans is not None:
        epoch_ns = time.time_ns() - time.monotonic_ns()
        facts: dict[str, str | int] = {"rows": request.rows}
        spans.add("queue", request.arrived_ns + epoch_ns, until_ns + epoch_ns, facts)
