"""The dynamic batcher: joins the rows of many requests and splits those of large ones."""

import logging
import math
import threading
import time
from functools import partial

from facegen.serving.engine import Done, InferRequest
from facegen.serving.errors import (
    CallCancelledError,
    DeadlineError,
    EngineClosedError,
    QueueFullError,
    QueueTooLongError,
)
from facegen.serving.scheduling.answers import Answers
from facegen.serving.scheduling.batch import Run, row_count
from facegen.serving.scheduling.pace import Pace
from facegen.serving.scheduling.policy import BatcherSettings
from facegen.serving.scheduling.priority_queue import PriorityQueue
from facegen.serving.scheduling.request import Piece, Request, batch_key
from facegen.serving.scheduling.runner import Runner
from facegen.serving.scheduling.timers import Timer, Timers
from facegen.serving.scheduling.workers import Workers
from facegen.serving.statistics import ModelStatistics

__all__ = ["Batcher"]

_LOGGER = logging.getLogger(__name__)

_MIN_RETRY_S = 0.01
# Of the time that a request has, what it may wait: the rest is for running, answering and error.
_MOST_OF_TIME_LEFT = 0.7
# The weight of the newest batch in what a row takes.
_NEWEST = 0.1


class Batcher:
    """Batches the rows of one model.

    It conserves work: a batch is formed by the thread that runs it, at the moment that it is free,
    of what waits then. Between batches no other thread is woken.

    Args:
        name: The model's name, for messages.
        run: Runs the model on a batch, in a worker: takes inputs and the names of the outputs
            wanted, none meaning all; the outputs have the rows of the inputs.
        workers: Where it runs.
        timers: What tells that a deadline has come.
        settings: How to form batches.
        statistics: What it counts in. Batchers of one version, the old one finishing while the new
            one begins, share it, and so its lock.
    """

    def __init__(
        self,
        name: str,
        run: Run,
        *,
        workers: Workers,
        timers: Timers,
        settings: BatcherSettings,
        statistics: ModelStatistics,
    ) -> None:
        self._name = name
        self._workers = workers
        self._timers = timers
        self._settings = settings
        self._statistics = statistics
        self._lock = statistics.lock  # guards all below
        self._queue = PriorityQueue(settings.turn_rows)
        self._pace = Pace(settings)
        self._answers = Answers(self._queue, statistics, ordered=settings.preserve_ordering)
        self._runner = Runner(
            name, run, settings=settings, statistics=statistics, answers=self._answers
        )
        self._active = 0  # tasks put to the workers or running
        self._waking = 0  # those of them that have not begun
        self._row_s = 0.001  # what a row takes a worker, answers included: a moving average
        self._flush_timer: Timer | None = None
        self._drained = threading.Event()

    def submit(self, request: InferRequest, rows: int, done: Done) -> None:
        """Run rows, in batches with other callers' rows; never blocks, never raises.

        `done` is called once, from any thread and outside of locks, with what `run` gives for these
        rows or with one of these errors. All are counted but `EngineClosedError`, so that the
        request can go to the model's next batcher.

        QueueFullError: Too many rows or requests wait, or what waits takes longer than the
            request has. Retry later.
        DeadlineError: The deadline passed; rows that had not begun never run.
        CallCancelledError: The call was cancelled; likewise.
        EngineClosedError: The batcher closes. Retry elsewhere.
        InferenceError: `run` failed on these rows.

        Args:
            request: What to run, checked; its inputs are not changed by the caller.
            rows: At least 1; 1 if there is no batch axis.
            done: Takes the answer; must be quick.
        """
        key = batch_key(request.inputs, request.outputs)
        waiting = Request(
            request.inputs,
            request.outputs,
            rows,
            done,
            request.context,
            key,
            time.monotonic_ns(),
            request.context.deadline,
        )
        with self._lock:
            accepted = self._accept(waiting)
        if not accepted:
            self._deliver()
            return
        cancel = waiting.cancel = partial(self._cancel, waiting)
        waiting.context.on_cancel(cancel)
        if waiting.settled:  # perhaps before the context knew whom to call
            waiting.context.forget(cancel)
            waiting.cancel = None

    def statistics(self) -> ModelStatistics:
        """Copy what was counted."""
        with self._lock:
            copy = self._statistics.copy()
            copy.pending_rows = self._queue.rows
            copy.pending_requests = sum(not request.began_ns for request in self._queue)
            return copy

    def close(self) -> None:
        """Refuse new rows, finish and answer those that wait; blocks. Not for a `done` to call."""
        with self._lock:
            self._pace.closed = True
            self._start_workers()
        self._deliver()
        self._drained.wait()
        if self._flush_timer is not None:
            self._flush_timer.cancel()

    # Requests come and go. Underscored methods are called with the lock held, unless they take it.

    def _accept(self, request: Request) -> bool:
        """Let a request wait, or settle it at once."""
        level = self._settings.level(request.context.priority)
        self._set_times(request, level)
        self._answers.expect(request)
        if self._pace.closed:
            self._answers.fail(request, EngineClosedError(f'model "{self._name}"'))
        elif request.context.cancelled:
            self._answers.fail(request, CallCancelledError(), reason="CANCELED")
        elif request.deadline <= time.monotonic():
            self._expire(request)
        elif full := self._refusal(request, level):
            self._answers.fail(request, full, reason="REJECTED")
        else:
            self._queue.push(request, level)
            self._pace.arrive(request)
            self._set_timer(request)
            self._start_workers()
        return not request.settled

    def _set_times(self, request: Request, level: int) -> None:
        """Set when a request is of no use any more, and when it has waited too long to begin."""
        policy = self._settings.policy(level)
        own_s = request.context.queue_timeout_s
        if not own_s and not policy.default_timeout_s:
            return
        own_s = policy.own_timeout_s(own_s) or math.inf
        arrived = request.arrived_ns / 1e9
        request.demoted_at = arrived + min(own_s, policy.default_timeout_s or math.inf)
        if policy.timeout_action == "REJECT":
            request.deadline = min(request.deadline, arrived + own_s)

    def _refusal(self, request: Request, level: int) -> QueueFullError | None:
        """Tell whether a request finds its queue full, by rows or requests, or too long for it."""
        settings = self._settings
        rows = self._queue.rows_before(level)
        queued, limit = rows, settings.max_queue_rows
        full = queued and queued + request.rows > limit
        max_queue_size = settings.policy(level).max_queue_size
        if max_queue_size and not full:
            queued, limit = self._queue.request_count(level), max_queue_size
            full = queued >= limit
        wait_s = rows * self._row_s / settings.concurrency
        if full:
            retry_after_s = max(_MIN_RETRY_S, wait_s)
            return QueueFullError(
                self._name, request.rows, queued=queued, limit=limit, retry_after_s=retry_after_s
            )
        left_s = request.deadline - time.monotonic()
        if wait_s > _MOST_OF_TIME_LEFT * left_s:
            return QueueTooLongError(self._name, wait_s=wait_s, left_s=left_s)
        return None

    def _set_timer(self, request: Request) -> None:
        when = min(request.deadline, request.demoted_at)
        if when < math.inf:
            request.timer = self._timers.call_at(when, partial(self._on_time, request))

    def _on_time(self, request: Request) -> None:
        """Act on the deadline of a request, or on its having waited too long."""
        with self._lock:
            if request.settled:
                return
            if request.deadline > time.monotonic():
                self._demote(request)
            else:
                self._expire(request)
        self._deliver()

    def _demote(self, request: Request) -> None:
        """Reject or delay a request that has waited too long, unless it has begun."""
        delays = self._settings.policy(request.rank // 2).timeout_action == "DELAY"
        if not request.began_ns and not delays:
            request.deadline = request.demoted_at
            self._expire(request)
            return
        if not request.began_ns:
            self._queue.delay(request)
        request.demoted_at = math.inf
        self._set_timer(request)

    def _expire(self, request: Request) -> None:
        timeout_s = max(0.0, request.deadline - request.arrived_ns / 1e9)
        error = DeadlineError(self._name, timeout_s=timeout_s)
        self._answers.fail(request, error, reason="TIMEOUT")

    def _cancel(self, request: Request) -> None:
        with self._lock:
            self._answers.fail(request, CallCancelledError(), reason="CANCELED")
        self._deliver()

    def _deliver(self) -> None:
        """Give the answers that are decided, without the lock."""
        self._answers.deliver()
        if self._pace.closed:
            with self._lock:
                if not self._active and not self._answers.owed:
                    self._drained.set()

    # Batches run.

    def _start_workers(self) -> None:
        """Wake a worker for every share of the rows, less those about to begin."""
        rows = self._queue.rows
        if not self._pace.rows(rows, sharing=1):
            if rows and self._flush_timer is None:
                self._flush_timer = self._timers.call_at(self._pace.due(), self._flush)
            return
        shares = -(-rows // self._pace.min_share_rows)
        while self._waking < shares and self._active < self._settings.concurrency:
            self._waking += 1
            self._active += 1
            self._workers.put(self._work)

    def _flush(self) -> None:
        """Let rows run that have waited long enough for others."""
        with self._lock:
            self._flush_timer = None
            self._start_workers()

    def _work(self) -> None:
        """Run one batch in a worker, and come back behind other models if more waits."""
        pieces: list[Piece] = []
        began = time.monotonic()
        try:
            with self._lock:
                self._waking -= 1
                pieces = self._take()
            if pieces:
                self._runner.execute(pieces)
        except Exception as error:  # a bug of ours: its requests end, the worker's place does not
            _LOGGER.exception("batch broke model=%s", self._name)
            for request, _, _ in pieces:
                self._runner.fail(request, error)
        finally:
            with self._lock:
                # Before the answers, so that what they bring about finds this worker free.
                self._active -= 1
                self._start_workers()
        self._deliver()
        if pieces:
            row_s = (time.monotonic() - began) / row_count(pieces)
            self._row_s += _NEWEST * (row_s - self._row_s)

    def _take(self) -> list[Piece]:
        rows = self._pace.rows(self._queue.rows, sharing=self._waking + 1)
        pieces = self._queue.take(rows, time.monotonic())
        now_ns = time.monotonic_ns()
        for request, _, _ in pieces:
            request.began_ns = request.began_ns or now_ns
        return pieces
