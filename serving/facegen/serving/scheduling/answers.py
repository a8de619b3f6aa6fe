"""Answers on their way to the callers: counted, in order where wanted, given outside of locks."""

import logging
import time
from collections import deque

from facegen.errors import FacegenError
from facegen.serving.engine import Array
from facegen.serving.scheduling.accounts import count_success, trace_wait
from facegen.serving.scheduling.priority_queue import PriorityQueue
from facegen.serving.scheduling.request import Request
from facegen.serving.statistics import ModelStatistics

__all__ = ["Answers"]

_LOGGER = logging.getLogger(__name__)

_Answer = dict[str, Array] | FacegenError


class Answers:
    """Decides and counts answers under a lock, the statistics', and gives them under none.

    A request is settled once, by whatever comes first, and `done` is called once. Methods are
    called with the lock held, except `deliver`.

    Args:
        queue: Where requests wait until they are settled.
        statistics: What counts them.
        ordered: Whether answers go out one after the other, in the order of the requests. An error
            waits for nobody.
    """

    def __init__(self, queue: PriorityQueue, statistics: ModelStatistics, *, ordered: bool) -> None:
        self._queue = queue
        self._statistics = statistics
        self._lock = statistics.lock
        self._ordered = ordered
        self._line: deque[Request] = deque()  # requests in order, where that counts
        self._outbox: list[tuple[Request, _Answer]] = []
        self._delivering = False
        self.owed = 0

    def expect(self, request: Request) -> None:
        """Note that a request will be answered."""
        self.owed += 1
        if self._ordered:
            self._line.append(request)

    def finish(self, request: Request, outputs: dict[str, Array]) -> None:
        """Answer a request of which all rows ran, if nothing settled it before."""
        if request.settled:
            return
        if not self._ordered:
            self._succeed(request, outputs)
        else:
            request.answer = outputs
            self._advance()

    def fail(self, request: Request, error: FacegenError, *, reason: str = "") -> None:
        """End a request, if nothing settled it before; what is left of it leaves the queue.

        Args:
            request: The request.
            error: Its answer.
            reason: What to count it as; empty: it is not counted.
        """
        if request.settled:
            return
        self._queue.drop(request)
        if reason:
            self._statistics.fail(reason, time.monotonic_ns() - request.arrived_ns)
        self._settle(request, error)
        self._advance()

    def deliver(self) -> None:
        """Call the callers back; what another thread is giving in order, it goes on to give."""
        while True:
            with self._lock:
                answered = self._outbox
                if not answered or (self._delivering and self._ordered):
                    return
                self._outbox = []
                self._delivering = True
            for request, answer in answered:
                _answer(request, answer)
            with self._lock:
                self._delivering = False
                self.owed -= len(answered)
            if not self._ordered:
                return

    def _advance(self) -> None:
        """Answer those in line before whom nobody is left to wait for."""
        while self._line and (self._line[0].settled or self._line[0].answer is not None):
            request = self._line.popleft()
            if not request.settled and request.answer is not None:
                self._succeed(request, request.answer)

    def _succeed(self, request: Request, outputs: dict[str, Array]) -> None:
        count_success(self._statistics, request)
        self._settle(request, outputs)

    def _settle(self, request: Request, answer: _Answer) -> None:
        request.settled = True
        if request.timer is not None:
            request.timer.cancel()
        self._outbox.append((request, answer))


def _answer(request: Request, answer: _Answer) -> None:
    if not request.began_ns:
        trace_wait(request, time.monotonic_ns())
    if request.cancel is not None:
        request.context.forget(request.cancel)
        request.cancel = None  # it holds the request, and so its rows
    try:
        request.done(answer)
    except Exception:  # the caller's code: it must not harm the other callers
        _LOGGER.exception("answering failed request=%s", request.context.request_id)
