"""Answers on their way to the callers: counted, in order where wanted, given outside of locks."""

import logging
import threading
import time
from collections import deque
from collections.abc import Sequence

from facegen.errors import FacegenError
from facegen.serving.engine import Array
from facegen.serving.scheduling.accounts import trace_wait
from facegen.serving.scheduling.request import Request

__all__ = ["Answers"]

_LOGGER = logging.getLogger(__name__)


class Answers:
    """Holds answers from when they are decided, under a lock, until `done` is called, under none.

    Args:
        lock: Guards all here; methods are called with it held, except `deliver`.
        ordered: Whether answers go out one after the other and in the order of the requests.
    """

    def __init__(self, lock: threading.Lock, *, ordered: bool) -> None:
        self._lock = lock
        self._ordered = ordered
        self._line: deque[Request] = deque()
        self._outbox: list[tuple[Request, dict[str, Array] | FacegenError]] = []
        self._delivering = False
        self.owed = 0

    def expect(self, request: Request) -> None:
        """Note that a request will be answered."""
        self.owed += 1
        if self._ordered:
            self._line.append(request)

    def put(self, request: Request, answer: dict[str, Array] | FacegenError) -> None:
        """Settle a request; its answer goes out at the next delivery."""
        request.settled = True
        if request.timer is not None:
            request.timer.cancel()
        self._outbox.append((request, answer))

    def ready(self, request: Request) -> Sequence[Request]:
        """Tell which requests may be answered now that this one has an answer or was settled."""
        if not self._ordered:
            return () if request.settled else (request,)
        ready = []
        while self._line and (self._line[0].settled or self._line[0].answer is not None):
            request = self._line.popleft()
            if not request.settled:
                ready.append(request)
        return ready

    def deliver(self) -> None:
        """Call the callers back; what another thread is delivering in order is left to it."""
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


def _answer(request: Request, answer: dict[str, Array] | FacegenError) -> None:
    if not request.began_ns:
        trace_wait(request, time.monotonic_ns())
    if request.cancel is not None:
        request.context.forget(request.cancel)
        request.cancel = None  # it holds the request, and so its rows
    try:
        request.done(answer)
    except Exception:  # the caller's code: it must not harm the other callers
        _LOGGER.exception("answering failed request_id=%s", request.context.request_id)
