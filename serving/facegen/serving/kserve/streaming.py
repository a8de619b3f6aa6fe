"""Answers many requests of one stream, in their order."""

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator
from typing import Any

import grpc

from facegen.serving.call_context import CallContext
from facegen.serving.errors import EngineClosedError

__all__ = ["Slot", "Streams"]

# Enough to fill batches; a client that sends more waits in HTTP/2's flow control.
_MOST_IN_FLIGHT = 64

Begin = Callable[[Any, CallContext, Callable[[Any], None]], None]


class Slot:
    """A request of a stream that waits for its answer.

    Attributes:
        request_id: What the client calls it.
        context: Its own, so that its timeout is not the stream's.
        answer: What came of it.
        answered: Whether it has come.
    """

    __slots__ = ("answer", "answered", "context", "request_id")

    def __init__(self, request_id: str, stream: CallContext) -> None:
        self.request_id = request_id
        self.context = CallContext(
            client=stream.client,
            request_id=stream.request_id,
            spans=stream.spans,
            admin=stream.admin,
        )
        self.context.deadline = stream.deadline
        self.answer: Any = None
        self.answered = False


class _Lane:
    """The requests of a stream that are under way, in their order, so many at most."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._slots: deque[Slot] = deque()
        self._ended = False  # no more requests are taken
        self.error: Exception | None = None  # of which the stream is to end

    def enter(self, slot: Slot) -> bool:
        """Add a request once there is room; False: no more are taken."""
        with self._changed:
            while len(self._slots) >= _MOST_IN_FLIGHT and not self._ended:
                self._changed.wait()
            if not self._ended:
                self._slots.append(slot)
            return not self._ended

    def answer(self, slot: Slot, answer: Any) -> None:
        """Note what came of a request."""
        with self._changed:
            slot.answer, slot.answered = answer, True
            self._changed.notify_all()

    def end(self) -> None:
        """Take no more requests."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def cancel(self) -> None:
        """Note that nobody waits for answers any more, and cancel what is under way."""
        with self._changed:
            self._ended = True
            slots = list(self._slots)
            self._slots.clear()
            self._changed.notify_all()
        for slot in slots:
            slot.context.cancel()

    def __iter__(self) -> Iterator[Slot]:
        """Give the requests in their order, each when it is answered."""
        while True:
            with self._changed:
                while not (self._slots[0].answered if self._slots else self._ended):
                    self._changed.wait()
                if not self._slots:
                    return
                slot = self._slots.popleft()
                self._changed.notify_all()
            yield slot


class Streams:
    """The streams that are open; safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lanes: set[_Lane] = set()
        self._closed = False

    def answer(
        self, requests: Iterator[Any], context: CallContext, begin: Begin
    ) -> Generator[Slot]:
        """Begin the requests of a stream as they come and give them back, in their order.

        A client may tell its requests apart by their order alone, as it may with Triton.

        Args:
            requests: The requests, `ModelInferRequest`.
            context: The stream's.
            begin: Begins one, as `Inference.begin`.

        Yields:
            Each with its answer or error.

        Raises:
            EngineClosedError: `close` was called; what had come before it is answered.
            Exception: What `requests` raised, once what had come before it is answered.
        """
        lane = _Lane()
        with self._lock:
            self._lanes.add(lane)
            if self._closed:
                lane.end()
        context.on_cancel(lane.cancel)
        threading.Thread(
            target=_read, args=(requests, context, begin, lane), name="stream", daemon=True
        ).start()
        try:
            yield from lane
        finally:
            with self._lock:
                self._lanes.remove(lane)
            lane.cancel()
        if lane.error is not None:
            raise lane.error
        if self._closed and not context.cancelled:
            raise EngineClosedError("the server")

    def close(self) -> None:
        """Take no more requests of any stream; they end once what they have is answered."""
        with self._lock:
            self._closed = True
            lanes = list(self._lanes)
        for lane in lanes:
            lane.end()


def _read(requests: Iterator[Any], context: CallContext, begin: Begin, lane: _Lane) -> None:
    """Begin requests as they come; in a thread of its own."""
    try:
        for request in requests:
            slot = Slot(request.id, context)
            if not lane.enter(slot):
                return
            _begin(request, slot, begin, lane)
    except grpc.RpcError:
        lane.cancel()  # the client is gone
    except Exception as error:  # a message that is no request
        lane.error = error
    finally:
        lane.end()


def _begin(request: Any, slot: Slot, begin: Begin, lane: _Lane) -> None:
    def finish(answer: Any) -> None:
        lane.answer(slot, answer)

    try:
        begin(request, slot.context, finish)
    except Exception as error:  # the outermost frame of a request
        finish(error)
