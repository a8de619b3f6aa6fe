"""How batches are formed and how long requests wait: the knobs of Triton's dynamic batching."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

__all__ = ["BatcherSettings", "QueuePolicy"]


@dataclass(frozen=True, slots=True)
class QueuePolicy:
    """How the requests of a priority level wait: Triton's `ModelQueuePolicy`.

    The deadline of a call counts under every policy; a timeout here is about waiting alone.

    Attributes:
        max_queue_size: Requests that may wait; 0: any number, within the rows.
        default_timeout_s: Seconds that a request may wait before it begins; 0: for ever.
        timeout_action: What then becomes of it. REJECT: it ends with `DeadlineError`; DELAY: it
            runs when nothing else of its level or a higher one waits.
        allow_timeout_override: Whether a request's own timeout may shorten that. Without a default
            timeout it always counts.
    """

    max_queue_size: int = 0
    default_timeout_s: float = 0.0
    timeout_action: Literal["REJECT", "DELAY"] = "REJECT"
    allow_timeout_override: bool = False

    def own_timeout_s(self, timeout_s: float) -> float:
        """A request's own timeout as far as it counts; 0: it does not."""
        return timeout_s if self.allow_timeout_override or not self.default_timeout_s else 0.0


@dataclass(frozen=True, slots=True)
class BatcherSettings:
    """How a batcher forms batches.

    Attributes:
        max_batch_rows: The most rows of one execution; 0: the model has no batch axis, each request
            runs alone and counts as one row.
        concurrency: The most executions at a time.
        max_queue_rows: Rows that may wait; rows of lower priority do not count. A request with more
            is taken if none wait.
        max_queue_delay_s: Seconds that rows may wait for others to fill a batch; 0: none.
        preferred_batch_rows: Sizes of batches, above which none is formed, that run without delay.
        turn_rows: Rows of one client, or of one request, that run before those behind it.
        min_share_rows: Rows that are not shared out among several workers that are free.
        bucketed: Whether batches are filled up to a power of two, so that few shapes occur.
        priority_levels: How many priorities there are, 1 the highest; 0: requests are all equal.
        default_priority: The level of requests that name none, or none of these.
        default_policy: How requests wait.
        policies: How they do on single levels instead.
        preserve_ordering: Whether answers come in the order of the requests; errors do not wait.
    """

    max_batch_rows: int
    concurrency: int = 1
    max_queue_rows: int = 2048
    max_queue_delay_s: float = 0.0
    preferred_batch_rows: tuple[int, ...] = ()
    turn_rows: int = 32
    min_share_rows: int = 1
    bucketed: bool = False
    priority_levels: int = 0
    default_priority: int = 1
    default_policy: QueuePolicy = QueuePolicy()
    policies: Mapping[int, QueuePolicy] = field(default_factory=dict)
    preserve_ordering: bool = False

    def executed_rows(self, rows: int) -> int:
        """How many rows to execute for a batch of so many."""
        if not self.bucketed:
            return rows
        return min(self.max_batch_rows, 1 << (rows - 1).bit_length())

    def level(self, priority: int) -> int:
        """The priority level of a request that asks for this one."""
        if not self.priority_levels:
            return 1
        return priority if 1 <= priority <= self.priority_levels else self.default_priority

    def policy(self, level: int) -> QueuePolicy:
        """How requests of a level wait."""
        return self.policies.get(level, self.default_policy)
