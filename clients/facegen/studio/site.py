"""Where the page is served, and whether it is."""

import http.client
import socket
import ssl
from dataclasses import dataclass
from pathlib import Path

from facegen.studio.errors import StudioError

__all__ = ["HEALTH", "Site"]

HEALTH = "/healthz"

_EVERYWHERE = ("", "0.0.0.0", "::")
_ANSWER_S = 3.0


@dataclass(frozen=True, slots=True)
class Site:
    """Where and how the page is served.

    Attributes:
        host: The address to listen at.
        port: Its port; 0: a free one.
        certificate: For https, the file of the certificate chain (PEM); None: plain http.
        key: The file of its private key.
    """

    host: str
    port: int
    certificate: Path | None = None
    key: Path | None = None

    @classmethod
    def at(cls, address: str, certificate: Path | None, key: Path | None) -> "Site":
        """Make one of a command's options.

        Raises:
            StudioError: They are not the address of a site.
        """
        host, colon, port = address.rpartition(":")
        if not colon or not port.isdecimal() or int(port) > 65535:
            raise StudioError(f"{address!r} is not HOST:PORT", "give for example 127.0.0.1:7860")
        if (certificate is None) != (key is None):
            raise StudioError(
                "https needs a certificate and its key",
                "give both --page-certificate and --page-key",
            )
        return cls(host.strip("[]"), int(port), certificate, key)

    def listen(self) -> socket.socket:
        """Take the address.

        Raises:
            StudioError: It is not to be had, or the certificate cannot be used.
        """
        self._check_certificate()
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        try:
            return socket.create_server((self.host, self.port), family=family, backlog=128)
        except OSError as error:
            raise StudioError(
                f"cannot listen at {self.host}:{self.port}: {error.strerror or error}",
                "give --address a HOST:PORT of this machine that nobody listens at",
            ) from error

    def url(self, port: int) -> str:
        """Give the page's address for this machine's browser.

        Args:
            port: The port that was taken.
        """
        host = self._reachable
        scheme = "https" if self.certificate else "http"
        return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}/"

    def answers(self) -> bool:
        """Tell whether a studio answers here; the name in its certificate does not matter."""
        connection: http.client.HTTPConnection
        if self.certificate:
            anybody = ssl.create_default_context()
            anybody.check_hostname, anybody.verify_mode = False, ssl.CERT_NONE
            connection = http.client.HTTPSConnection(
                self._reachable, self.port, timeout=_ANSWER_S, context=anybody
            )
        else:
            connection = http.client.HTTPConnection(self._reachable, self.port, timeout=_ANSWER_S)
        try:
            connection.request("GET", HEALTH)
            return connection.getresponse().status == http.client.OK
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    @property
    def _reachable(self) -> str:
        return "localhost" if self.host in _EVERYWHERE else self.host

    def _check_certificate(self) -> None:
        if self.certificate is None:
            return
        try:
            context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            context.load_cert_chain(self.certificate, self.key)
        except OSError as error:
            raise StudioError(
                f"{self.certificate}, {self.key}: {error.strerror or error}",
                "give a certificate and its private key in PEM",
            ) from error
