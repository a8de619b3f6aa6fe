"""Stops runs in tests."""

import signal


class StopAfter:
    """Stops a run after some shards, as a signal does."""

    def __init__(self, count: int) -> None:
        self._left = count

    def __call__(self) -> None:
        self._left -= 1
        if not self._left:
            signal.raise_signal(signal.SIGTERM)
