"""Who is at the other end of a connection."""

import ipaddress
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Protocol
from urllib.parse import unquote

__all__ = ["Peer", "certificate_name", "host_of", "is_loopback"]

_NAMES = ("x509_common_name", "x509_subject_alternative_name")


class Peer(Protocol):
    """The other end of a call's connection; gRPC's `ServicerContext` is one."""

    def peer(self) -> str:
        """Give its address and port, for example `ipv4:127.0.0.1:40000`."""
        ...

    def auth_context(self) -> Mapping[str, Iterable[bytes]]:
        """Give what its certificate says of it, by gRPC's names."""
        ...


def certificate_name(peer: Peer) -> str:
    """Give the common name of a peer's verified certificate, else its first alternative name."""
    facts = peer.auth_context()
    for name in _NAMES:
        for value in facts.get(name, ()):
            return value.decode("utf-8", "replace")
    return ""


@lru_cache(maxsize=4096)
def host_of(peer: str) -> str:
    """Give the address of a peer, without its port.

    Args:
        peer: As gRPC gives it: `ipv4:…`, `ipv6:…` or `unix:…`.

    Returns:
        Its IP address; of IPv6 the network of 64 bits, which is what one subscriber gets; `unix`
        for everybody on a Unix socket.
    """
    kind, _, place = unquote(peer).partition(":")
    if kind not in ("ipv4", "ipv6"):
        return kind
    host = place.rpartition(":")[0].strip("[]").partition("%")[0]
    if kind == "ipv4":
        return host
    address = ipaddress.IPv6Address(host)
    if address.ipv4_mapped:
        return str(address.ipv4_mapped)
    return str(ipaddress.IPv6Network((address, 64), strict=False))


def is_loopback(address: str) -> bool:
    """Tell whether only this machine reaches an address that a server listens on."""
    if address.startswith("unix"):
        return True
    host = address.rpartition(":")[0].strip("[]")
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
