"""TLS: the server's certificate, read again when it changes, and the clients' authorities."""

import logging
import re
import ssl
import threading
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import grpc

from facegen.serving.config import ServerConfig
from facegen.serving.errors import ServerError
from facegen.serving.security.files import FileStamp, file_stamp

__all__ = ["certificate_expiry", "server_credentials"]

_LOGGER = logging.getLogger(__name__)

_PEM_CERTIFICATE = re.compile("-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
# RFC 5280, 4.1.2.5: a sequence of two times, the second of which is when a certificate expires.
_VALIDITY = re.compile(
    rb"\x30[\x1e\x20\x22](?:\x17\x0d\d{12}|\x18\x0f\d{14})Z(?:\x17\x0d(\d{12})|\x18\x0f(\d{14}))Z"
)


def server_credentials(config: ServerConfig) -> grpc.ServerCredentials | None:
    """Give what secures the server's port; None: nothing, as configured.

    The files are looked at for every new connection, and read again when they have changed. What
    is then broken leaves the ones before in use, and is logged.

    Raises:
        ServerError: A file is missing or wrong, or the options contradict each other.
    """
    files = _files(config)
    if files is None:
        return None
    renewal = _Renewal(files)
    return grpc.dynamic_ssl_server_credentials(
        renewal.current,
        renewal,  # type: ignore[arg-type]  # its type lacks the None that gRPC takes for no change
        require_client_authentication=files.client_ca is not None,
    )


@dataclass(frozen=True, slots=True)
class _Files:
    """The PEM files of a server."""

    certificate: Path
    key: Path
    client_ca: Path | None

    def stamps(self) -> tuple[FileStamp, ...]:
        paths = (self.certificate, self.key, self.client_ca)
        return tuple(file_stamp(path) for path in paths if path is not None)

    def read(self) -> grpc.ServerCertificateConfiguration:
        """Read and check them all.

        Raises:
            ServerError: A file is missing, or they are not right.
        """
        certificate = _read(self.certificate, "--tls-certificate", holds="CERTIFICATE-----")
        key = _read(self.key, "--tls-key", holds="PRIVATE KEY-----")
        self._check_pair(key)
        _warn_if_expired(self.certificate, certificate)
        authorities = None
        if self.client_ca is not None:
            authorities = _read(self.client_ca, "--tls-client-ca", holds="CERTIFICATE-----")
            _check_authorities(self.client_ca, authorities)
        return grpc.ssl_server_certificate_configuration([(key, certificate)], authorities)

    def _check_pair(self, key: bytes) -> None:
        if b"ENCRYPTED" in key:
            raise ServerError(
                f"--tls-key {self.key}: is encrypted",
                "give one without a passphrase (`openssl pkey -in FILE`), readable by this user",
            )
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(self.certificate, self.key)
        except OSError as error:  # an SSLError is one
            if isinstance(error, ssl.SSLError) and error.reason == "KEY_VALUES_MISMATCH":
                raise ServerError(
                    f"--tls-key {self.key}: does not belong to the first certificate of "
                    f"{self.certificate}",
                    "give the key that the certificate was made with, and the server's own "
                    "certificate before its authorities'",
                ) from error
            raise ServerError(
                f"--tls-certificate {self.certificate} and --tls-key {self.key}: {error}",
                "check them with `openssl x509 -in FILE` and `openssl pkey -in FILE`",
            ) from error


class _Renewal:
    """Gives gRPC the files anew when they have changed; called for every new connection."""

    def __init__(self, files: _Files) -> None:
        self._files = files
        self._lock = threading.Lock()
        self._stamps = files.stamps()
        self.current = files.read()

    def __call__(self) -> grpc.ServerCertificateConfiguration | None:
        with self._lock:
            stamps = self._files.stamps()
            if stamps == self._stamps:
                return None
            self._stamps = stamps
            try:
                self.current = self._files.read()
            except ServerError as error:
                _LOGGER.error("certificate not read, the one before stays error=%s", error)
                return None
        _LOGGER.info("certificate read path=%s", self._files.certificate)
        return self.current


def _files(config: ServerConfig) -> _Files | None:
    if config.tls_certificate is None and config.tls_key is None:
        if config.tls_client_ca is not None:
            raise ServerError(
                "--tls-client-ca is given, but the server has no certificate of its own",
                "add --tls-certificate and --tls-key",
            )
        return None
    if config.tls_key is None:
        raise ServerError("--tls-certificate is given without --tls-key", "add --tls-key FILE")
    if config.tls_certificate is None:
        raise ServerError("--tls-key is given alone", "add --tls-certificate FILE")
    return _Files(config.tls_certificate, config.tls_key, config.tls_client_ca)


def _read(path: Path, flag: str, *, holds: str) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ServerError(
            f"{flag} {path}: {error.strerror}", "give a PEM file that this user may read"
        ) from error
    if holds.encode() not in content:
        raise ServerError(
            f"{flag} {path}: holds no -----BEGIN {holds}", "give the file in PEM, not in DER"
        )
    return content


def _check_authorities(path: Path, authorities: bytes) -> None:
    try:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_verify_locations(cadata=authorities.decode("ascii"))
    except (ssl.SSLError, UnicodeDecodeError) as error:
        raise ServerError(
            f"--tls-client-ca {path}: {error}", "check it with `openssl x509 -in FILE`"
        ) from error


def _warn_if_expired(path: Path, certificate: bytes) -> None:
    expires = certificate_expiry(certificate)
    if expires is not None and expires <= datetime.now(UTC):
        _LOGGER.warning("certificate has expired path=%s at=%s", path, expires.isoformat())


def certificate_expiry(certificate: bytes) -> datetime | None:
    """Tell when the first certificate of a PEM file expires, which `ssl` keeps to itself."""
    pem = _PEM_CERTIFICATE.search(certificate.decode("ascii", "replace"))
    validity = pem and _VALIDITY.search(ssl.PEM_cert_to_DER_cert(pem[0]))
    if not validity:
        return None
    short, long = validity.groups()
    if short:
        return datetime.strptime(f"{short.decode()}+0000", "%y%m%d%H%M%S%z")
    return datetime.strptime(f"{long.decode()}+0000", "%Y%m%d%H%M%S%z")
