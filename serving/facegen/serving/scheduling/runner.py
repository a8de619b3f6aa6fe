"""Runs batches: what a model gives for them reaches their requests, and so does its failing."""

import logging
from collections.abc import Sequence

from facegen.errors import FacegenError
from facegen.serving.errors import InferenceError
from facegen.serving.scheduling.accounts import count_execution, trace_execution
from facegen.serving.scheduling.answers import Answers
from facegen.serving.scheduling.batch import Execution, Run, execute, joined_parts, row_count
from facegen.serving.scheduling.policy import BatcherSettings
from facegen.serving.scheduling.request import Piece, Request
from facegen.serving.statistics import ModelStatistics

__all__ = ["Runner"]

_LOGGER = logging.getLogger(__name__)


class Runner:
    """Runs batches of one model, in workers; takes the statistics' lock itself.

    Args:
        name: The model's name, for messages.
        run: Runs it.
        settings: How batches are formed.
        statistics: What counts them.
        answers: Where the answers go.
    """

    def __init__(
        self,
        name: str,
        run: Run,
        *,
        settings: BatcherSettings,
        statistics: ModelStatistics,
        answers: Answers,
    ) -> None:
        self._name = name
        self._run = run
        self._settings = settings
        self._statistics = statistics
        self._lock = statistics.lock
        self._answers = answers

    def execute(self, pieces: Sequence[Piece]) -> None:
        """Run a batch; if it fails, run each request alone, so that a bad one fails alone."""
        rows = row_count(pieces)
        settings = self._settings
        try:
            execution = execute(
                self._run, pieces, settings.executed_rows(rows), batched=settings.max_batch_rows > 0
            )
        except Exception as error:  # the runtime's errors have no root but this
            if len(pieces) > 1:
                _LOGGER.warning("batch failed model=%s requests=%d", self._name, len(pieces))
                self._execute_apart(pieces)
            else:
                self.fail(pieces[0].request, error)
        else:
            self._record(pieces, rows, execution)

    def fail(self, request: Request, error: Exception) -> None:
        """End a request whose rows failed; our own errors are passed on as they are."""
        known = error if isinstance(error, FacegenError) else None
        with self._lock:
            answer = known or InferenceError(self._name, str(error))
            self._answers.fail(request, answer, reason="BACKEND")

    def _execute_apart(self, pieces: Sequence[Piece]) -> None:
        for piece in pieces:
            if not piece.request.settled:
                self.execute([piece])
                self._answers.deliver()

    def _record(self, pieces: Sequence[Piece], rows: int, execution: Execution) -> None:
        """Count an execution and answer the requests that it ends."""
        trace_execution(pieces, rows, execution)
        joinable = []
        with self._lock:
            count_execution(self._statistics, pieces, rows, execution)
            for (request, start, stop), part in zip(pieces, execution.parts, strict=True):
                request.ran += stop - start
                if stop - start == request.rows:
                    self._answers.finish(request, part)
                elif not request.settled:
                    request.parts[start] = part
                    if request.ran == request.rows:
                        joinable.append(request)
        for request in joinable:
            self._finish_parts(request)

    def _finish_parts(self, request: Request) -> None:
        try:
            outputs = joined_parts(request)  # under no lock: it may be a long copy
        except ValueError as error:  # the parts differ in shape
            self.fail(request, error)
            return
        with self._lock:
            self._answers.finish(request, outputs)
