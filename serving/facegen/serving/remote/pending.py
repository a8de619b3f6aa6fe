"""A request under way at a remote server, as one call or several."""

import threading
from collections.abc import Iterator
from functools import partial
from typing import Any

import grpc
import numpy as np

from facegen.errors import FacegenError
from facegen.serving.engine import Array, Done, InferRequest, ModelInfo
from facegen.serving.errors import EngineClosedError
from facegen.serving.remote.messages import read_outputs
from facegen.serving.remote.status import Call, error_of_status

__all__ = ["PendingRequest"]

# Enough to keep a server's instances busy, too few to fill its queue with one request.
_MOST_CALLS = 4

_Answer = dict[str, Array] | FacegenError


class PendingRequest:
    """Joins the answers of a request's calls; the first failure answers and cancels the rest.

    Args:
        call: What is asked, for the messages of errors.
        info: The model.
        request: The request.
        done: Takes what comes of it, once.
    """

    def __init__(self, call: Call, info: ModelInfo, request: InferRequest, done: Done) -> None:
        self._call = call
        self._info = info
        self._request = request
        self._done = done
        self._lock = threading.Lock()  # guards what follows
        self._futures: list[Any] = []
        self._answers: dict[int, dict[str, Array]] = {}
        self._ended = False

    def send(self, method: Any, messages: Iterator[Any], count: int) -> None:
        """Make the calls, a few at a time.

        Args:
            method: The stub's ModelInfer.
            messages: What to send, in order.
            count: How many.
        """
        self._method = method
        self._messages = messages
        self._count = count
        self._request.context.on_cancel(self._cancel)
        for _ in range(min(_MOST_CALLS, count)):
            self._send_next()

    def _send_next(self) -> None:
        context = self._request.context
        with self._lock:
            message = None if self._ended else next(self._messages, None)
            if message is None:
                return
            try:
                future = self._method.future(message, timeout=context.left_s())
            except ValueError:  # what gRPC raises of a channel that was closed meanwhile
                future = None
            index = len(self._futures)
            self._futures.append(future)
        if future is None:
            self._take(index, EngineClosedError())
            return
        if context.cancelled:
            future.cancel()
        future.add_done_callback(partial(self._read, index))

    def _cancel(self) -> None:
        with self._lock:
            futures = [future for future in self._futures if future is not None]
        for future in futures:
            future.cancel()

    def _read(self, index: int, future: Any) -> None:
        try:
            answer: _Answer = read_outputs(self._info, future.result(), self._request.outputs)
        except grpc.RpcError as error:
            answer = error_of_status(error, self._call)
        except grpc.FutureCancelledError:
            answer = error_of_status(future, self._call)
        except FacegenError as error:
            answer = error
        self._take(index, answer)

    def _take(self, index: int, answer: _Answer) -> None:
        with self._lock:
            if self._ended:  # a failure has answered already
                return
            if not isinstance(answer, FacegenError):
                self._answers[index] = answer
            ended = isinstance(answer, FacegenError) or len(self._answers) == self._count
            self._ended = ended
        if not ended:
            self._send_next()
            return
        self._request.context.forget(self._cancel)
        if isinstance(answer, FacegenError):
            self._cancel()
            self._done(answer)
        else:
            self._done(self._join())

    def _join(self) -> dict[str, Array]:
        answers = [self._answers[index] for index in range(self._count)]
        if len(answers) == 1:
            return answers[0]
        return {name: np.concatenate([each[name] for each in answers]) for name in answers[0]}
