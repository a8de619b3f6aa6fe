"""From a model's configuration to the settings of its batcher."""

from collections.abc import Mapping
from typing import Any

from tritonclient.grpc import model_config_pb2 as pb

from facegen.serving.scheduling.policy import BatcherSettings, QueuePolicy

__all__ = ["batcher_settings"]

# Of fewer rows, waking another thread costs more than it gains.
_CPU_MIN_SHARE_ROWS = 2
_TURN_ROWS = 32


def batcher_settings(
    config: Any,
    *,
    device: str,
    max_batch_rows: int,
    max_queue_rows: int,
    concurrency: int,
    preferred_batch_rows: tuple[int, ...],
) -> BatcherSettings:
    """Say how to batch a model.

    A max_batch_size of 1 or more says that rows are independent, so they are batched with or
    without `dynamic_batching`; that field brings delay, preferred sizes, priorities and queues.

    Args:
        config: The complete `ModelConfig`.
        device: Where it runs.
        max_batch_rows: The most rows of one execution; 0: it has no batch axis.
        max_queue_rows: Rows that may wait.
        concurrency: Executions at a time.
        preferred_batch_rows: The preferred sizes that its author wrote.
    """
    dynamic = config.dynamic_batching
    return BatcherSettings(
        max_batch_rows=max_batch_rows,
        concurrency=concurrency,
        max_queue_rows=max_queue_rows,
        max_queue_delay_s=dynamic.max_queue_delay_microseconds / 1e6,
        preferred_batch_rows=tuple(n for n in preferred_batch_rows if 0 < n <= max_batch_rows),
        turn_rows=max(_TURN_ROWS, max_batch_rows),
        min_share_rows=_CPU_MIN_SHARE_ROWS if device == "cpu" else max(1, max_batch_rows),
        bucketed=device == "cuda",
        priority_levels=dynamic.priority_levels,
        default_priority=dynamic.default_priority_level or 1,
        default_policy=_policy(dynamic.default_queue_policy),
        policies=_policies(dynamic),
        preserve_ordering=dynamic.preserve_ordering,
    )


def _policies(dynamic: Any) -> Mapping[int, QueuePolicy]:
    return {level: _policy(policy) for level, policy in dynamic.priority_queue_policy.items()}


def _policy(policy: Any) -> QueuePolicy:
    delay = policy.timeout_action == pb.ModelQueuePolicy.DELAY
    return QueuePolicy(
        max_queue_size=policy.max_queue_size,
        default_timeout_s=policy.default_timeout_microseconds / 1e6,
        timeout_action="DELAY" if delay else "REJECT",
        allow_timeout_override=policy.allow_timeout_override,
    )
