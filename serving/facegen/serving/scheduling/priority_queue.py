"""Everything that waits for a model, by priority."""

from bisect import insort
from collections.abc import Iterator

from facegen.serving.scheduling.request import Piece, Request
from facegen.serving.scheduling.row_queue import RowQueue

__all__ = ["PriorityQueue"]


class PriorityQueue:
    """Queues by rank, the lowest rank first; a batch is filled from as many as it takes.

    Each priority level has an even rank for its requests and the odd one after it for those that
    were delayed, so that they come after the level's others and before the next level.

    Not safe for threads by itself.

    Args:
        turn_rows: Rows that a client may take before the next one's turn.
    """

    def __init__(self, turn_rows: int) -> None:
        self._turn_rows = turn_rows
        self._queues: dict[int, RowQueue] = {}  # made when needed: a model may have many levels
        self._ranks: list[int] = []
        self.rows = 0

    def __iter__(self) -> Iterator[Request]:
        return (request for queue in self._queues.values() for request in queue)

    def push(self, request: Request, level: int) -> None:
        """Put a request behind those of its level."""
        self._push(request, 2 * level)

    def delay(self, request: Request) -> None:
        """Put a request that waits behind all others of its level."""
        self.drop(request)
        self._push(request, request.rank | 1)

    def drop(self, request: Request) -> None:
        """Take out a request, if it waits."""
        if request.queue is not None:
            self.rows -= request.rows - request.taken
            request.queue.drop(request)

    def take(self, limit: int, now: float) -> list[Piece]:
        """Take the rows of the next batch.

        Args:
            limit: The most rows.
            now: The time; requests whose deadline has come are dropped.

        Returns:
            Pieces of at most `limit` rows together, one a request; none if nothing waits.
        """
        starts: dict[Request, int] = {}
        for rank in self._ranks:
            queue = self._queues[rank]
            before = queue.rows
            if before:
                limit -= queue.take(starts, limit, now)
                self.rows -= before - queue.rows
                if not limit:
                    break
        return [Piece(request, start, request.taken) for request, start in starts.items()]

    def rows_before(self, level: int) -> int:
        """Count the rows that wait at a level or a higher one."""
        if len(self._ranks) == 1:
            return self.rows
        return sum(queue.rows for rank, queue in self._queues.items() if rank // 2 <= level)

    def request_count(self, level: int) -> int:
        """Count the requests that wait at a level."""
        return sum(queue.count for rank, queue in self._queues.items() if rank // 2 == level)

    def _push(self, request: Request, rank: int) -> None:
        queue = self._queues.get(rank)
        if queue is None:
            queue = self._queues[rank] = RowQueue(self._turn_rows)
            insort(self._ranks, rank)
        request.rank = rank
        queue.push(request)
        self.rows += request.rows - request.taken
