"""Rows that wait for a model: requests in a queue, taken from in batches, fairly."""

import asyncio
import math
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from facegen.serving.engine import Array, Tensors

__all__ = ["Piece", "Request", "RowQueue"]


@dataclass(slots=True, eq=False)
class Request:
    """Rows that one caller waits for.

    Attributes:
        inputs: What to run, (rows, …) each.
        rows: How many rows.
        answer: Where the caller waits; belongs to its event loop.
        deadline: When the answer is of no use any more, on the event loop's clock.
        due: When its rows need wait no longer for others to fill a batch, on the same clock.
        taken: Rows that left the queue, from the first on.
        turn: Rows taken since the request last came to the front.
        parts: Outputs of rows that ran, by their first row.
        done: How many rows these are.
    """

    inputs: Tensors
    rows: int
    answer: asyncio.Future[dict[str, Array]]
    deadline: float = math.inf
    due: float = 0.0
    taken: int = 0
    turn: int = 0
    parts: dict[int, dict[str, Array]] = field(default_factory=dict)
    done: int = 0


@dataclass(frozen=True, slots=True)
class Piece:
    """Rows `start` to `stop - 1` of a request, in one batch."""

    request: Request
    start: int
    stop: int


class RowQueue:
    """Requests in the order they came, except that a large one yields after its turn.

    First in, first out answers the first callers early and keeps answers from coming all at once;
    the end of a turn keeps a request of many rows from starving those behind it.

    Not safe for threads by itself.

    Args:
        turn_rows: Rows that a request may take before it goes behind the others.
    """

    def __init__(self, turn_rows: int) -> None:
        self._requests: deque[Request] = deque()
        self._turn_rows = turn_rows
        self.rows = 0

    def __iter__(self) -> Iterator[Request]:
        return (request for request in self._requests if request.taken < request.rows)

    def push(self, request: Request) -> None:
        """Put a request behind the others."""
        self._requests.append(request)
        self.rows += request.rows

    def drop(self, request: Request) -> None:
        """Forget the rows of a request that have not been taken."""
        self.rows -= request.rows - request.taken
        request.taken = request.rows  # what is left of it in the deque is passed over
        if not self.rows:
            self._requests.clear()

    def take(self, limit: int, now: float) -> list[Piece]:
        """Take the rows of the next batch.

        Args:
            limit: The most rows.
            now: The time; rows of requests whose deadline has come are dropped.

        Returns:
            Pieces of at most `limit` rows together; none if nothing waits.
        """
        pieces = []
        requests = self._requests
        while requests and limit:
            request = requests[0]
            if request.deadline <= now:
                requests.popleft()
                self.drop(request)
                continue
            count = min(limit, request.rows - request.taken)
            if count:
                start = request.taken
                request.taken += count
                request.turn += count
                self.rows -= count
                limit -= count
                pieces.append(Piece(request, start, request.taken))
            if request.taken == request.rows:
                requests.popleft()
            elif request.turn >= self._turn_rows:
                request.turn = 0
                requests.rotate(-1)
        return pieces
