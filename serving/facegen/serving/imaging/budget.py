"""Bounds the pixels that all calls hold at a time."""

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from facegen.serving.call_context import CallContext
from facegen.serving.errors import CallCancelledError

__all__ = ["PixelBudget"]


class PixelBudget:
    """Lets calls hold decoded photos, so many pixels together; the others wait, first come first.

    Args:
        max_pixels: The most that are held at a time; a call that wants more waits to be alone.
    """

    def __init__(self, max_pixels: int) -> None:
        self._max_pixels = max_pixels
        self._held = 0
        self._waiting: deque[object] = deque()
        self._changed = threading.Condition()

    @property
    def waiting_count(self) -> int:
        """How many calls wait for room."""
        return len(self._waiting)

    @contextmanager
    def hold(self, pixels: int, context: CallContext) -> Iterator[None]:
        """Hold some pixels, once there is room for them.

        Raises:
            CallCancelledError: The caller went away, or its time is over.
        """
        context.on_cancel(self._wake)
        try:
            self._enter(pixels, context)
        finally:
            context.forget(self._wake)
        try:
            yield
        finally:
            with self._changed:
                self._held -= pixels
                self._changed.notify_all()

    def _enter(self, pixels: int, context: CallContext) -> None:
        ticket = object()
        with self._changed:
            self._waiting.append(ticket)
            try:
                while not context.cancelled and not self._fits(ticket, pixels):
                    self._changed.wait()
                if context.cancelled:
                    raise CallCancelledError
                self._held += pixels
            finally:
                self._waiting.remove(ticket)
                self._changed.notify_all()

    def _fits(self, ticket: object, pixels: int) -> bool:
        first = self._waiting[0] is ticket
        return first and (not self._held or self._held + pixels <= self._max_pixels)

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify_all()
