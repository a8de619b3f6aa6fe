"""How a client knows its server, and is known to it: TLS and tokens."""

import ipaddress
import os
import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import grpc

from facegen.client.errors import FileError, TokenError

__all__ = ["Tls", "call_metadata", "channel_credentials", "is_local"]

File = str | os.PathLike[str]

_SCHEME = re.compile(r"^(dns:(///)?|ipv4:|ipv6:)")
_UNIX = ("unix:", "unix-abstract:")


@dataclass(frozen=True, slots=True)
class Tls:
    """TLS, with files in PEM; as it is, with the authorities that gRPC brings.

    Attributes:
        ca: The file of the authorities to trust, or of the server's own certificate; None: those
            that gRPC brings, or GRPC_DEFAULT_SSL_ROOTS_FILE_PATH names.
        certificate: For mutual TLS, the file of this client's certificate chain.
        key: The file of its private key.
        server_name: The name that the server's certificate bears, if it is not in the address.
    """

    ca: File | None = None
    certificate: File | None = None
    key: File | None = None
    server_name: str = ""


def channel_credentials(
    credentials: Tls | grpc.ChannelCredentials | None,
) -> grpc.ChannelCredentials | None:
    """Give gRPC's own credentials.

    Raises:
        FileError: A file cannot be read, or one of certificate and key is missing.
    """
    if not isinstance(credentials, Tls):
        return credentials
    for one, other in (("certificate", "key"), ("key", "certificate")):
        path = getattr(credentials, one)
        if path is not None and getattr(credentials, other) is None:
            raise FileError(
                path, problem=f"is the {one} of a client without its {other}; give both"
            )
    return grpc.ssl_channel_credentials(
        _read(credentials.ca, "CERTIFICATE"),
        _read(credentials.key, "PRIVATE KEY"),
        _read(credentials.certificate, "CERTIFICATE"),
    )


def call_metadata(
    token: str, *, address: str, secure: bool, insecure_token: bool
) -> tuple[tuple[str, str], ...]:
    """Give what goes with every call.

    Args:
        token: The bearer token; empty: none.
        address: The server's address.
        secure: Whether the connection is encrypted.
        insecure_token: Whether the token may leave this machine all the same.

    Raises:
        TokenError: It would, and may not; or it is no token.
    """
    token = token.strip()
    if not token:
        return ()
    if not (token.isascii() and token.isprintable() and " " not in token):
        raise TokenError("the token has characters that no token has", "give it as it was made")
    if not (secure or insecure_token or is_local(address)):
        raise TokenError(
            f"the token would travel to {address} for everybody on the way to read",
            "use TLS (--tls, Client(credentials=Tls())), or where something else encrypts the "
            "connection, --insecure-token (Client(insecure_token=True))",
        )
    return (("authorization", f"Bearer {token}"),)


def is_local(address: str) -> bool:
    """Tell whether an address is surely of this machine: loopback, or a Unix socket."""
    if address.startswith(_UNIX):
        return True
    if "," in address:  # a list of addresses
        return False
    place = _SCHEME.sub("", address)
    try:
        host = urlsplit(f"//{place}").hostname or ""
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _read(path: File | None, kind: str) -> bytes | None:
    if path is None:
        return None
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise FileError(path, problem=error.strerror or str(error)) from error
    if f"{kind}-----".encode() not in content:
        raise FileError(path, problem=f"holds no {kind} in PEM")
    return content
