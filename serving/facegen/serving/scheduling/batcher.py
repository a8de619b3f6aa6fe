"""The dynamic batcher: joins the rows of many requests and splits those of large ones."""

import asyncio
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from facegen.serving.scheduling.batch import join_inputs, joined_parts, row_count, split_outputs
from facegen.serving.engine import Array, Tensors
from facegen.serving.errors import (
    DeadlineError,
    EngineClosedError,
    InferenceError,
    QueueFullError,
)
from facegen.serving.scheduling.row_queue import Piece, Request, RowQueue
from facegen.serving.scheduling.workers import Workers

__all__ = ["Batcher", "BatcherSettings"]

_LOGGER = logging.getLogger(__name__)

_Answer = tuple[Request, dict[str, Array] | InferenceError]


@dataclass(frozen=True, slots=True)
class BatcherSettings:
    """How a batcher forms batches.

    Attributes:
        max_batch_rows: The most rows of one execution.
        concurrency: The most executions at a time.
        max_queue_rows: Rows that may wait. A request with more is taken if none wait.
        max_queue_delay_s: Seconds that rows may wait for others to fill a batch; 0: none.
        turn_rows: Rows of one request that may run before those behind it.
        min_share_rows: Rows that are not shared out among several workers that are free.
        bucketed: Whether batches are filled up to a power of two, so that few shapes occur.
    """

    max_batch_rows: int
    concurrency: int = 1
    max_queue_rows: int = 2048
    max_queue_delay_s: float = 0.0
    turn_rows: int = 32
    min_share_rows: int = 1
    bucketed: bool = False

    def executed_rows(self, rows: int) -> int:
        """How many rows to execute for a batch of so many."""
        if not self.bucketed:
            return rows
        return min(self.max_batch_rows, 1 << (rows - 1).bit_length())


class Batcher:
    """Batches the rows of one model.

    It conserves work: a batch is formed by the thread that runs it, at the moment that it is free,
    of what waits then. Between batches no event loop is woken for anything but answers.

    Made and called in one event loop, which outlives it.

    Args:
        name: The model's name, for messages.
        run: Runs the model on a batch, in a worker; its outputs have the rows of its inputs.
        workers: Where it runs.
        settings: How to form batches.
    """

    def __init__(
        self,
        name: str,
        run: Callable[[dict[str, Array]], dict[str, Array]],
        *,
        workers: Workers,
        settings: BatcherSettings,
    ) -> None:
        self._name = name
        self._run = run
        self._workers = workers
        self._settings = settings
        self._loop = asyncio.get_running_loop()
        self._lock = threading.Lock()  # guards all below
        self._queue = RowQueue(settings.turn_rows)
        self._active = 0  # tasks put to the workers or running
        self._waking = 0  # those of them that have not begun
        self._flushed = 0.0  # rows due until then have waited long enough
        self._flush_timer: asyncio.TimerHandle | None = None
        self._closed = False
        self._drained = asyncio.Event()
        self._batch_rows: Counter[int] = Counter()
        self._row_s = 0.001  # seconds a row takes, a moving average

    @property
    def queued_rows(self) -> int:
        """Rows that wait."""
        return self._queue.rows

    def batch_sizes(self) -> dict[int, int]:
        """How many batches ran, by their rows (filling not counted)."""
        with self._lock:
            return dict(self._batch_rows)

    async def submit(
        self, inputs: Tensors, rows: int, *, timeout_s: float | None = None
    ) -> dict[str, Array]:
        """Run rows, in batches with other callers' rows.

        Args:
            inputs: What `run` takes, (rows, …) each, checked and not changed by the caller.
            rows: At least 1.
            timeout_s: Seconds until the answer is of no use; None waits for ever.

        Returns:
            What `run` gives for these rows.

        Raises:
            QueueFullError: Too many rows wait. Retry later.
            DeadlineError: The timeout passed; rows that had not begun never run.
            EngineClosedError: The batcher closes. Retry elsewhere.
            InferenceError: `run` failed on these rows.
        """
        if timeout_s is not None and timeout_s <= 0:
            raise DeadlineError(self._name, timeout_s=timeout_s)
        request = Request(inputs, rows, self._loop.create_future())
        if timeout_s is not None:
            request.deadline = self._loop.time() + timeout_s
        self._enqueue(request)
        timer = None
        if timeout_s is not None:
            timer = self._loop.call_at(request.deadline, self._expire, request, timeout_s)
        try:
            return await request.answer
        finally:
            if timer is not None:
                timer.cancel()
            if request.taken < request.rows:  # cancelled, expired or failed
                self._drop(request)

    async def close(self) -> None:
        """Refuse new rows, finish those that wait."""
        with self._lock:
            self._closed = True
            if not self._active and not self._queue.rows:
                self._drained.set()
            self._start_workers()
        await self._drained.wait()
        if self._flush_timer is not None:
            self._flush_timer.cancel()

    def _enqueue(self, request: Request) -> None:
        settings = self._settings
        with self._lock:
            if self._closed:
                raise EngineClosedError(f'model "{self._name}"')
            queued = self._queue.rows
            if queued and queued + request.rows > settings.max_queue_rows:
                raise QueueFullError(
                    self._name,
                    request.rows,
                    queued=queued,
                    limit=settings.max_queue_rows,
                    retry_after_s=max(0.01, queued * self._row_s / settings.concurrency),
                )
            if settings.max_queue_delay_s:
                request.due = self._loop.time() + settings.max_queue_delay_s
                if self._flush_timer is None:
                    self._flush_timer = self._loop.call_at(request.due, self._flush, request.due)
            self._queue.push(request)
            self._start_workers()

    def _drop(self, request: Request) -> None:
        with self._lock:
            self._queue.drop(request)

    def _expire(self, request: Request, timeout_s: float) -> None:
        if not request.answer.done():
            request.answer.set_exception(DeadlineError(self._name, timeout_s=timeout_s))

    def _flush(self, due: float) -> None:
        """Let rows run that were due by now, and come back for the next."""
        with self._lock:
            self._flushed = due
            later = min((request.due for request in self._queue if request.due > due), default=None)
            self._flush_timer = (
                None if later is None else self._loop.call_at(later, self._flush, later)
            )
            self._start_workers()

    def _ripe(self) -> bool:
        """Whether a batch may run now. Holds the lock."""
        if not self._queue.rows:
            return False
        return (
            not self._settings.max_queue_delay_s
            or self._queue.rows >= self._settings.max_batch_rows
            or self._closed
            or any(request.due <= self._flushed for request in self._queue)
        )

    def _start_workers(self) -> None:
        """Wake a worker for every share of the rows, less those about to begin. Holds the lock."""
        if not self._ripe():
            return
        settings = self._settings
        shares = -(-self._queue.rows // settings.min_share_rows)
        while self._waking < shares and self._active < settings.concurrency:
            self._waking += 1
            self._active += 1
            self._workers.put(self._work)

    def _share(self) -> int:
        """How many rows to run now, if the workers about to begin take as many. Holds the lock."""
        settings = self._settings
        share = -(-self._queue.rows // (self._waking + 1))
        return min(settings.max_batch_rows, max(settings.min_share_rows, share))

    def _work(self) -> None:
        """Run one batch in a worker, and come back behind other models if more waits."""
        pieces: list[Piece] = []
        with self._lock:
            self._waking -= 1
            if self._ripe():
                pieces = self._queue.take(self._share(), self._loop.time())
        answers = self._execute(pieces) if pieces else []
        with self._lock:
            # Before the answers, so that what they bring about finds this worker free.
            if self._ripe():
                self._waking += 1
                self._workers.put(self._work)
            else:
                self._active -= 1
            drained = self._closed and not self._active and not self._queue.rows
        if answers:
            self._loop.call_soon_threadsafe(_deliver, answers)
        if drained:
            self._loop.call_soon_threadsafe(self._drained.set)

    def _execute(self, pieces: Sequence[Piece]) -> list[_Answer]:
        """Run a batch; if it fails, run each request's rows alone: a bad one fails alone."""
        rows = row_count(pieces)
        started = time.perf_counter()
        try:
            executed_rows = self._settings.executed_rows(rows)
            outputs = self._run(join_inputs(pieces, rows=executed_rows))
            parts = split_outputs(pieces, outputs, rows=executed_rows)
        except Exception as error:  # the runtime's errors have no root but this
            if len(pieces) > 1:
                _LOGGER.warning("batch failed model=%s requests=%d", self._name, len(pieces))
                return [answer for piece in pieces for answer in self._execute([piece])]
            request = pieces[0].request
            self._drop(request)
            return [(request, InferenceError(self._name, str(error)))]
        self._row_s += 0.1 * ((time.perf_counter() - started) / rows - self._row_s)
        finished = []
        with self._lock:
            self._batch_rows[rows] += 1
            for piece, part in zip(pieces, parts, strict=True):
                request = piece.request
                request.parts[piece.start] = part
                request.done += piece.stop - piece.start
                if request.done == request.rows:
                    finished.append(request)
        return [(request, joined_parts(request)) for request in finished]


def _deliver(answers: Sequence[_Answer]) -> None:
    """Answer the callers that still wait, in the event loop."""
    for request, answer in answers:
        if request.answer.done():
            continue
        if isinstance(answer, InferenceError):
            request.answer.set_exception(answer)
        else:
            request.answer.set_result(answer)
