"""A request under way at a remote server, as one call or several."""

import threading
from collections.abc import Callable, Sequence
from typing import Any

import grpc
import numpy as np

from facegen.errors import FacegenError
from facegen.serving.engine import Array, Done, InferRequest, ModelInfo
from facegen.serving.remote.messages import read_outputs
from facegen.serving.remote.status import Call, error_of_status

__all__ = ["PendingRequest"]


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
        self._futures: tuple[Any, ...] = ()
        self._answers: list[dict[str, Array] | None] = []
        self._missing = 0
        self._lock = threading.Lock()

    def send(self, method: Any, messages: Sequence[Any]) -> None:
        """Make the calls; `method` is the stub's ModelInfer."""
        self._missing = len(messages)
        self._answers = [None] * len(messages)
        context = self._request.context
        timeout_s = context.left_s()
        self._futures = tuple(method.future(each, timeout=timeout_s) for each in messages)
        context.on_cancel(self._cancel)
        for index, future in enumerate(self._futures):
            future.add_done_callback(self._taking(index))

    def _cancel(self) -> None:
        for future in self._futures:
            future.cancel()

    def _taking(self, index: int) -> Callable[[Any], None]:
        return lambda future: self._take(index, future)

    def _take(self, index: int, future: Any) -> None:
        answer = self._read(future)
        with self._lock:
            if not self._missing:  # a failure has answered already
                return
            if isinstance(answer, FacegenError):
                self._missing = 0
            else:
                self._missing -= 1
                self._answers[index] = answer
                if self._missing:
                    return
        self._request.context.forget(self._cancel)
        if isinstance(answer, FacegenError):
            self._cancel()
            self._done(answer)
        else:
            self._done(self._join())

    def _read(self, future: Any) -> dict[str, Array] | FacegenError:
        try:
            return read_outputs(self._info, future.result(), self._request.outputs)
        except grpc.RpcError as error:
            return error_of_status(error, self._call)
        except grpc.FutureCancelledError:
            return error_of_status(future, self._call)
        except FacegenError as error:
            return error

    def _join(self) -> dict[str, Array]:
        answers = [answer for answer in self._answers if answer is not None]
        if len(answers) == 1:
            return answers[0]
        return {name: np.concatenate([each[name] for each in answers]) for name in answers[0]}
