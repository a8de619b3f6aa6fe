"""How a channel to the server is set up, and when calls are repeated."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version

import grpc

from facegen.client.credentials import Tls, is_local

__all__ = ["Retry", "channel_options"]


@dataclass(frozen=True, slots=True)
class Retry:
    """When a failed call is tried again: one that ended UNAVAILABLE, or that a full queue refused.

    What a call gives depends on its request alone, so that no repetition does harm.

    Attributes:
        max_attempts: Attempts in all, at least 1, which switches retries off.
        initial_backoff_s: The pause before the second attempt; it varies by a fifth.
        max_backoff_s: The longest pause.
        backoff_multiplier: By how much each pause is longer than the one before.
    """

    max_attempts: int = 5
    initial_backoff_s: float = 0.1
    max_backoff_s: float = 2.0
    backoff_multiplier: float = 3.0

    def pause_s(self, attempt: int) -> float:
        """Give the pause after attempt number `attempt`, from 1."""
        pause_s = self.initial_backoff_s * self.backoff_multiplier ** (attempt - 1)
        return min(pause_s, self.max_backoff_s)


def channel_options(
    address: str, *, credentials: Tls | grpc.ChannelCredentials | None = None
) -> Sequence[tuple[str, str | int]]:
    """Give the options of a channel, the same for both clients.

    Args:
        address: The server's address; a proxy from the environment is not used for this machine.
        credentials: How the server is known.
    """
    options: list[tuple[str, str | int]] = [
        # The server bounds what it takes; the client's default of 4 MiB would only hide its answer.
        ("grpc.max_send_message_length", -1),
        ("grpc.max_receive_message_length", -1),
        # A restarted server is found again within the retries, not a second after them.
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 5000),
        ("grpc.primary_user_agent", f"facegen/{version('facegen')}"),
    ]
    if isinstance(credentials, Tls) and credentials.server_name:
        options.append(("grpc.ssl_target_name_override", credentials.server_name))
    if is_local(address):
        options.append(("grpc.enable_http_proxy", 0))
    return options
