"""Looks at a repository again and again."""

import logging
import threading
from collections.abc import Callable

__all__ = ["Poller"]

_LOGGER = logging.getLogger(__name__)


class Poller:
    """A thread that calls at intervals, until it is closed.

    Args:
        look: What to call.
        interval_s: Seconds between the end of one call and the next.
    """

    def __init__(self, look: Callable[[], None], interval_s: float) -> None:
        self._look = look
        self._interval_s = interval_s
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="facegen-poll", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the thread; blocks until the call under way, if any, is over."""
        self._closing.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._closing.wait(self._interval_s):
            try:
                self._look()
            except Exception:  # the thread's outermost frame: it must look again
                _LOGGER.exception("look at the model repository failed")
