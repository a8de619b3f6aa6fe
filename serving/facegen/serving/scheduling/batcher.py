"""The dynamic batcher: joins the rows of many requests and splits those of large ones."""

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Sequence
from functools import partial

from facegen.errors import FacegenError
from facegen.serving.engine import Array, Done, InferRequest
from facegen.serving.errors import (
    CallCancelledError,
    DeadlineError,
    EngineClosedError,
    InferenceError,
    QueueFullError,
)
from facegen.serving.scheduling.accounts import count_execution, count_success, trace_execution
from facegen.serving.scheduling.answers import Answers
from facegen.serving.scheduling.batch import Execution, Run, execute, joined_parts, row_count
from facegen.serving.scheduling.policy import BatcherSettings
from facegen.serving.scheduling.priority_queue import PriorityQueue
from facegen.serving.scheduling.request import Piece, Request, batch_key
from facegen.serving.scheduling.timers import Timer, Timers
from facegen.serving.scheduling.workers import Workers
from facegen.serving.statistics import ModelStatistics

__all__ = ["Batcher"]

_LOGGER = logging.getLogger(__name__)

_MIN_RETRY_S = 0.01


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
        self._run = run
        self._workers = workers
        self._timers = timers
        self._settings = settings
        self._statistics = statistics
        self._max_rows = settings.max_batch_rows or 1
        self._min_share_rows = max(1, min(settings.min_share_rows, self._max_rows))
        preferred = (rows for rows in settings.preferred_batch_rows if rows <= self._max_rows)
        self._preferred = sorted(preferred, reverse=True)
        self._lock = statistics.lock  # guards all below
        self._queue = PriorityQueue(settings.turn_rows)
        self._answers = Answers(self._lock, ordered=settings.preserve_ordering)
        self._active = 0  # tasks put to the workers or running
        self._waking = 0  # those of them that have not begun
        self._arrivals: deque[Request] = deque()  # in order, where there is a delay
        self._flush_timer: Timer | None = None
        self._closed = False
        self._drained = threading.Event()
        self._row_s = 0.001  # seconds a row takes, a moving average

    def submit(self, request: InferRequest, rows: int, done: Done) -> None:
        """Run rows, in batches with other callers' rows; never blocks, never raises.

        `done` is called once, from any thread and outside of locks, with what `run` gives for these
        rows or with one of these errors. All are counted but `EngineClosedError`, so that the
        request can go to the model's next batcher.

        QueueFullError: Too many rows or requests wait. Retry later.
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
            self._closed = True
            self._start_workers()
        self._deliver()
        self._drained.wait()
        if self._flush_timer is not None:
            self._flush_timer.cancel()

    # Requests come. The lock is held in all methods but those that say otherwise.

    def _accept(self, request: Request) -> bool:
        level = self._settings.level(request.context.priority)
        self._answers.expect(request)
        if self._closed:
            self._settle(request, EngineClosedError(f'model "{self._name}"'))
        elif request.context.cancelled:
            self._fail(request, "CANCELED", CallCancelledError())
        elif self._set_times(request, level) <= time.monotonic():
            self._expire(request)
        elif full := self._refusal(request, level):
            self._fail(request, "REJECTED", full)
        else:
            self._enqueue(request, level)
            return True
        return False

    def _set_times(self, request: Request, level: int) -> float:
        """Set when a request is of no use any more, and when it has waited too long."""
        policy = self._settings.policy(level)
        own_s = request.context.queue_timeout_s
        if not own_s and not policy.default_timeout_s:
            return request.deadline
        own_s = policy.own_timeout_s(own_s) or math.inf
        arrived = request.arrived_ns / 1e9
        if policy.timeout_action == "REJECT":
            request.deadline = min(request.deadline, arrived + own_s)
        request.demoted_at = arrived + min(own_s, policy.default_timeout_s or math.inf)
        return request.deadline

    def _refusal(self, request: Request, level: int) -> QueueFullError | None:
        queued = self._queue.rows_before(level)
        limit = self._settings.max_queue_rows
        full = queued and queued + request.rows > limit
        max_queue_size = self._settings.policy(level).max_queue_size
        retry_after_s = max(_MIN_RETRY_S, queued * self._row_s / self._settings.concurrency)
        if max_queue_size and not full:
            queued = self._queue.request_count(level)
            limit = max_queue_size
            full = queued >= limit
        if not full:
            return None
        return QueueFullError(
            self._name, request.rows, queued=queued, limit=limit, retry_after_s=retry_after_s
        )

    def _enqueue(self, request: Request, level: int) -> None:
        self._queue.push(request, level)
        self._set_timer(request)
        if self._settings.max_queue_delay_s:
            self._arrivals.append(request)
        self._start_workers()

    def _set_timer(self, request: Request) -> None:
        when = min(request.deadline, request.demoted_at)
        if when < math.inf:
            request.timer = self._timers.call_at(when, partial(self._on_time, request))

    # Requests go.

    def _on_time(self, request: Request) -> None:
        """Act on the deadline of a request, or on its having waited too long. No lock is held."""
        with self._lock:
            if request.settled:
                return
            if request.deadline <= time.monotonic():
                self._expire(request)
            else:
                if not request.began_ns:
                    self._demote(request)
                request.demoted_at = math.inf
                if not request.settled:
                    self._set_timer(request)
        self._deliver()

    def _demote(self, request: Request) -> None:
        if self._settings.policy(request.rank // 2).timeout_action == "DELAY":
            self._queue.delay(request)
        else:
            request.deadline = request.demoted_at
            self._expire(request)

    def _expire(self, request: Request) -> None:
        timeout_s = max(0.0, request.deadline - request.arrived_ns / 1e9)
        self._fail(request, "TIMEOUT", DeadlineError(self._name, timeout_s=timeout_s))

    def _cancel(self, request: Request) -> None:
        """Drop a request that nobody waits for any more. No lock is held."""
        with self._lock:
            self._fail(request, "CANCELED", CallCancelledError())
        self._deliver()

    def _finish(self, request: Request, outputs: dict[str, Array]) -> None:
        request.answer = outputs
        self._succeed(self._answers.ready(request))

    def _succeed(self, requests: Sequence[Request]) -> None:
        for request in requests:
            if request.answer is not None:
                count_success(self._statistics, request)
                self._answers.put(request, request.answer)

    def _fail(self, request: Request, reason: str, error: FacegenError) -> None:
        if not request.settled:
            self._statistics.fail(reason, time.monotonic_ns() - request.arrived_ns)
            self._settle(request, error)

    def _settle(self, request: Request, error: FacegenError) -> None:
        self._queue.drop(request)
        self._answers.put(request, error)
        self._succeed(self._answers.ready(request))

    def _deliver(self) -> None:
        """Give the answers that are decided. No lock is held."""
        self._answers.deliver()
        if self._closed:
            with self._lock:
                if not self._active and not self._answers.owed:
                    self._drained.set()

    # Batches run.

    def _start_workers(self) -> None:
        """Wake a worker for every share of the rows, less those about to begin."""
        if not self._ripe_rows():
            self._await_delay()
            return
        shares = -(-self._queue.rows // self._min_share_rows)
        while self._waking < shares and self._active < self._settings.concurrency:
            self._waking += 1
            self._active += 1
            self._workers.put(self._work)

    def _ripe_rows(self) -> int:
        """How many rows to run now, if the workers about to begin take as many; 0: none yet."""
        queued = self._queue.rows
        for preferred in self._preferred:
            if preferred <= queued:
                return preferred
        if queued < self._max_rows and not self._closed and self._due() > time.monotonic():
            return 0
        share = max(self._min_share_rows, -(-queued // (self._waking + 1)))
        return min(self._max_rows, share, queued)

    def _due(self) -> float:
        """When the oldest request has waited long enough for others."""
        arrivals = self._arrivals
        while arrivals and arrivals[0].queue is None:
            arrivals.popleft()
        if not arrivals:
            return 0.0
        return arrivals[0].arrived_ns / 1e9 + self._settings.max_queue_delay_s

    def _await_delay(self) -> None:
        if self._queue.rows and self._flush_timer is None:
            self._flush_timer = self._timers.call_at(self._due(), self._flush)

    def _flush(self) -> None:
        """Let rows run that have waited long enough. No lock is held."""
        with self._lock:
            self._flush_timer = None
            self._start_workers()

    def _work(self) -> None:
        """Run one batch in a worker, and come back behind other models. No lock is held."""
        pieces: list[Piece] = []
        try:
            with self._lock:
                self._waking -= 1
                pieces = self._take()
            if pieces:
                self._execute(pieces)
        except Exception as error:  # a bug of ours: its requests end, the worker's place does not
            _LOGGER.exception("batch broke model=%s", self._name)
            for request, _, _ in pieces:
                self._fail_run(request, error)
        finally:
            with self._lock:
                # Before the answers, so that what they bring about finds this worker free.
                self._active -= 1
                self._start_workers()
        self._deliver()

    def _take(self) -> list[Piece]:
        rows = self._ripe_rows()
        if not rows:
            return []
        pieces = self._queue.take(rows, time.monotonic())
        now_ns = time.monotonic_ns()
        for request, _, _ in pieces:
            if not request.began_ns:
                request.began_ns = now_ns
        return pieces

    def _execute(self, pieces: Sequence[Piece]) -> None:
        """Run a batch, and if it fails each request alone, so a bad one fails alone. No lock."""
        rows = row_count(pieces)
        batched = self._settings.max_batch_rows > 0
        try:
            executed_rows = self._settings.executed_rows(rows)
            execution = execute(self._run, pieces, executed_rows, batched=batched)
        except Exception as error:  # the runtime's errors have no root but this
            if len(pieces) == 1:
                self._fail_run(pieces[0].request, error)
                return
            _LOGGER.warning("batch failed model=%s requests=%d", self._name, len(pieces))
            for piece in pieces:
                if not piece.request.settled:
                    self._execute([piece])
                    self._deliver()
        else:
            self._record(pieces, rows, execution)

    def _record(self, pieces: Sequence[Piece], rows: int, execution: Execution) -> None:
        """Count an execution and settle the requests that it ends. No lock is held."""
        trace_execution(pieces, rows, execution)
        split = []
        with self._lock:
            count_execution(self._statistics, pieces, rows, execution)
            row_s = (execution.split_ns - execution.began_ns) / 1e9 / rows
            self._row_s += 0.1 * (row_s - self._row_s)
            for (request, start, stop), part in zip(pieces, execution.parts, strict=True):
                request.ran += stop - start
                if request.settled:
                    continue
                if stop - start == request.rows:
                    self._finish(request, part)
                    continue
                request.parts[start] = part
                if request.ran == request.rows:
                    split.append(request)
        for request in split:
            self._finish_split(request)

    def _finish_split(self, request: Request) -> None:
        """Join the parts of a request. No lock is held: it may be a long copy."""
        try:
            outputs = joined_parts(request)
        except ValueError as error:  # parts of different shapes
            self._fail_run(request, error)
            return
        with self._lock:
            if not request.settled:
                self._finish(request, outputs)

    def _fail_run(self, request: Request, error: Exception) -> None:
        """End a request whose rows failed. No lock is held."""
        known = isinstance(error, FacegenError)
        failure = error if known else InferenceError(self._name, str(error))
        with self._lock:
            self._fail(request, "BACKEND", failure)
