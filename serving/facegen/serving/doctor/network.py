"""Whether a server could listen where it should, and with the certificate it should show."""

import socket
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from facegen.errors import FacegenError
from facegen.serving.config import ServerConfig
from facegen.serving.doctor.checks import as_finding
from facegen.serving.doctor.report import Finding
from facegen.serving.security.tls import certificate_expiry, server_credentials
from facegen.serving.security.tokens import Tokens

__all__ = ["check_network"]

_RENEWAL = timedelta(days=30)
_ANSWER_S = 2.0


def check_network(config: ServerConfig) -> Iterator[Finding]:
    """Check addresses, certificates and tokens."""
    yield from _check_address(config.address, "--address", serves_grpc=True)
    if config.metrics_address:
        yield from _check_address(config.metrics_address, "--metrics-address", serves_grpc=False)
    try:
        server_credentials(config)
        if config.tokens is not None:
            Tokens(config.tokens)
    except FacegenError as error:
        yield as_finding(error)
        return
    if config.tls_certificate is not None:
        expires = certificate_expiry(config.tls_certificate.read_bytes())
        yield from _check_expiry(str(config.tls_certificate), expires, datetime.now(UTC))


def _check_address(address: str, flag: str, *, serves_grpc: bool) -> Iterator[Finding]:
    host, _, port = address.rpartition(":")
    if address.startswith("unix"):
        return
    try:
        family, _, _, _, where = socket.getaddrinfo(
            host.strip("[]") or None, int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(where)
    except (OSError, ValueError) as error:
        if serves_grpc and _answers_health_checks(address):
            yield Finding("note", f"a server already serves at {address}", "no harm")
        else:
            yield Finding(
                "wrong",
                f"{flag} {address} cannot be had: {getattr(error, 'strerror', None) or error}",
                f"stop what listens there, or choose another with {flag} HOST:PORT",
            )


def _answers_health_checks(address: str) -> bool:
    with grpc.insecure_channel(address) as channel:
        health: Any = health_pb2_grpc.HealthStub(channel)  # its stub's types lack the methods
        try:
            health.Check(health_pb2.HealthCheckRequest(), timeout=_ANSWER_S)
        except grpc.RpcError:
            return False
    return True


def _check_expiry(path: str, expires: datetime | None, now: datetime) -> Iterator[Finding]:
    if expires is not None and expires - now < _RENEWAL:
        when = "has expired" if expires <= now else f"expires in {(expires - now).days} days"
        yield Finding(
            "wrong",
            f"the certificate {path} {when}, on {expires:%Y-%m-%d}",
            "renew it; a running server reads it again by itself",
        )
