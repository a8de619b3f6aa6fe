"""When a batch may run, and of how many rows: full, preferred, or waited for long enough."""

import math
import time
from collections import deque

from facegen.serving.scheduling.policy import BatcherSettings
from facegen.serving.scheduling.request import Request

__all__ = ["Pace"]


class Pace:
    """Decides what to run of what waits; not safe for threads by itself.

    Args:
        settings: How to form batches.
    """

    def __init__(self, settings: BatcherSettings) -> None:
        self.max_rows = settings.max_batch_rows or 1
        self.min_share_rows = max(1, min(settings.min_share_rows, self.max_rows))
        preferred = (rows for rows in settings.preferred_batch_rows if 0 < rows <= self.max_rows)
        self._preferred = sorted(preferred, reverse=True)
        self._delay_s = settings.max_queue_delay_s
        self._arrivals: deque[Request] = deque()  # in order, where there is a delay
        self.closed = False

    def arrive(self, request: Request) -> None:
        """Note a request that begins to wait."""
        if self._delay_s:
            self._arrivals.append(request)

    def due(self) -> float:
        """When the oldest request will have waited long enough for others."""
        arrivals = self._arrivals
        while arrivals and arrivals[0].queue is None:
            arrivals.popleft()
        return arrivals[0].arrived_ns / 1e9 + self._delay_s if arrivals else -math.inf

    def rows(self, waiting: int, *, sharing: int) -> int:
        """How many rows to run now.

        Args:
            waiting: Rows that wait.
            sharing: How many workers are about to take rows, this one included.

        Returns:
            0 if nothing waits, or what waits is to wait for more.
        """
        for preferred in self._preferred:
            if preferred <= waiting:
                return preferred
        if waiting < self.max_rows and not self.closed and self.due() > time.monotonic():
            return 0
        share = max(self.min_share_rows, -(-waiting // sharing))
        return min(self.max_rows, share, waiting)
