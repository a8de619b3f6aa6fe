import logging
import shutil
import socket
import ssl
from collections.abc import Callable, Iterator
from concurrent import futures
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from facegen.serving.config import ServerConfig
from facegen.serving.errors import ServerError
from facegen.serving.security.tls import server_credentials

# `authority` and `new_authority` of tests/conftest.py.
Authority = Any

_SERVING = health_pb2.HealthCheckResponse.SERVING


@contextmanager
def _serving(config: ServerConfig) -> Iterator[str]:
    """Run a server of nothing but health under the credentials of a configuration."""
    credentials = server_credentials(config)
    assert credentials is not None
    server = grpc.server(futures.ThreadPoolExecutor(2))
    servicer: Any = health.HealthServicer()
    servicer.set("", _SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    port = server.add_secure_port("127.0.0.1:0", credentials)
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(None).wait()


def _check(address: str, authority: Authority, pair: tuple[Path, Path] | None = None) -> int:
    """Ask for health over TLS; the answer, or gRPC's error."""
    chain, key = (pair[0].read_bytes(), pair[1].read_bytes()) if pair else (None, None)
    credentials = grpc.ssl_channel_credentials(authority.certificate.read_bytes(), key, chain)
    with grpc.secure_channel(address, credentials) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)  # its types lack the methods
        status: int = stub.Check(health_pb2.HealthCheckRequest(), timeout=20).status
        return status


def _subject(address: str) -> bytes:
    """Give the certificate that a new connection is shown, in DER."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    host, port = address.split(":")
    with (
        socket.create_connection((host, int(port))) as plain,
        context.wrap_socket(plain) as secured,
    ):
        certificate = secured.getpeercert(binary_form=True)
    assert certificate is not None
    return certificate


def _config(certificate: Path, key: Path, **more: Any) -> ServerConfig:
    return ServerConfig(tls_certificate=certificate, tls_key=key, **more)


def test_nothing_configured_is_plain_text() -> None:
    assert server_credentials(ServerConfig()) is None


def test_client_that_trusts_the_authority_is_served(authority: Authority) -> None:
    with _serving(_config(*authority.issue())) as address:
        assert _check(address, authority) == _SERVING


def test_client_that_trusts_another_authority_does_not_connect(
    authority: Authority, new_authority: Callable[[], Authority]
) -> None:
    with (
        _serving(_config(*authority.issue())) as address,
        pytest.raises(grpc.RpcError, match="UNAVAILABLE"),
    ):
        _check(address, new_authority())


def test_mutual_tls_takes_only_clients_of_the_authority(
    authority: Authority, new_authority: Callable[[], Authority]
) -> None:
    config = _config(*authority.issue(), tls_client_ca=authority.certificate)

    with _serving(config) as address:
        assert _check(address, authority, authority.issue("camera")) == _SERVING
        for pair in (None, new_authority().issue("stranger")):
            with pytest.raises(grpc.RpcError, match="UNAVAILABLE"):
                _check(address, authority, pair)


def test_changed_certificate_is_shown_to_the_next_connection(authority: Authority) -> None:
    certificate, key = authority.issue(file="server")

    with _serving(_config(certificate, key)) as address:
        before = _subject(address)
        authority.issue(file="server")
        after = _subject(address)

        assert before != after == ssl.PEM_cert_to_DER_cert(certificate.read_text())
        assert _check(address, authority) == _SERVING


def test_connection_outlives_the_certificate_it_began_with(authority: Authority) -> None:
    certificate, key = authority.issue(file="server")
    credentials = grpc.ssl_channel_credentials(authority.certificate.read_bytes())

    with (
        _serving(_config(certificate, key)) as address,
        grpc.secure_channel(address, credentials) as channel,
    ):
        stub: Any = health_pb2_grpc.HealthStub(channel)  # its types lack the methods
        watch = stub.Watch(health_pb2.HealthCheckRequest())
        assert next(watch).status == _SERVING
        authority.issue(file="server")
        _subject(address)

        assert stub.Check(health_pb2.HealthCheckRequest()).status == _SERVING
        watch.cancel()


def test_changed_client_authority_shuts_old_clients_out(
    authority: Authority, new_authority: Callable[[], Authority]
) -> None:
    authorities, successor = authority.folder / "clients.crt", new_authority()
    shutil.copy(authority.certificate, authorities)
    old, new = authority.issue("camera"), successor.issue("camera")

    with _serving(_config(*authority.issue(), tls_client_ca=authorities)) as address:
        assert _check(address, authority, old) == _SERVING
        shutil.copy(successor.certificate, authorities)

        assert _check(address, authority, new) == _SERVING
        with pytest.raises(grpc.RpcError, match="UNAVAILABLE"):
            _check(address, authority, old)


@pytest.mark.parametrize("broken", ["key of another", "no PEM", "gone"])
def test_broken_new_pair_keeps_the_old_and_is_logged_once(
    authority: Authority, broken: str, caplog: pytest.LogCaptureFixture
) -> None:
    certificate, key = authority.issue(file="server")
    good = key.read_bytes()

    with _serving(_config(certificate, key)) as address:
        before = _subject(address)
        if broken == "gone":
            key.unlink()
        else:
            key.write_bytes(
                authority.issue("other")[1].read_bytes() if broken == "key of another" else b"x"
            )

        assert _subject(address) == _subject(address) == before
        assert [record.levelno for record in caplog.records] == [logging.ERROR]
        assert str(key) in caplog.text

        key.write_bytes(good)
        assert _check(address, authority) == _SERVING


def test_expired_certificate_is_a_warning(
    authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    certificate, key = authority.issue(days=-3)

    server_credentials(_config(certificate, key))

    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert f"path={certificate}" in caplog.text


def test_certificate_that_is_valid_into_the_next_century_is_no_warning(
    authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    server_credentials(_config(*authority.issue(days=40_000)))

    assert caplog.records == []


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("tls_certificate",), "--tls-certificate is given without --tls-key; add"),
        (("tls_key",), "--tls-key is given alone; add --tls-certificate"),
        (("tls_client_ca",), "--tls-client-ca is given, but .* add --tls-certificate"),
    ],
)
def test_half_a_configuration_names_what_is_missing(given: tuple[str, ...], said: str) -> None:
    with pytest.raises(ServerError, match=said):
        server_credentials(ServerConfig(**dict.fromkeys(given, Path("x.pem"))))


def _encrypted(key: Path) -> bytes:
    from cryptography.hazmat.primitives import serialization

    private = serialization.load_pem_private_key(key.read_bytes(), None)
    return private.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"passphrase"),
    )


@pytest.mark.parametrize(
    ("file", "make", "said"),
    [
        ("server.key", None, "--tls-key .*server.key: No such file"),
        ("server.crt", None, "--tls-certificate .*server.crt: No such file"),
        ("server.key", lambda it: it.issue("b")[1].read_bytes(), "does not belong to .*server.crt"),
        ("server.key", lambda it: it.certificate.read_bytes(), "holds no -----BEGIN PRIVATE KEY"),
        ("server.key", lambda it: _encrypted(it.folder / "server.key"), "is encrypted; give one"),
        ("server.crt", lambda _: b"\x30\x82", "holds no -----BEGIN CERTIFICATE"),
        (
            "server.crt",
            lambda _: b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            "server.crt and --tls-key .*; check them with",
        ),
        ("ca.crt", None, "--tls-client-ca .*ca.crt: No such file"),
        ("ca.crt", lambda _: b"-----BEGIN CERTIFICATE-----\nAA", "--tls-client-ca .*; check it"),
    ],
)
def test_wrong_file_is_named_with_its_remedy(
    authority: Authority, file: str, make: Callable[[Authority], bytes] | None, said: str
) -> None:
    config = _config(*authority.issue(file="server"), tls_client_ca=authority.certificate)
    if make is None:
        (authority.folder / file).unlink()
    else:
        (authority.folder / file).write_bytes(make(authority))

    with pytest.raises(ServerError, match=said):
        server_credentials(config)
