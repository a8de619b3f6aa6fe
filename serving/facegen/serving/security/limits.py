"""How often one client may call, and how many calls it may have under way."""

import threading
import time
from collections.abc import Callable

from facegen.serving.errors import RateLimitError

__all__ = ["ClientLimits"]

# When a call under way will end is not known: a client that asks ten times a second is no burden.
_RETRY_CALLS_S = 0.1
# Clients kept in mind before the idle ones are forgotten.
_SWEEP_AT = 4096


class _Usage:
    """What one client has left of its rate, and has under way."""

    __slots__ = ("allowance", "at", "under_way")

    def __init__(self, allowance: float, at: float) -> None:
        self.allowance = allowance
        self.at = at
        self.under_way = 0


class ClientLimits:
    """The limits of each client by itself: a token bucket, and a count; 0 is no limit.

    A client that was idle may make as many calls at once as it may in a second (at least one).

    Args:
        rate: Calls a second, in the long run (`--max-client-rate`).
        calls: Calls under way (`--max-client-calls`).
        clock: Seconds, rising.
    """

    def __init__(
        self, *, rate: float, calls: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._rate = rate
        self._calls = calls
        self._burst = max(1.0, rate)
        self._clock = clock
        self._lock = threading.Lock()
        self._usages: dict[str, _Usage] = {}
        self._sweep_at = _SWEEP_AT

    def begin(self, client: str) -> None:
        """Take a call; `end` must follow.

        Raises:
            RateLimitError: The client has used up a limit. Retry later.
        """
        now = self._clock()
        with self._lock:
            usage = self._usages.get(client)
            if usage is None:
                usage = self._add(client, now)
            if self._calls and usage.under_way >= self._calls:
                raise RateLimitError(
                    f'client "{client}" has {usage.under_way} calls under way, as many as '
                    f"--max-client-calls {self._calls} allows",
                    retry_after_s=_RETRY_CALLS_S,
                )
            if self._rate:
                self._spend(client, usage, now)
            usage.under_way += 1

    def end(self, client: str) -> None:
        """Note that a call which was taken is over."""
        with self._lock:
            self._usages[client].under_way -= 1

    @property
    def client_count(self) -> int:
        """How many clients are kept in mind."""
        return len(self._usages)

    def _spend(self, client: str, usage: _Usage, now: float) -> None:
        allowance = min(self._burst, usage.allowance + (now - usage.at) * self._rate)
        if allowance < 1.0:
            raise RateLimitError(
                f'client "{client}" calls more often than --max-client-rate {self._rate:g} a '
                "second allows",
                retry_after_s=(1.0 - allowance) / self._rate,
            )
        usage.allowance = allowance - 1.0
        usage.at = now

    def _add(self, client: str, now: float) -> _Usage:
        if len(self._usages) >= self._sweep_at:
            self._forget_idle(now)
        usage = self._usages[client] = _Usage(self._burst, now)
        return usage

    def _forget_idle(self, now: float) -> None:
        """Forget clients that nothing is known of: with nothing under way and their rate whole."""
        self._usages = {
            client: usage
            for client, usage in self._usages.items()
            if usage.under_way or usage.allowance + (now - usage.at) * self._rate < self._burst
        }
        # Looking at all of them again must have been earned by as many new ones.
        self._sweep_at = max(_SWEEP_AT, 2 * len(self._usages))
