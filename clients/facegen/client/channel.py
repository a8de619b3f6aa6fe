"""How a channel to the server is set up: retries, reconnection, message sizes."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version

import grpc

from facegen.client.credentials import Tls, is_local

__all__ = ["Retry", "channel_options"]

_SERVICES = ("facegen.v1.FaceService", "facegen.v1.MeshService", "facegen.v1.ModelService")


@dataclass(frozen=True, slots=True)
class Retry:
    """When a failed call is tried again.

    gRPC itself repeats calls that end UNAVAILABLE, and heeds the server's `grpc-retry-pushback-ms`.
    It knows nothing of google.rpc.RetryInfo, so the client repeats calls refused by a full queue.

    Attributes:
        max_attempts: Attempts in all, 1 to 5 (gRPC's own ceiling); 1 switches retries off.
        initial_backoff_s: The pause before the second attempt; gRPC varies it by a fifth.
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
    address: str, *, retry: Retry, credentials: Tls | grpc.ChannelCredentials | None = None
) -> Sequence[tuple[str, str | int]]:
    """Give the options of a channel, the same for both clients.

    Args:
        address: The server's address; a proxy from the environment is not used for this machine.
        retry: When to repeat calls that end UNAVAILABLE. Health checks are never repeated.
        credentials: How the server is known.
    """
    options: list[tuple[str, str | int]] = [
        ("grpc.service_config", _service_config(retry)),
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


def _service_config(retry: Retry) -> str:
    if retry.max_attempts < 2:
        return "{}"
    policy = {
        "maxAttempts": retry.max_attempts,
        "initialBackoff": f"{retry.initial_backoff_s:.3f}s",
        "maxBackoff": f"{retry.max_backoff_s:.3f}s",
        "backoffMultiplier": retry.backoff_multiplier,
        "retryableStatusCodes": ["UNAVAILABLE"],
    }
    names = [{"service": service} for service in _SERVICES]
    return json.dumps({"methodConfig": [{"name": names, "retryPolicy": policy}]})
