"""Requests as they wait, and the pieces of them that run."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from facegen.serving.call_context import CallContext
from facegen.serving.engine import Array, Done, Tensors
from facegen.serving.scheduling.timers import Timer

if TYPE_CHECKING:
    from facegen.serving.scheduling.row_queue import RowQueue

__all__ = ["Key", "Piece", "Request", "batch_key"]

Key = tuple[object, ...]


@dataclass(slots=True, eq=False)
class Request:
    """Rows that one caller waits for.

    Attributes:
        inputs: What to run: (rows, …) each, if the model batches.
        outputs: The outputs wanted; empty means all.
        rows: How many rows.
        done: Takes the answer.
        context: The call's.
        key: What requests have in common that share a batch.
        arrived_ns: When it came, by `time.monotonic_ns()`, as all times here are.
        deadline: When the answer is of no use any more, in seconds.
        demoted_at: When it gives up waiting or is delayed, unless it has begun, in seconds.
        rank: Its place among the queues, lowest first.
        queue: The queue it waits in; None: it waits no more.
        timer: Calls when one of its times has come.
        cancel: What the context calls when it is cancelled.
        settled: Whether its answer is on the way.
        answer: Its outputs, while earlier requests have not been answered.
        taken: Rows that left the queue, from the first on.
        ran: Rows that ran.
        parts: Their outputs, by their first row.
        began_ns: When its first row was taken; 0: none was.
        joining_ns: How long joining inputs took in the executions of its rows.
        running_ns: How long the model did.
        splitting_ns: How long splitting outputs did.
    """

    inputs: Tensors
    outputs: tuple[str, ...]
    rows: int
    done: Done
    context: CallContext
    key: Key
    arrived_ns: int
    deadline: float = math.inf
    demoted_at: float = math.inf
    rank: int = 0
    queue: "RowQueue | None" = None
    timer: Timer | None = None
    cancel: Callable[[], None] | None = None
    settled: bool = False
    answer: dict[str, Array] | None = None
    taken: int = 0
    ran: int = 0
    parts: dict[int, dict[str, Array]] = field(default_factory=dict)
    began_ns: int = 0
    joining_ns: int = 0
    running_ns: int = 0
    splitting_ns: int = 0


class Piece(NamedTuple):
    """Rows `start` to `stop - 1` of a request, in one batch."""

    request: Request
    start: int
    stop: int


def batch_key(inputs: Tensors, outputs: tuple[str, ...]) -> Key:
    """What requests that share a batch have in common: names, dtypes, shapes of rows, outputs."""
    parts = [(name, array.dtype, array.shape[1:]) for name, array in inputs.items()]
    if len(parts) > 1:
        parts.sort(key=lambda part: part[0])
    return (outputs, *parts)
