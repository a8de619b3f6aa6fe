"""What a model did, in Triton's terms: the one count that Statistics, metrics and doctor read."""

import threading
from dataclasses import dataclass, field, replace

__all__ = ["BatchStatistics", "Duration", "ModelStatistics"]


@dataclass(slots=True)
class Duration:
    """How often something happened and how long it took in all.

    Attributes:
        count: How often.
        total_ns: Nanoseconds in all.
    """

    count: int = 0
    total_ns: int = 0

    def add(self, duration_ns: int, count: int = 1) -> None:
        """Count one more, or several that took so long together."""
        self.count += count
        self.total_ns += duration_ns


@dataclass(slots=True)
class BatchStatistics:
    """What executions of one size did.

    Attributes:
        compute_input: Joining inputs.
        compute_infer: Running the graph.
        compute_output: Splitting outputs.
    """

    compute_input: Duration = field(default_factory=Duration)
    compute_infer: Duration = field(default_factory=Duration)
    compute_output: Duration = field(default_factory=Duration)


@dataclass(slots=True)
class ModelStatistics:
    """What one version of a model did since it was first loaded; reloading does not reset it.

    Who counts holds its lock; what an engine hands out are copies.

    Attributes:
        name: The model.
        version: Its version.
        last_inference_ms: When the last execution ended, milliseconds since 1970; 0: never.
        inference_count: Rows that ran (requests, where the model has no batch axis).
        execution_count: Executions.
        success: Requests answered, from arrival to answer.
        failures: Requests not answered, by reason: REJECTED (queue full), TIMEOUT, CANCELED,
            BACKEND (the runtime failed), OTHER.
        queue: Of requests answered, the time before their first row ran.
        compute_input: Of requests answered, the time of joining inputs.
        compute_infer: Of requests answered, the time in the graph.
        compute_output: Of requests answered, the time of splitting outputs.
        batches: What executions did, by their rows.
        pending_rows: Rows that wait now.
        pending_requests: Requests of which no row has run yet.
        lock: Guards it all.
    """

    name: str
    version: str
    last_inference_ms: int = 0
    inference_count: int = 0
    execution_count: int = 0
    success: Duration = field(default_factory=Duration)
    failures: dict[str, Duration] = field(default_factory=dict)
    queue: Duration = field(default_factory=Duration)
    compute_input: Duration = field(default_factory=Duration)
    compute_infer: Duration = field(default_factory=Duration)
    compute_output: Duration = field(default_factory=Duration)
    batches: dict[int, BatchStatistics] = field(default_factory=dict)
    pending_rows: int = 0
    pending_requests: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    def fail(self, reason: str, duration_ns: int) -> None:
        """Count a request that was not answered."""
        self.failures.setdefault(reason, Duration()).add(duration_ns)

    def copy(self) -> "ModelStatistics":
        """Copy it, all the way down; whoever calls holds the lock."""
        return replace(
            self,
            lock=threading.Lock(),
            success=replace(self.success),
            failures={reason: replace(failure) for reason, failure in self.failures.items()},
            queue=replace(self.queue),
            compute_input=replace(self.compute_input),
            compute_infer=replace(self.compute_infer),
            compute_output=replace(self.compute_output),
            batches={
                rows: BatchStatistics(
                    replace(batch.compute_input),
                    replace(batch.compute_infer),
                    replace(batch.compute_output),
                )
                for rows, batch in self.batches.items()
            },
        )
